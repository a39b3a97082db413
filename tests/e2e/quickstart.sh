#!/usr/bin/env bash
# The quickstart on the programs that were just built, twice: the second run imports nothing, plays
# no story, uses the daemon of the first, and every answer still equals DuckDB's.
set -euo pipefail
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
data=$(mktemp -d)
cleanup() {
  local pid
  pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$data/icepied.json" 2>/dev/null || true)
  [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
  rm -rf "$data"
}
trap cleanup EXIT
run() { "$source_dir/deploy/quickstart.sh" --build "$ICEPIE_BIN" --data "$data" --ports 0,0 "$@"; }

run | tee "$data/first.txt"
run --stop-after | tee "$data/second.txt"
expect() { grep -q "$1" "$data/$2" || { echo "quickstart.sh: no '$1' in $2" >&2; exit 1; }; }
expect 'every check held' first.txt
expect 'icepied runs already' second.txt
[ "$(grep -c 'nothing to do' "$data/second.txt")" = 2 ]
expect 'played before' second.txt
expect 'every check held' second.txt
[ ! -e "$data/icepied.json" ] || { echo "quickstart.sh: --stop-after left the daemon" >&2; exit 1; }
