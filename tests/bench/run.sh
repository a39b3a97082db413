#!/usr/bin/env bash
# Benchmarks on the real programs, one JSON object a line: tests/bench/run.sh NAME [BUILD_DIRECTORY]
#   visible   append, append until visible, a query: one client, one record at a time
#   merkle    what the Merkle tree costs: durable batches of 1,000 records with it and without
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:-} build=${2:-build/release}
case "$name" in
  visible|merkle) ;;
  *) sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ -x "$build/bin/icepie-bench-$name" ] ||
  { echo "tests/bench/run.sh: $build has no icepie-bench-$name: run tests/run.sh first" >&2; exit 1; }
ICEPIE_BIN=$build/bin exec "$build/bin/icepie-bench-$name"
