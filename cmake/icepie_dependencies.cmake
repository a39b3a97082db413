# Everything that is not ours, found in one place. deploy/install-deps.sh installs all of it.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC CONFIG REQUIRED)
find_package(RocksDB CONFIG REQUIRED)
find_package(spdlog CONFIG REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(simdjson CONFIG REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 CONFIG REQUIRED)
find_package(nlohmann_json CONFIG REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_library(ICEPIE_ZSTD_LIBRARY zstd REQUIRED)
find_library(ICEPIE_XXHASH_LIBRARY xxhash REQUIRED)

# DuckDB: a system install when there is one, else the files that deploy/install-deps.sh unpacked.
set(ICEPIE_DEPS_DIR "/usr/local/lib/icepie" CACHE PATH "Where deploy/install-deps.sh puts DuckDB")
file(GLOB ICEPIE_DUCKDB_HINTS LIST_DIRECTORIES true "${ICEPIE_DEPS_DIR}/duckdb-*")
list(SORT ICEPIE_DUCKDB_HINTS COMPARE NATURAL ORDER DESCENDING)
find_path(ICEPIE_DUCKDB_INCLUDE duckdb.h HINTS ${ICEPIE_DUCKDB_HINTS} REQUIRED)
find_library(ICEPIE_DUCKDB_LIBRARY duckdb HINTS ${ICEPIE_DUCKDB_HINTS} REQUIRED)
add_library(icepie_duckdb_import SHARED IMPORTED)
set_target_properties(icepie_duckdb_import PROPERTIES
  IMPORTED_LOCATION ${ICEPIE_DUCKDB_LIBRARY}
  IMPORTED_NO_SONAME ON
  INTERFACE_INCLUDE_DIRECTORIES ${ICEPIE_DUCKDB_INCLUDE})
