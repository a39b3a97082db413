#!/usr/bin/env bash
# What the README says of the tree is true: every path in its folder map exists, every top-level
# folder is in it; what tests/fault/README.md names as tests of faults and bugs is one; and no file of
# ours is called utils, helpers or common.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
complain() { echo "$*"; failed=1; }

map=$(sed -n '/^## The tree$/,/^## /p' README.md)
[ -n "$map" ] || complain "README.md has no section 'The tree'"
while read -r path; do
  [ -e "$path" ] || complain "README.md names $path, which does not exist"
done < <(printf '%s\n' "$map" | grep -oE '`[a-z_]+/[A-Za-z0-9_./-]*`' | tr -d '`' | sort -u)
for folder in */; do
  folder=${folder%/}
  # No pipe into grep -q: it leaves early, and under pipefail the writer's SIGPIPE is a failure.
  [ "$folder" = build ] || [ "$folder" = data ] || [[ $map == *"\`$folder/"* ]] ||
    complain "README.md's tree does not name $folder/"
done
for folder in core/*/ slices/*/ server/*/; do
  [[ $map == *"\`$folder\`"* ]] || complain "README.md's tree does not name $folder"
done
# The suites, names and Suite.Names of all tests, a line each.
tests=$(find tests -name '*_test.cc' -exec cat {} + | tr '\n' ' ' |
  grep -oE 'TEST(_F|_P)?\( *[A-Za-z0-9]+, *[A-Za-z0-9]+\)' |
  sed -E 's/.*\( *([A-Za-z0-9]+), *([A-Za-z0-9]+)\)/\1\n\2\n\1.\2/' | sort -u)
while read -r name; do
  [[ $'\n'$tests$'\n' == *$'\n'"$name"$'\n'* ]] ||
    complain "tests/fault/README.md names $name, which is no test"
done < <(grep '^|' tests/fault/README.md | grep -oE '`[A-Z][A-Za-z0-9]+[a-z][A-Za-z0-9]*(\.[A-Z][A-Za-z0-9]+)?`' |
  tr -d '`' | sort -u)

while read -r file; do
  complain "$file: name it by what it does"
done < <(find core slices config server cli deploy tests -regextype posix-extended \
  -regex '.*/(utils?|helpers?|common)\.(h|cc)')
for script in $(find deploy tests .ci -type f -name '*.sh') .ci/run; do
  bash -n "$script" || complain "$script: not a bash script"
done
exit $failed
