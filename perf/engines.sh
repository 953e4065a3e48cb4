#!/usr/bin/env bash
# The same WebSocket echo on Petrel's engine (ring), monoio, glommio, fastwebsockets and tokio-tungstenite, under the same
# client, servers on core 0 and the client on core 1. Prints Markdown; every round goes to a JSON file beside it.
#   perf/engines.sh [--short] [OUT]   OUT: folder for engines.md and engines.json (default target/perf)
#   perf/engines.sh --build           builds only
# --short takes about five minutes after the build; without it about forty.
# PROFILE chooses the build (default release; bench-dev builds faster).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${PROFILE:-release}
bin=${CARGO_TARGET_DIR:-target}/$profile

cargo build --locked --profile "$profile" -p petrel-engines --all-features
short=
case "${1:-}" in
  --build) exit ;;
  --short) short=1; shift ;;
esac
out=${1:-target/perf}
mkdir -p "$out"
rm -f "$out/engines.json"

servers=()
for engine in ring monoio glommio fastwebsockets tungstenite; do
  servers+=(--server "$engine=$bin/echo-$engine")
done
measure() { "$bin/petrel-engines" "$@" --json "$out/engines.json" | tee -a "$out/engines.md"; }

{
  echo "## Engines"
  echo
  echo "$(date -u +%F), Linux $(uname -r), $(nproc) cores of $(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo), profile $profile, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
  echo
} | tee "$out/engines.md"
if [ -n "$short" ]; then
  measure echo "${servers[@]}" --rounds 15 --milliseconds 500
  brief=(--milliseconds 400 --warm-up-milliseconds 200)
  measure echo "${servers[@]}" --rounds 3 "${brief[@]}" --payload 20,128,1024,16384 --connections 100,1000
  measure echo "${servers[@]}" --rounds 1 "${brief[@]}" --payload 20,128,1024,16384 --connections 10000
  measure echo "${servers[@]}" --rounds 3 --milliseconds 1000 --rate 1000
  measure idle "${servers[@]}" --rounds 1
  rounds=5
else
  measure echo "${servers[@]}" --rounds 31 --milliseconds 1000
  measure echo "${servers[@]}" --rounds 15 --milliseconds 1000 --payload 20,128,1024,16384 --connections 100,1000,10000
  for rate in 1000 20000; do measure echo "${servers[@]}" --rounds 9 --milliseconds 2000 --rate "$rate"; done
  measure idle "${servers[@]}" --rounds 3
  rounds=15
fi
for answers in 1 3; do
  measure echo "${servers[@]:0:2}" --rounds "$rounds" --milliseconds 500 --rate 50000 --answers "$answers"
done
