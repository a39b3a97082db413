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
