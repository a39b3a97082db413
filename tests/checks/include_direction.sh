#!/usr/bin/env bash
# Who may include whom (the arrows of STYLE.md): base ← core ← slices ← server, cli; config beside.
# Prints each breach as file:line and fails if there is any.
set -euo pipefail
cd "$(dirname "$0")/../.."
breaches=0

# forbid FOLDER-OR-FILES REGEX REASON
forbid() {
  local where=$1 pattern=$2 reason=$3 found
  # shellcheck disable=SC2086
  found=$(grep -rnE --include='*.h' --include='*.cc' "^#include +$pattern" $where || true)
  [ -z "$found" ] && return
  printf '%s\n' "$found" | sed "s|\$|   <- $reason|"
  breaches=$((breaches + 1))
}

grpc_or_proto='([<"]grpc|".*\.pb\.h")'
forbid core/base '"(core/([^b]|b[^a])|slices/|config/|server/|cli/|deploy/)' "core/base knows nothing of ours"
forbid core '"(slices|config|server|cli|deploy)/' "core includes only core"
forbid core "$grpc_or_proto" "core knows neither gRPC nor generated messages"
forbid slices '"(config|server|cli|deploy)/' "slices includes only core and slices"
forbid slices "$grpc_or_proto" "slices knows neither gRPC nor generated messages"
forbid config '"(core/([^b]|b[^a])|slices/|server/|cli/|deploy/)' "config includes only messages and base"
forbid server '"(cli|deploy)/' "server does not know its clients"
forbid 'slices config server cli deploy' '[<"]rocksdb/' "only core opens RocksDB"
forbid 'core config server cli deploy tests' '<duckdb\.h>' "slices/duckdb/duckdb.h wraps DuckDB's C API"

# Inside a folder the wrapped library is included by one file for each role.
one_file() {
  local pattern=$1 folder=$2 most=$3 files
  files=$(grep -rlE --include='*.h' --include='*.cc' "^#include +$pattern" "$folder" |
    sed -E 's/\.(h|cc)$//' | sort -u)
  [ "$(printf '%s\n' "$files" | grep -c .)" -le "$most" ] && return
  printf '%s includes %s in more than %s places:\n%s\n' "$folder" "$pattern" "$most" "$files"
  breaches=$((breaches + 1))
}
one_file '[<"]rocksdb/' core 4
one_file '<duckdb\.h>' slices 1

# The check itself must see something: these arrows exist.
grep -rqE '^#include "core/' slices && grep -rqE '^#include "core/' server ||
  { echo "the check finds no includes at all" >&2; exit 1; }
[ "$breaches" = 0 ]
