#!/usr/bin/env bash
# 15,000 clients reconnect at once, three times, while 400 others go on talking: connects with login a second, what each
# costs the server, and what the live ones feel. Exit code 1: somebody was refused or dropped, or a message did not arrive.
#   perf/storm.sh [--json FILE and other options of `petrel-loadgen storm`]     under a minute
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"
build
start "$work/data" --shards 2
status=0
"$bin/petrel-loadgen" storm --edge "$edge" --http "$http" --data "$data" "$@" || status=$?
stop
exit "$status"
