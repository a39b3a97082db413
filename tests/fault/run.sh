#!/usr/bin/env bash
# Faults of all kinds on the real processes under load, and a check of every promise (README.md here):
#   tests/fault/run.sh [BUILD_DIRECTORY] [--faults N] [--seed S] [--seconds T] [--only KIND]… [--keep]
# The last line is one JSON object; exit 1 when a promise was broken.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/release
case "${1:--}" in -*) ;; *) build=$1; shift ;; esac
[ -x "$build/bin/icepie-fault" ] ||
  { echo "tests/fault/run.sh: $build has no icepie-fault: run tests/run.sh first" >&2; exit 1; }
ICEPIE_BIN=$build/bin exec "$build/bin/icepie-fault" "$@"
