#!/usr/bin/env bash
# Benchmarks on the real programs, one JSON object a line (tests/bench/figure.h):
#   tests/bench/run.sh NAME [BUILD_DIRECTORY] [OPTION…]
#   tests/bench/run.sh core      the core's four: ingest, merkle, scan and restart
#   tests/bench/run.sh --help    lists them all; NAME --help lists one's options
# Redis, PostgreSQL and db_bench come from deploy/install-deps.sh --with-bench.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# != 0 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
name=$1 build=build/release
shift
case "${1:--}" in */*) build=$1; shift ;; esac
[ -x "$build/bin/icepie-bench" ] ||
  { echo "tests/bench/run.sh: $build has no icepie-bench: run tests/run.sh first" >&2; exit 1; }
ICEPIE_BIN=$build/bin exec "$build/bin/icepie-bench" "$name" "$@"
