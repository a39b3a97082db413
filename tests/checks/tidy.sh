#!/usr/bin/env bash
# clang-tidy over our own sources as they were compiled, in groups where the build groups them, fatal:
# tests/checks/tidy.sh BUILD_DIRECTORY FOLDER...
# It runs in the scheduler's idle class: tests beside it, which wait most of their time, keep theirs.
set -euo pipefail
build=$1
shift
cd "$(dirname "$0")/../.."
folders=$(IFS='|'; echo "$*")
mapfile -t files < <(grep -oE '"file": *"[^"]+"' "$build/compile_commands.json" | cut -d'"' -f4 |
  grep -E "^$PWD/($folders)/|^$build/($folders)/" | grep -v /fuzz/ | sort -u)
[ ${#files[@]} -gt 0 ] || { echo "no files of $* in $build/compile_commands.json" >&2; exit 1; }
printf '%s\0' "${files[@]}" |
  chrt --idle 0 xargs -0 -n 1 -P "${ICEPIE_TIDY_JOBS:-2}" clang-tidy-14 --quiet -p "$build"
