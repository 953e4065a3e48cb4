#!/usr/bin/env bash
# Holds N logged-in WebSockets (default 1,000,000) in one server process on this machine, both ends here, with open files
# limited to 20,000: rings of 12,000 direct descriptors each, as many shards as that takes. Prints the connect rate, the
# memory of a connection, how long a message between two random clients takes, what the heartbeats cost, and whether
# anybody was dropped; then closes all in stages. Exit code 1: something was above its bound.
#   perf/million.sh [N] [--json FILE and other options of `petrel-loadgen hold`]
#   PING_AFTER_S=600 perf/million.sh 200000     without heartbeats: what is left is the cost of the timers
# Needs about 9 KB of memory for each connection, nearly all of it the kernel's; 4 to 6 minutes for a million.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"
count=1000000
case "${1:-}" in [0-9]*) count=$1; shift ;; esac
ping_after_s=${PING_AFTER_S:-30}
ulimit -n 20000
free_mb=$(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
[ "$free_mb" -gt $((count * 9 / 1000)) ] ||
  die "$count connections need about $((count * 9 / 1000)) MB of free memory, and $free_mb are there: give a smaller number"
build
shards=$(((count + 11999) / 12000))
[ "$shards" -ge 2 ] || shards=2
# The kernel spreads connections over the shards' listeners by hash, so a shard's share varies by a few per cent.
printf 'sockets_per_shard = 14000\nping_after_s = %s\nevict_after_s = %s\n' "$ping_after_s" $((ping_after_s * 3 / 2)) >"$work/petrel.toml"
start "$work/data" --shards "$shards" --config "$work/petrel.toml"
echo "petrel, all in one process, $shards shards of 14,000 sockets at most; open files at most $(ulimit -n); clients pinged after ${ping_after_s} s"
# 400 MB for a million; what does not depend on the number is the larger part of a smaller one.
max=400
[ "$count" -ge 1000000 ] || max=$((120 + count * 280 / 1000000))
status=0
"$bin/petrel-loadgen" hold --connections "$count" --resident-mb-max "$max" --edge "$edge" --http "$http" --data "$data" "$@" ||
  status=$?
stop
exit "$status"
