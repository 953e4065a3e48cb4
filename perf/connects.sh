#!/usr/bin/env bash
# WebSocket connects a second on each engine's echo (perf/engines), and on Petrel with login: the same client opens 10,000
# connections as fast as the server takes them, closes them, and does it again. Servers on core 0 with one thread, the
# client on core 1. Prints a Markdown table.
#   perf/connects.sh [ROUNDS]     (default 5; about a minute and a half, after the build)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"
rounds=${1:-5}
build
[ -n "${NO_BUILD:-}" ] || cargo build --quiet --locked --profile "$profile" -p petrel-engines --all-features
count=10000

# row NAME PID URL OPTION…
row() {
  local name=$1 url=$2; shift 2
  local status=0
  taskset -c 1 "$bin/petrel-loadgen" storm --connections "$count" --rounds "$rounds" --live 0 --at-once 256 --edge "$url" \
    --json "$work/row.json" "$@" >"$work/row.out" 2>&1 || status=$?
  [ -s "$work/row.json" ] || { cat "$work/row.out" >&2; die "$name: no result"; }
  python3 - "$name" "$work/row.json" <<'PYTHON'
import json, statistics, sys
name, report = sys.argv[1], json.load(open(sys.argv[2]))
rates = [r["connects_per_s"] for r in report["rounds"]]
user, system = (statistics.median(r[k] for r in report["rounds"]) for k in ("server_us_user", "server_us_system"))
print(f"| {name} | {statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {user + system:.1f} | "
      f"{user:.1f} | {system:.1f} | {1e6 / (user + system):,.0f} | {report['failed']} |")
PYTHON
  rm -f "$work/row.json"
}

echo "### 10,000 connects ($rounds rounds)"
echo
echo "| server | connects/s (ends) | server CPU µs each | user | system | connects a core second | failed |"
echo "| --- | --- | --- | --- | --- | --- | --- |"
port=${PORT:-27900}
for engine in ring monoio glommio fastwebsockets tungstenite; do
  taskset -c 0 "$bin/echo-$engine" --listen "127.0.0.1:$port" >"$work/echo" 2>&1 &
  server=$!
  sleep 1
  row "echo-$engine" "ws://127.0.0.1:$port/"
  kill "$server"; wait "$server" 2>/dev/null || true
  server=
  port=$((port + 1))
done
start "$work/data" --shards 1
taskset -cp 0 "$server" >/dev/null
for task in /proc/"$server"/task/*; do taskset -cp 0 "${task##*/}" >/dev/null; done
row "petrel, with login" "$edge" --http "$http" --data "$data"
stop
