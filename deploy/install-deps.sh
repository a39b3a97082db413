#!/usr/bin/env bash
# Installs everything that Ice Pie is built from, on Debian 12: Debian packages, and from npm the
# DuckDB library with its header and the sample data. Versions and checksums are pinned. A second
# run finds everything in place, downloads nothing and takes under a second.
#
#   deploy/install-deps.sh                what building and running needs, and the sample data
#   deploy/install-deps.sh --with-tests   and what the test suite needs
#   deploy/install-deps.sh --with-bench   and what tests/bench/run.sh compares with: Redis,
#                                         PostgreSQL and RocksDB's db_bench
set -euo pipefail

prefix=${ICEPIE_DEPS_DIR:-/usr/local/lib/icepie}

build_packages=(
  cmake ninja-build clang-14 lld-14 libstdc++-12-dev
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev
  librocksdb-dev libzstd-dev libxxhash-dev libssl-dev libabsl-dev libspdlog-dev
  libsimdjson-dev libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libboost-dev tzdata)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev clang-tidy-14 clang-format-14 libclang-rt-14-dev
  binutils curl)
bench_packages=(rocksdb-tools redis-server postgresql-15)

# Package, version, SHA-512 of the tarball as the registry serves it.
duckdb_header=(duckdb 1.4.4
  844249e61c9517454b8f776638ba6c5ab411d1bddde1892ab72826ea25178c72430e74aa83f5122b171be6abcdace84560f824b5ac94e9d5c2b603ea7269a9a2)
duckdb_x64=(@duckdb/node-bindings-linux-x64 1.5.6-r.1
  21772b64913a904a8cd19e30c1d5671811d7fdface4b7dd53cd0300d743f43e16cf386f4e7c41ef78721ac208870d2651bc6375072145387817824315b998dd5)
duckdb_arm64=(@duckdb/node-bindings-linux-arm64 1.5.5-r.5
  09a7c7d8022f5eda700f29c6dca07fe2e10e1d11a516807b6ae091308c07dc128d2286ec00d5792d2a43277b5fc9108522c2ba7bc013d5eb1e5959eed83bf773)
sample_data=(vega-datasets 3.2.1
  9534b0640eb2abaa925366199bee9ba882e222f4cf3f19f88ad8abee33c61661c874fbd47d0f690b3cdcae4958cb030980b51b68879291941d88977ac01c4fba)

say() { printf '%s\n' "$*"; }
fail() { printf 'install-deps: %s\n' "$*" >&2; exit 1; }

packages=("${build_packages[@]}")
for argument in "$@"; do
  case "$argument" in
    --with-tests) packages+=("${test_packages[@]}") ;;
    --with-bench) packages+=("${test_packages[@]}" "${bench_packages[@]}") ;;
    -h|--help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) fail "unknown argument '$argument' (have: --with-tests, --with-bench, --help)" ;;
  esac
done

# As root as it is, otherwise through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; return; fi
  command -v sudo >/dev/null || fail "not root and no sudo: run 'su -c $0' or install sudo"
  sudo "$@"
}

check_system() {
  # shellcheck disable=SC1091
  . /etc/os-release
  [ "${ID:-}:${VERSION_ID:-}" = debian:12 ] ||
    fail "this is ${PRETTY_NAME:-an unknown system}; Ice Pie's packages are those of Debian 12 (use a Debian 12 machine or container)"
  case "$(uname -m)" in
    x86_64) duckdb_library=("${duckdb_x64[@]}") ;;
    aarch64) duckdb_library=("${duckdb_arm64[@]}") ;;
    *) fail "no DuckDB library for $(uname -m) (have: x86_64, aarch64)" ;;
  esac
}

missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      printf '%s\n' "$package"
  done
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} = 0 ] && return
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  # DPkg::Lock::Timeout waits for another apt instead of failing at once.
  as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" >"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; fail "apt-get could not install the packages above"; }
}

# The npm registry that this machine is set up for; where npm was never set up, the one that Debian's
# npm package would use (read from the package itself, without its hundreds of dependencies).
npm_registry() {
  local configured
  configured=${npm_config_registry:-${NPM_CONFIG_REGISTRY:-}}
  [ -n "$configured" ] || configured=$(sed -n 's/^[[:space:]]*registry[[:space:]]*=[[:space:]]*//p' \
    "$HOME/.npmrc" /etc/npmrc 2>/dev/null | head -n 1)
  if [ -z "$configured" ]; then
    (cd "$work" && apt-get -qq download npm) || fail "cannot ask Debian's npm package for its registry"
    configured=$(dpkg-deb --fsys-tarfile "$work"/npm_*.deb |
      tar -xO --wildcards '*/utils/config/definitions.js' |
      grep -A1 "^define('registry'" | sed -n "s/.*default: '\(.*\)'.*/\1/p")
  fi
  [ -n "$configured" ] || fail "no npm registry known: set npm_config_registry to its URL"
  printf '%s' "${configured%/}"
}

# fetch NAME VERSION SHA512: the package's tarball as $work/package.tgz, checked.
fetch() {
  local name=$1 version=$2 sha512=$3 base=${1##*/}
  say "fetching $name $version"
  rm -f "$work/package.tgz"
  if command -v npm >/dev/null; then
    (cd "$work" && npm pack --silent "$name@$version" >/dev/null 2>"$work/npm.log" &&
      mv -- *"$base-$version.tgz" package.tgz) ||
      { cat "$work/npm.log" >&2; fail "npm could not fetch $name@$version"; }
  else
    install_packages curl ca-certificates
    curl -fsSL --retry 3 -o "$work/package.tgz" "$(npm_registry)/$name/-/$base-$version.tgz" ||
      fail "could not fetch $name@$version from the configured npm registry"
  fi
  printf '%s  %s\n' "$sha512" "$work/package.tgz" | sha512sum --check --quiet - ||
    fail "$name@$version: the checksum is not the pinned one; nothing was installed from it"
}

# unpack DIRECTORY MEMBER...: those files of $work/package.tgz, at once or not at all.
unpack() {
  local directory=$1 member
  shift
  mkdir -p "$work/new"
  for member in "$@"; do
    tar -xzOf "$work/package.tgz" "package/$member" >"$work/new/${member##*/}"
  done
  as_root mkdir -p "$directory"
  as_root cp "$work/new/"* "$directory/"
  rm -rf "$work/new"
}

install_duckdb() {
  local directory="$prefix/duckdb-${duckdb_library[1]%-r.*}"
  [ -e "$directory/complete" ] && return
  if [ -e /usr/include/duckdb.h ] && ldconfig -p | grep 'libduckdb\.so' >/dev/null; then return; fi
  fetch "${duckdb_library[@]}"
  unpack "$directory" libduckdb.so
  fetch "${duckdb_header[@]}"
  unpack "$directory" src/duckdb/src/include/duckdb.h
  as_root touch "$directory/complete"
}

install_sample_data() {
  local directory="$prefix/vega-datasets-${sample_data[1]}"
  [ -e "$directory/complete" ] && return
  fetch "${sample_data[@]}"
  unpack "$directory" data/flights-3m.parquet data/airports.csv
  as_root touch "$directory/complete"
}

check_system
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
install_packages "${packages[@]}"
install_duckdb
install_sample_data
say "dependencies are in place"
