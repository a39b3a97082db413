#!/bin/sh
# Links a program with the static form of every library that lies beside its shared one:
#   link_statically.sh COMPILER ARGUMENT…      (as RULE_LAUNCH_LINK of a target)
# A worker of sixty shared libraries spends half of its start in the dynamic linker, and somebody
# waits for that start after a death and when a domain wakes: 21 ms of a processor, 10 ms with this.
count=$#
for argument in "$@"; do
  case $argument in
    /*.so | /*.so.[0-9]*)
      archive="${argument%%.so*}.a"
      if [ -f "$archive" ]; then argument="$archive"; fi ;;
  esac
  set -- "$@" "$argument"
done
shift "$count"
compiler=$1
shift
# Archives need one another in no particular order.
exec "$compiler" -Wl,--start-group "$@" -Wl,--end-group
