#!/usr/bin/env bash
# Installs what is missing, builds everything and runs the whole suite. Options go to ctest:
# tests/run.sh -L unit, tests/run.sh -R engine.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${ICEPIE_PRESET:-release}
step() { printf '== %s (%d s)\n' "$1" "$SECONDS"; }

step "install"
deploy/install-deps.sh --with-tests
step "configure"
cmake --preset "$preset" -D ICEPIE_TESTS=ON --log-level=NOTICE
step "build"
cmake --build --preset "$preset"
step "test"
# One more than processors: clang-tidy takes what the others leave.
ctest --preset "$preset" -j "$(($(nproc) + 1))" "$@"
step "done"
