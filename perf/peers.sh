#!/usr/bin/env bash
# Petrel's engine beside what a user would pick instead: bun (its server is uWebSockets), socketify (uWebSockets under
# Python), gws and nbio (Go) and Netty (Java), under the client of perf/engines.sh: echo, and broadcast to 10,000. Peers are
# installed in pinned versions into a cache folder, from their registries by npm, pip, go and Maven; one that cannot be is
# named with the reason.
#   perf/peers.sh [PART…]    all parts (about 45 minutes after that), or those that are named
#   perf/peers.sh --list     the parts, none above 8 minutes, and how long each takes
#   perf/peers.sh --build    builds and installs only
# Options and settings as in perf/engines.sh; PETREL_PEERS is the cache folder (default ~/.cache/petrel-peers).
set -euo pipefail
what=peers title=Peers
source "$(dirname "${BASH_SOURCE[0]}")/compare.sh"
cache=${PETREL_PEERS:-$HOME/.cache/petrel-peers}
here=$PWD/perf/peers
bun_version=1.4.5
socketify_version=0.0.31

build
mkdir -p "$cache"
servers=(--server "ring=$bin/echo-ring")
# installed NAME: installs it, or says why there is none.
installed() {
  local log=$cache/$1.log
  "$1" >"$log" 2>&1 || { notes+=("- $1: not installed: $(tail -1 "$log")"); return 1; }
}
# peer NAME COMMAND...: adds a peer to all parts.
peer() {
  local name=$1; shift
  ! installed "$name" || servers+=(--server "$name=$*")
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
# One event loop, as every server here is on one core; a heap that its garbage fits in.
netty() {
  [ "$cache/netty/echo" -nt "$here/netty/pom.xml" ] && [ "$cache/netty/echo" -nt "$here/netty/src/main/java/Echo.java" ] && return
  mvn --batch-mode --no-transfer-progress --quiet -f "$here/netty/pom.xml" -DbuildDirectory="$cache/netty" package \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$cache/netty/jars" &&
    printf '#!/bin/sh\nexec java -Xms256m -Xmx256m -XX:+UseSerialGC -cp "%s/classes:%s/jars/*" Echo "$@"\n' \
      "$cache/netty" "$cache/netty" >"$cache/netty/echo" && chmod +x "$cache/netty/echo"
}
peer bun "$cache/bun/node_modules/bun/bin/bun.exe" "$here/bun.js"
peer socketify "$cache/python/bin/python" "$here/socketify_echo.py"
peer gws "$cache/gws"
peer nbio "$cache/nbio"
has_netty=
! installed netty || has_netty=1
notes=("bun $bun_version, socketify $socketify_version, $(sed -n 's/^\t\(github.com\S*\) \(\S*\)$/\1 \2/p' "$here/go/go.mod" | head -2 | paste -sd, -), Netty $(sed -n 's|.*<netty.version>\(.*\)</.*|\1|p' "$here/netty/pom.xml")" "${notes[@]}")
[ "${1:-}" != --build ] || { printf '%s\n' "${notes[@]}"; exit 0; }

common_parts
# A JVM is slow until it has compiled what is hot, so Netty has parts of its own, with seconds of warm-up for both.
if [ -n "$has_netty" ]; then
  warm=(--rounds 7 --milliseconds 1500 --warm-up-milliseconds 8000 --server "ring=$bin/echo-ring" --server "netty=$cache/netty/echo")
  part netty-echo 3 - "$bin/petrel-engines" echo "${warm[@]}"
  part netty-rate-50000 3 - "$bin/petrel-engines" echo --rate 50000 "${warm[@]}"
  part netty-broadcast 4 - "$bin/petrel-engines" broadcast --payload 128 "${warm[@]}"
fi
if command -v perf >/dev/null; then
  part profile 3 2 echo ROUNDS TIME WARM_UP --profile
fi
part broadcast 4 0 broadcast ROUNDS TIME WARM_UP --payload 128
part broadcast-large 4 0 broadcast ROUNDS TIME WARM_UP --payload 1024
compare "$@"
