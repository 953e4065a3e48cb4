# For the measuring scripts of this folder: builds, starts a Petrel of its own on free ports, and stops it.
# Sourced; the caller has set -euo pipefail.
#   PROFILE   cargo's profile (default: release); NO_BUILD=1 takes what is built
#   build     compiles petrel and petrel-loadgen
#   start DATA FLAG…   starts petrel; sets $http, $edge, $server (its pid), $data
#   stop      ends it and expects exit code 0

cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${PROFILE:-release}
bin=${CARGO_TARGET_DIR:-target}/$profile
server=

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

build() { [ -n "${NO_BUILD:-}" ] || cargo build --quiet --locked --profile "$profile" -p petrel -p petrel-loadgen; }

work=$(mktemp -d)
cleanup() {
  [ -z "$server" ] || kill -9 "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

start() {
  data=$1; shift
  "$bin/petrel" --data "$data" --listen 127.0.0.1:0 --http 127.0.0.1:0 "$@" >"$work/out" 2>"$work/log" &
  server=$!
  for _ in $(seq 100); do
    grep -q '^ *data ' "$work/out" && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; die "petrel did not start"; }
    sleep 0.1
  done
  http=$(sed -n 's/.*HTTP *\(http:.*\)/\1/p' "$work/out")
  edge=$(sed -n 's/.*clients *\(ws:.*\)/\1/p' "$work/out")
  [ -n "$edge" ] || { cat "$work/log" >&2; die "petrel did not say where it listens"; }
}

stop() {
  kill "$server"
  wait "$server" || { cat "$work/log" >&2; die "petrel did not stop with exit code 0"; }
  server=
}
