#!/usr/bin/env bash
# What an idle, logged-in connection costs the server in user-space memory, everything included: the least-squares slope
# of 21 readings between 5,000 and 15,000 connections. Exit code 1: above 256 B (with twice the standard error).
#   perf/idle.sh [--json FILE and other options of `petrel-loadgen idle`]     under a minute
#   PROFILE=bench-dev perf/idle.sh
#
# The server runs as it always does, but its allocator gives pages back at once and reserves nothing
# ahead; else what an earlier moment left over hides what connections take later. The users have logged in once before
# on another start of the server, since a first login writes rows, which pass through the store's bounded buffers.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"
build
export MIMALLOC_PURGE_DELAY=0 MIMALLOC_ALLOW_LARGE_OS_PAGES=0 MIMALLOC_ARENA_EAGER_COMMIT=0
start "$work/data" --shards 2
"$bin/petrel-loadgen" storm --connections 15000 --rounds 1 --live 0 --at-once 64 --edge "$edge" --http "$http" --data "$data" \
  >"$work/first" || { cat "$work/first" >&2; die "not everybody could log in"; }
stop
start "$work/data" --shards 2
status=0
"$bin/petrel-loadgen" idle --edge "$edge" --http "$http" --data "$data" "$@" || status=$?
stop
exit "$status"
