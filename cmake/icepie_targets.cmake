# How our own targets are declared, so that warnings and sanitizers are the same everywhere.

set(ICEPIE_SANITIZE "" CACHE STRING "Sanitizers to build with, e.g. address,undefined or thread")

add_library(icepie_flags INTERFACE)
target_include_directories(icepie_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(icepie_flags INTERFACE -fno-omit-frame-pointer)
if(ICEPIE_SANITIZE)
  target_compile_options(icepie_flags INTERFACE -fsanitize=${ICEPIE_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(icepie_flags INTERFACE -fsanitize=${ICEPIE_SANITIZE})
endif()

# Warnings are for our own code, not for generated code.
add_library(icepie_warnings INTERFACE)
target_compile_options(icepie_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Werror
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)

# Headers of others that are read once for a whole target: half of the time a file takes. None is of
# ours, so that no change of ours builds everything again. CMAKE_DISABLE_PRECOMPILE_HEADERS=ON builds
# without, as suits a compiler cache; clang-tidy then says which file forgot an #include.
set(ICEPIE_BASE_HEADERS
  <algorithm> <atomic> <cstdint> <deque> <filesystem> <functional> <future> <map> <memory> <optional>
  <set> <string> <thread> <utility> <vector> <absl/status/statusor.h> <absl/strings/str_cat.h>
  <absl/strings/str_join.h> <absl/time/clock.h>)
set(ICEPIE_RPC_HEADERS
  ${ICEPIE_BASE_HEADERS} <grpcpp/grpcpp.h> <icepie/v1/admin.grpc.pb.h> <icepie/v1/core.grpc.pb.h>
  <icepie/v1/slices.grpc.pb.h> <icepie/worker/v1/worker.grpc.pb.h>)

# icepie_library(NAME SOURCES a.cc ... LINK lib ...)
function(icepie_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC icepie_flags ${ARG_LINK} PRIVATE icepie_warnings)
endfunction()

# icepie_program(NAME SOURCES a.cc ... LINK lib ...)
function(icepie_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE icepie_flags icepie_warnings ${ARG_LINK})
endfunction()
