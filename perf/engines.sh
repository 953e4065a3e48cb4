#!/usr/bin/env bash
# The same WebSocket echo on Petrel's engine (ring), monoio, glommio, fastwebsockets and tokio-tungstenite, under the same
# client, servers on core 0 and the client on core 1: medians of interleaved rounds with their ends, as Markdown; every
# round goes to a JSON file beside it.
#   perf/engines.sh [PART…]    all parts (about 35 minutes after the build), or those that are named
#   perf/engines.sh --list     the parts, none above 8 minutes, and how long each takes
#   perf/engines.sh --build    builds only
# --rounds N (default 15), --short (3 rounds of 0.4 s), --out FOLDER (default target/perf), --record: appends the tables to
# perf/results/engines.md. PROFILE chooses the build (default release; bench-dev builds faster); NO_BUILD=1 takes what is
# built.
set -euo pipefail
what=engines title=Engines
source "$(dirname "${BASH_SOURCE[0]}")/compare.sh"
build
[ "${1:-}" != --build ] || exit 0
for engine in ring monoio glommio fastwebsockets tungstenite; do
  servers+=(--server "$engine=$bin/echo-$engine")
done
common_parts
if command -v perf >/dev/null; then
  part profile 4 0 echo ROUNDS TIME WARM_UP --profile
fi
part answers 1 1 echo ROUNDS TIME WARM_UP --rate 50000 --answers 1,3
part connects 2 - env NO_BUILD="${NO_BUILD:-}" PROFILE="$profile" perf/connects.sh
compare "$@"
