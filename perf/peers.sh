#!/usr/bin/env bash
# Petrel's engine beside what a user would pick instead: bun (its server is uWebSockets), socketify (uWebSockets under
# Python), gws and nbio (Go), under the client of perf/engines.sh: echo, and broadcast to 10,000. Prints Markdown; every
# round goes to a JSON file beside it. Peers are installed in pinned versions into a cache folder, from their registries
# by npm, pip and go; one that cannot be is named with the reason.
#   perf/peers.sh [--short] [OUT]   OUT: folder for peers.md and peers.json (default target/perf)
#   perf/peers.sh --build           builds and installs only
# --short takes about five minutes after that; without it about thirty.
# PROFILE chooses the build (default release). PETREL_PEERS is the cache folder (default ~/.cache/petrel-peers).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${PROFILE:-release}
bin=${CARGO_TARGET_DIR:-target}/$profile
cache=${PETREL_PEERS:-$HOME/.cache/petrel-peers}
here=$PWD/perf/peers
bun_version=1.4.5
socketify_version=0.0.31

cargo build --locked --profile "$profile" -p petrel-engines --all-features
mkdir -p "$cache"
servers=(--server "ring=$bin/echo-ring")
missing=()
# peer NAME INSTALLER COMMAND...: adds a peer, or says why there is none.
peer() {
  local name=$1 installer=$2 log=$cache/$1.log; shift 2
  if "$installer" >"$log" 2>&1; then
    servers+=(--server "$name=$*")
  else
    missing+=("$name: not installed: $(tail -1 "$log")")
  fi
}
bun() {
  local version=$cache/bun/node_modules/bun
  [ -x "$version/bin/bun.exe" ] && grep -q "\"version\": \"$bun_version\"" "$version/package.json" && return
  mkdir -p "$cache/bun" && npm install --prefix "$cache/bun" --no-audit --no-fund --no-save "bun@$bun_version" &&
    "$version/bin/bun.exe" --version
}
socketify() {
  "$cache/python/bin/python" -c "import importlib.metadata as m; assert m.version('socketify') == '$socketify_version'" ||
    { python3 -m venv "$cache/python" && "$cache/python/bin/pip" install -q "socketify==$socketify_version"; } &&
    "$cache/python/bin/python" -c 'import socketify'
}
go_peer() { (cd "$here/go" && go build -mod=readonly -o "$cache/$1" "./$1"); }
gws() { go_peer gws; }
nbio() { go_peer nbio; }
peer bun bun "$cache/bun/node_modules/bun/bin/bun.exe" "$here/bun.js"
peer socketify socketify "$cache/python/bin/python" "$here/socketify_echo.py"
peer gws gws "$cache/gws"
peer nbio nbio "$cache/nbio"

short=
case "${1:-}" in
  --build) printf '%s\n' "${missing[@]}"; exit ;;
  --short) short=1; shift ;;
esac
out=${1:-target/perf}
mkdir -p "$out"
rm -f "$out/peers.json"
measure() { "$bin/petrel-engines" "$@" --json "$out/peers.json" | tee -a "$out/peers.md"; }

{
  echo "## Peers"
  echo
  echo "$(date -u +%F), Linux $(uname -r), $(nproc) cores of $(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo), profile $profile, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
  echo "bun $bun_version, socketify $socketify_version, $(sed -n 's/^\t\(github.com\S*\) \(\S*\)$/\1 \2/p' "$here/go/go.mod" | head -2 | paste -sd, -)"
  echo
  for line in "${missing[@]}"; do printf -- '- %s\n\n' "$line"; done
} | tee "$out/peers.md"
if [ -n "$short" ]; then
  measure echo "${servers[@]}" --rounds 15 --milliseconds 500
  measure echo "${servers[@]}" --rounds 3 --milliseconds 400 --warm-up-milliseconds 200 \
    --payload 20,128,1024,16384 --connections 1000
  measure broadcast "${servers[@]}" --rounds 5 --milliseconds 500
  measure echo "${servers[@]}" --rounds 5 --milliseconds 1000 --rate 1000
  measure idle "${servers[@]}" --rounds 1
else
  measure echo "${servers[@]}" --rounds 31 --milliseconds 1000
  measure echo "${servers[@]}" --rounds 15 --milliseconds 1000 --payload 20,128,1024,16384 --connections 100,1000,10000
  measure broadcast "${servers[@]}" --rounds 15 --milliseconds 1000 --payload 128,1024
  for rate in 1000 20000; do measure echo "${servers[@]}" --rounds 9 --milliseconds 2000 --rate "$rate"; done
  measure idle "${servers[@]}" --rounds 3
fi
if command -v perf >/dev/null; then
  measure echo "${servers[@]:0:4}" --rounds 3 --milliseconds 1000 --profile
fi
