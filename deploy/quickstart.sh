#!/usr/bin/env bash
# From a fresh Debian 12 machine to answers: installs, builds, starts icepied, imports 3,000,000
# flights, cuts three domains out of them, compares every answer with DuckDB, and plays the story of
# a slice that goes wrong. Run it again whenever you like: it imports nothing twice, reuses a running
# daemon and goes on where it stopped.
#
#   deploy/quickstart.sh [--stop-after] [--fresh] [--data DIR] [--build DIR] [--ports GRPC,HTTP]
#
#   --stop-after   stop the daemon at the end
#   --fresh        stop a running quickstart daemon, remove its data first
#   --data DIR     everything that the quickstart makes besides the build (default: data/quickstart
#                  here, or /var/lib/icepie as root, where the daemon runs as the user icepie)
#   --build DIR    use the programs in DIR instead of building
#   --ports G,H    gRPC and HTTP ports on loopback (default 7420,7421; 0,0 picks free ones)
#
# Exit 0 only if every check held.
set -euo pipefail
cd "$(dirname "$0")/.."
source_dir=$PWD

stop_after=0 fresh=0 data='' build='' ports=7420,7421
usage() { sed -n '2,18s/^# \{0,1\}//p' "$source_dir/deploy/quickstart.sh"; }
fail() { printf '\nquickstart: %s\n' "$*" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case "$1" in
    --stop-after) stop_after=1 ;;
    --fresh) fresh=1 ;;
    --data|--build|--ports)
      [ $# -ge 2 ] || fail "$1 needs a value (see --help)"
      printf -v "${1#--}" '%s' "$2"; shift ;;
    -h|--help) usage; exit 0 ;;
    *) fail "unknown argument '$1' (see --help)" ;;
  esac
  shift
done
[[ $ports =~ ^[0-9]+,[0-9]+$ ]] || fail "--ports '$ports': give two numbers, as in 7420,7421"
grpc_port=${ports%,*} http_port=${ports#*,}

as_root_user=0
[ "$(id -u)" = 0 ] && as_root_user=1
if [ -z "$data" ]; then
  if [ $as_root_user = 1 ]; then data=/var/lib/icepie; else data=$source_dir/data/quickstart; fi
fi

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' off=$'\e[0m'
else bold='' dim='' red='' off=''; fi
step_start=$SECONDS
step() { step_start=$SECONDS; printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
finished() { printf '%s  (%d s)%s\n' "$dim" $((SECONDS - step_start)) "$off"; }
# show COMMAND...: what a user would type, then its output.
show() { show_lines 200 "$@"; }
# show_lines N COMMAND...: the first N lines of it. Exit status 2 means "there are differences".
show_lines() {
  local lines=$1 status=0
  shift
  printf '%s  $ %s%s\n' "$dim" "$*" "$off"
  "$@" 2>&1 | awk -v n="$lines" 'NR <= n {print "  " $0} END {if (NR > n) print "  … " NR - n " more lines"}' || status=$?
  [ $status = 0 ] || [ $status = 2 ]
}
good() { printf '  ok    %s\n' "$*"; }
bad() { printf '  %sWRONG%s %s\n' "$red" "$off" "$*" >&2; exit 1; }

# ---------------------------------------------------------------------------------------------------
step "1/6 machine"
check_machine() {
  # shellcheck disable=SC1091
  local name; name=$(. /etc/os-release && echo "$ID $VERSION_ID")
  [ "$name" = "debian 12" ] || fail "this is $name; use a Debian 12 machine or container"
  case "$(uname -m)" in x86_64|aarch64) ;; *) fail "no DuckDB library for $(uname -m)" ;; esac
  [ $as_root_user = 1 ] || command -v sudo >/dev/null ||
    fail "not root and no sudo: packages cannot be installed; run it as root"
  local memory_mb disk_mb parent
  memory_mb=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo)
  [ "$memory_mb" -ge 2000 ] || fail "$memory_mb MB of memory are free; the compiler and the import need 2,000"
  parent=$data; while [ ! -d "$parent" ]; do parent=$(dirname "$parent"); done
  disk_mb=$(df -Pm "$parent" | awk 'NR == 2 {print $4}')
  [ "$disk_mb" -ge 3000 ] || fail "$disk_mb MB are free at $parent; 3,000 are needed (or give --data DIR)"
  local probe; probe=$(mktemp)
  printf '#!/bin/sh\n' >"$probe"; chmod +x "$probe"
  "$probe" 2>/dev/null || { rm -f "$probe"; fail "${TMPDIR:-/tmp} is mounted noexec: set TMPDIR to another directory"; }
  rm -f "$probe"
  printf '  %s, %s cores, %s MB free memory, %s MB free disk\n' "$name" "$(nproc)" "$memory_mb" "$disk_mb"
}
check_machine

# The running daemon's own words: {"pid":…,"grpc":"…","http":"…"}.
ready_file=$data/icepied.json
field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\)\"\{0,1\}.*/\1/p" "$ready_file"; }
daemon_runs() { [ -e "$ready_file" ] && kill -0 "$(field pid)" 2>/dev/null; }
stop_daemon() {
  daemon_runs || return 0
  local pid; pid=$(field pid)
  kill -TERM "$pid"
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}
port_is_taken() { [ "$1" != 0 ] && (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

if [ $fresh = 1 ]; then
  stop_daemon
  if [ -e "$data/core" ] || [ -e "$data/bin" ]; then
    rm -rf "${data:?}"/{core,domains,run,bin,work,log,icepied.json}
    printf '  removed what an earlier quickstart left in %s\n' "$data"
  fi
fi
if daemon_runs; then
  printf '  icepied runs already (pid %s), it is used\n' "$(field pid)"
else
  for port in "$grpc_port" "$http_port"; do
    ! port_is_taken "$port" ||
      fail "port $port on loopback is taken by another program: give --ports, as in --ports 7520,7521"
  done
fi
finished

# ---------------------------------------------------------------------------------------------------
step "2/6 install"
deploy/install-deps.sh | sed 's/^/  /'
deps=${ICEPIE_DEPS_DIR:-/usr/local/lib/icepie}
sample=$(echo "$deps"/vega-datasets-*)
finished

# ---------------------------------------------------------------------------------------------------
step "3/6 build"
programs=(icepied icepie-worker icepie icepie-flights-check)
if [ -z "$build" ]; then
  configured=$(cmake --preset release --log-level=ERROR 2>&1) || fail "cmake cannot configure: $configured"
  NINJA_STATUS='  [%f/%t] ' cmake --build --preset release --target "${programs[@]}" |
    if [ -t 1 ]; then cat; else awk 'NR % 25 == 0 || /error|FAILED/'; fi
  build=$source_dir/build/release/bin
fi
run_as=()
mkdir -p "$data"/{bin,work,log}
if [ $as_root_user = 1 ]; then
  # The daemon never runs as root: it gets a user of its own, which owns its directory.
  getent passwd icepie >/dev/null ||
    useradd --system --home-dir "$data" --no-create-home --shell /usr/sbin/nologin icepie
  chown icepie:icepie "$data" "$data/log"
  run_as=(setpriv --reuid icepie --regid icepie --init-groups --no-new-privs)
fi
if ! daemon_runs; then
  for program in "${programs[@]}"; do install -m 755 "$build/$program" "$data/bin/$program"; done
  install -m 644 config/icepie.yaml "$data/work/icepie.yaml"
fi
export PATH="$data/bin:$PATH"
finished

# ---------------------------------------------------------------------------------------------------
step "4/6 import 3,000,000 records"
if ! daemon_runs; then
  rm -f "$ready_file"
  "${run_as[@]}" "$data/bin/icepied" --config "$data/work/icepie.yaml" --data-directory "$data" \
    --listen-grpc "127.0.0.1:$grpc_port" --listen-http "127.0.0.1:$http_port" \
    </dev/null >>"$data/log/icepied.log" 2>&1 &
  daemon_pid=$!
  disown
  until [ -e "$ready_file" ]; do
    kill -0 "$daemon_pid" 2>/dev/null ||
      { tail -n 5 "$data/log/icepied.log" >&2; fail "icepied did not start; its log is $data/log/icepied.log"; }
    sleep 0.05
  done
fi
ICEPIE_ADDRESS=$(field grpc)
export ICEPIE_ADDRESS
http=$(field http)
printf '  icepied at %s (gRPC) and http://%s, data in %s\n' "$ICEPIE_ADDRESS" "$http" "$data"

icepie import airports "$sample/airports.csv" --create --resume 2>&1 | sed 's/^/  /'
icepie import flights "$sample/flights-3m.parquet" --create --resume
finished

# ---------------------------------------------------------------------------------------------------
# What the story has changed already, when this is a second run.
drifted=$data/work/drifted.jsonl
total_flights=3000000 drifted_flights=1200
end_offset() {
  icepie --json stream list | tr -d ' \n' |
    sed -n "s/.*\"name\":\"$1\",[^}]*\"end_offset\":\"\([0-9]*\)\".*/\1/p"
}
make_drifted() {
  awk -v n=$drifted_flights 'BEGIN {
    split("ATL ORD DFW LAX PHX DEN", from, " ");
    for (i = 0; i < n; ++i)
      printf "{\"date\":\"2001-07-01 %02d:%02d:00\",\"delay\":\"%d\",\"distance\":%d,\"origin\":\"%s\",\"destination\":\"LAS\"}\n",
        1 + int(i / 60) % 20, i % 60, (i * 7) % 90 - 10, 200 + i % 1800, from[1 + i % 6] }' >"$drifted"
}
check() {
  local with_drift=()
  [ "$(end_offset flights)" -gt $total_flights ] && with_drift=(--drifted "$drifted")
  icepie-flights-check --flights "$sample/flights-3m.parquet" --airports "$sample/airports.csv" \
    --reference deploy/quickstart/reference.sql "${with_drift[@]}" "$@"
}
domain_file() { icepie domain get "$1" 2>/dev/null || true; }
story_played() {
  [ "$(domain_file operations)" = "$(cat deploy/quickstart/fixed/operations.yaml)" ] &&
    [ "$(domain_file punctuality)" = "$(cat deploy/quickstart/fixed/punctuality.yaml)" ] &&
    icepie slice wait operations.on_time --fresh --timeout 30s >/dev/null 2>&1
}
make_drifted

step "5/6 three domains, every answer compared with DuckDB's"
if [ "$(end_offset flights)" -gt $total_flights ]; then
  printf '  the domains are there from an earlier run\n'
else
  show icepie apply -f config/domains --reason quickstart
fi
head=$(($(end_offset flights) + $(end_offset airports)))
continuous=(operations.on_time operations.delay_buckets operations.city_delay network.routes
  network.busiest_routes network.top_destinations network.airport_clusters)
played=0
if story_played; then played=1; fi
if [ $played = 1 ] || [ "$(end_offset flights)" = $total_flights ]; then
  for slice in "${continuous[@]}"; do icepie slice wait "$slice" --fresh --timeout 120s >/dev/null; done
  icepie slice refresh punctuality.monthly_kpi >/dev/null
  check || bad "a slice differs from DuckDB (above)"
fi
finished

# ---------------------------------------------------------------------------------------------------
step "6/6 the story"
story() {
  printf '\n %sa. 1,200 records arrive whose delay is text%s\n' "$bold" "$off"
  if [ "$(end_offset flights)" = $total_flights ]; then
    show icepie import flights "$drifted"
  fi
  icepie slice wait operations.on_time --state FAULTED --timeout 60s >/dev/null || bad "operations.on_time did not fault"
  icepie slice wait operations.delay_buckets --state FAULTED --timeout 60s >/dev/null || bad "operations.delay_buckets did not fault"
  icepie slice wait operations.city_delay --state BLOCKED --timeout 60s >/dev/null || bad "operations.city_delay is not blocked"
  local told=0
  timeout 60 icepie slice refresh punctuality.monthly_kpi >/dev/null 2>&1 || told=$?
  [ $told != 0 ] && [ $told != 124 ] || bad "the refresh of punctuality.monthly_kpi did not tell that it faults ($told)"
  icepie slice wait punctuality.monthly_kpi --state FAULTED --timeout 60s >/dev/null || bad "punctuality.monthly_kpi did not fault"
  for slice in network.routes network.busiest_routes network.top_destinations network.airport_clusters; do
    icepie slice wait "$slice" --fresh --timeout 60s >/dev/null || bad "$slice is not fresh"
  done
  show icepie status
  good "exactly the slices that read the delay stopped; network is fresh"
  check network.routes network.busiest_routes network.top_destinations network.airport_clusters ||
    bad "network differs from DuckDB"
  show_lines 3 icepie slice quarantine operations.on_time

  printf '\n %sb. the slice is frozen, its answers go on%s\n' "$bold" "$off"
  show icepie slice freeze operations.on_time --reason INC-4711
  local answer
  answer=$(icepie query operations "SELECT origin, sum(flights) AS flights FROM on_time GROUP BY origin ORDER BY flights DESC LIMIT 3" 2>&1)
  printf '%s\n' "$answer" | sed 's/^/  /'
  grep -q SLICE_FROZEN <<<"$answer" || bad "the answer does not say that the slice is frozen"
  grep -q INC-4711 <<<"$answer" || bad "the answer does not say why the slice is frozen"
  good "answers go on, marked stale with the reason"

  printf '\n %sc. a wrong definition is refused%s\n' "$bold" "$off"
  sed 's/avg(CAST(replace(delay,/avg(CAST(replace(dely,/' deploy/quickstart/fixed/operations.yaml >"$data/work/wrong.yaml"
  local refusal
  if refusal=$(icepie apply -f "$data/work/wrong.yaml" 2>&1); then bad "a wrong definition was accepted"; fi
  printf '%s\n' "$refusal" | sed 's/^/  /'
  grep -qE 'wrong\.yaml:[0-9]+:[0-9]+' <<<"$refusal" || bad "the refusal names no line and column"
  good "refused, with line and column; nothing changed"

  printf '\n %sd. the right one is built beside the serving one and compared%s\n' "$bold" "$off"
  show icepie apply -f deploy/quickstart/fixed --reason INC-4711
  show_lines 5 icepie slice diff operations.on_time
  # Both stand where the serving one stopped. It had set aside the records it could not read; nothing
  # flew in those hours otherwise, so the new generation has more rows and not one other value.
  local diff
  diff=$(icepie --json slice diff operations.on_time || true)
  diff=$(tr -d ' \n' <<<"$diff")
  grep -qE '"added":"[1-9]' <<<"$diff" || bad "the new generation does not have the records that were set aside"
  ! grep -qE '"(removed|changed)":"[1-9]' <<<"$diff" || bad "the new generation lost or changed rows"
  good "the same rows where both stand, and those of the records that had been set aside"

  printf '\n %se. promoted and thawed%s\n' "$bold" "$off"
  show icepie slice promote operations.on_time --thaw
  for slice in operations.delay_buckets operations.city_delay punctuality.monthly_kpi; do
    icepie slice promote "$slice" >/dev/null
  done
  icepie slice refresh punctuality.monthly_kpi >/dev/null
  for slice in "${continuous[@]}"; do icepie slice wait "$slice" --fresh --timeout 120s >/dev/null; done
  check || bad "a slice differs from DuckDB (above)"
  good "every answer equals DuckDB's again, the drifted records included"
}

kill_a_worker() {
  printf '\n %sf. a worker is killed with SIGKILL while queries run%s\n' "$bold" "$off"
  local pid asked=0 failed=0 sources=$data/work/sources.txt victim_dead=0 i
  pid=$(icepie --json domain list | tr -d ' \n' | sed 's/},{/},\n{/g' |
    sed -n 's/.*"domain":"network","role":"live","pid":"\([0-9]*\)".*/\1/p' | head -n 1)
  [ -n "$pid" ] || bad "no live worker of network is listed"
  : >"$sources"
  for ((i = 0; i < 120; ++i)); do
    if [ $i = 20 ]; then kill -KILL "$pid"; victim_dead=1; fi
    asked=$((asked + 1))
    icepie --json query network "SELECT * FROM busiest_routes LIMIT 5" 2>>"$data/work/failed.txt" |
      tr -d ' \n' | grep -oE '"source":"[A-Z]+"' | head -n 1 >>"$sources" || failed=$((failed + 1))
  done
  [ $victim_dead = 1 ] || bad "nothing was killed"
  sort "$sources" | uniq -c | awk '{printf "  %s answers from %s\n", $1, $2}'
  [ $failed = 0 ] && [ "$(wc -l <"$sources")" = $asked ] || bad "$failed of $asked queries failed"
  icepie slice wait network.routes --fresh --timeout 60s >/dev/null || bad "network.routes did not come back"
  good "$asked queries, none failed; the worker is back and fresh"
}

if [ $played = 1 ]; then
  printf '  played before: the fixed definitions serve (start over with --fresh)\n'
else
  story
fi
kill_a_worker
finished

# ---------------------------------------------------------------------------------------------------
step "answers"
show icepie query network "SELECT origin, destination, flights FROM busiest_routes ORDER BY flights DESC LIMIT 5"
show icepie query operations "SELECT city, state, flights, round(avg_delay, 1) AS avg_delay FROM city_delay WHERE flights > 20000 ORDER BY avg_delay DESC LIMIT 5"
show icepie query punctuality "SELECT state, month, round(100.0 * punctual / flights, 1) AS percent FROM monthly_kpi WHERE flights > 10000 ORDER BY percent DESC LIMIT 5"

printf '\n%severy check held%s, %d s in all\n' "$bold" "$off" "$SECONDS"
if [ $stop_after = 1 ]; then
  stop_daemon
  printf 'icepied is stopped; its data stays in %s\n' "$data"
else
  cat <<EOT

icepied goes on at $ICEPIE_ADDRESS. Try:
  export PATH="$data/bin:\$PATH" ICEPIE_ADDRESS=$ICEPIE_ADDRESS
  icepie status
  icepie query network "SELECT cluster, count(*) AS airports FROM airport_clusters GROUP BY cluster"
  curl 'http://$http/v1/domains/operations/slices/city_delay/rows?state=eq.CA&order=flights.desc&limit=5'
Stop it:
  kill $(field pid)
EOT
fi
