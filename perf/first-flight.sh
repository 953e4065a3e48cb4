#!/usr/bin/env bash
# Runs the scenarios of results/first-flight.md in turn, each against a server of its own on a fresh data folder, and
# prints the results as tables in markdown. About 7 minutes. The reports stay in target/first-flight.
#   perf/first-flight.sh                       all of it, release profile
#   perf/first-flight.sh steady low            these only
#   PROFILE=bench-dev perf/first-flight.sh     another profile of Cargo.toml
#   SECONDS_OF_LOAD=15 perf/first-flight.sh    shorter, while developing (an overload lasts that long between its phases)
#   PETREL=FILE PETREL_LOADGEN=FILE ...        these binaries, instead of building
# Exit code 1: a run was not clean; the tables say which.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
petrel=${PETREL:-$target/$profile/petrel}
loadgen=${PETREL_LOADGEN:-$target/$profile/petrel-loadgen}
results=$target/first-flight
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT

[ -n "${PETREL:-}" ] || cargo build --profile "$profile" --locked -p petrel -p petrel-loadgen
[ $# -gt 0 ] || set -- smoke steady half low later overload
mkdir -p "$results"
reports=()
failed=0
for name in "$@"; do
  scenario=$scratch/$name.toml
  cp "perf/scenarios/$name.toml" "$scenario"
  [ -z "${SECONDS_OF_LOAD:-}" ] || sed -i "s/^duration_s = 60.0/duration_s = $SECONDS_OF_LOAD.0/" "$scenario"
  data=$scratch/$name
  "$petrel" --data "$data" --listen 127.0.0.1:0 --http 127.0.0.1:0 >"$scratch/out" 2>"$scratch/log" &
  server=$!
  for _ in $(seq 100); do grep -q 'HTTP ' "$scratch/out" && break; sleep 0.1; done
  http=$(sed -n 's/.*HTTP *\(http:.*\)/\1/p' "$scratch/out")
  edge=$(sed -n 's/.*clients *\(ws:.*\)/\1/p' "$scratch/out")
  [ -n "$http" ] || { cat "$scratch/log" >&2; echo "first-flight: petrel did not start" >&2; exit 2; }
  echo "first-flight: $name" >&2
  code=0
  "$loadgen" run "$scenario" --http "$http" --edge "$edge" --data "$data" --json "$results/$name.json" \
    >"$results/$name.txt" 2>&1 || code=$?
  if [ "$code" -ne 0 ]; then
    failed=1
    tail -40 "$results/$name.txt" >&2
  fi
  [ "$code" -ne 2 ] || exit 2
  reports+=("$results/$name.json")
  kill "$server"
  wait "$server" || { cat "$scratch/log" >&2; echo "first-flight: petrel did not stop with exit code 0" >&2; exit 2; }
  server=
  rm -rf "$data"
done
"$loadgen" table "${reports[@]}"
exit "$failed"
