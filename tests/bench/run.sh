#!/usr/bin/env bash
# Benchmarks on the real programs, one JSON object a line: tests/bench/run.sh NAME [BUILD_DIRECTORY] [OPTION…]
#   visible   append, append until visible, a query: one client, one record at a time
#   freshness how soon a record is seen at 1,000, 10,000 and 50,000 records/s with 1, 5 and 50 slices;
#             --seconds, --rates, --slices
#   ingest    durable appends beside the disk, an echo, db_bench, Redis and PostgreSQL (the last three
#             from deploy/install-deps.sh --with-bench); --seconds, --rounds, --no-peers, --only PREFIX
#   scan      reading records back, from the log and from segments; [RECORDS], 2,000,000 without it
#   follow    1, 16 and 64 followers at the head: records delivered, what each costs the daemon
#   slices    slices in the live engine: Nexmark queries and wallet clustering; PostgreSQL, by triggers and
#             by REFRESH MATERIALIZED VIEW, as the peer; --events, --edges, --only QUERY, --no-peers
#   reslice   building a slice anew beside DuckDB's read_json; --records, --rounds
#   failover  kill -9 of live workers under load: failed reads, how soon the standby answers, how soon
#             all is fresh again; PostgreSQL as the peer; --kills, --rows, --no-peers
#   neighbour a domain's reads and appends beside a noisy domain; --seconds, --rounds, --noise KIND
#   merkle    what the Merkle tree costs: durable batches of 1,000 records with it and without
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:-} build=build/release
[ $# = 0 ] || shift
case "${1:--}" in -*|[0-9]*) ;; *) build=$1; shift ;; esac
case "$name" in
  visible|freshness|merkle|ingest|scan|slices|reslice|follow|failover|neighbour) ;;
  *) sed -n '2,17s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ -x "$build/bin/icepie-bench-$name" ] ||
  { echo "tests/bench/run.sh: $build has no icepie-bench-$name: run tests/run.sh first" >&2; exit 1; }
ICEPIE_BIN=$build/bin exec "$build/bin/icepie-bench-$name" "$@"
