#!/usr/bin/env bash
# Every C++ file is formatted as .clang-format says. `tests/checks/format.sh --fix` does it.
set -euo pipefail
cd "$(dirname "$0")/../.."
mapfile -t files < <(find core slices config server cli deploy tests -name '*.h' -o -name '*.cc')
[ ${#files[@]} -gt 20 ] || { echo "found only ${#files[@]} files to check" >&2; exit 1; }
if [ "${1:-}" = --fix ]; then
  clang-format-14 -i "${files[@]}"
else
  clang-format-14 --dry-run -Werror "${files[@]}"
fi
