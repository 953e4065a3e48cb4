#!/usr/bin/env bash
# The Autobahn fuzzing client over Petrel's WebSocket codec and engine: every case of groups 1 to 7, 9 and 10 must pass
# strictly. Exit 1 names what did not; exit 2 says why the suite could not run.
#   protocol/tests/conformance.sh [CASES...]    e.g. '6.*' '9.1.*' (default: all of those groups, in parallel)
# Groups 12 and 13 are about permessage-deflate, which Petrel does not offer.
# The suite is Python 2: its interpreter comes from Debian 11's packages, unpacked into a private folder (nothing is
# installed on the system), the suite and its libraries from PyPI, all pinned. Once about a minute.
#   AUTOBAHN_HOME   where that lives (default ~/.cache/petrel-autobahn); reports are in AUTOBAHN_HOME/reports
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=${CARGO_TARGET_DIR:-target}
home=${AUTOBAHN_HOME:-$HOME/.cache/petrel-autobahn}
root=$home/root
site=$home/site
suite=$home/suite
# The cases in parts that take about equally long.
parts=('1.*,2.*,3.*,4.*,5.*,6.*,7.*,10.*' '9.1.*,9.3.*,9.5.*,9.7.*' '9.2.*,9.4.*,9.6.*,9.8.*')
debian=(libpython2.7-minimal libpython2.7-stdlib python2.7-minimal python2.7 libpython2.7 python2.7-dev libpython2.7-dev
  libffi7 libssl1.1 python-pip-whl)
libraries=(txaio==2.1.0 incremental==16.10.1 zope.interface==4.6.0 Twisted==19.10.0 jinja2==2.11.3 markupsafe==1.1.1
  Werkzeug==1.0.1 klein==17.10.0 six==1.16.0 unittest2==1.1.0 autobahn==0.10.9 pyOpenSSL==19.1.0 cryptography==3.3.2
  service_identity==18.1.0)
suite_version=25.10.1

die() { echo "conformance: $*" >&2; exit 2; }

python2() {
  PYTHONHOME=$root/usr PYTHONPATH=$1 PYTHONDONTWRITEBYTECODE=1 \
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu "$root/usr/bin/python2.7" "${@:2}"
}

unpack_python2() {
  # The mirror that this machine uses already, for the release that still has the packages.
  local mirror options
  mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
    head -1 | tr -d ' ' || true)
  [ -n "$mirror" ] || die "this machine's apt sources name no Debian mirror"
  mkdir -p "$home"/{lists/partial,archives/partial,packages}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$home/sources.list"
  options=(-qq -o "Dir::Etc::sourcelist=$home/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$home/lists" -o "Dir::Cache::archives=$home/archives" -o "Dir::Cache=$home" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update || die "apt could not read Debian 11's package list"
  (cd "$home/packages" && apt-get "${options[@]}" download "${debian[@]}") || die "Debian 11's Python 2.7 could not be fetched"
  local package
  for package in "$home"/packages/*.deb; do dpkg -x "$package" "$root"; done
}

install_suite() {
  local wheels=$root/usr/share/python-wheels
  wheel_path() { printf '%s:' "$wheels"/*.whl; }
  pip2() {
    C_INCLUDE_PATH=$root/usr/include/python2.7:$root/usr/include python2 "$site:$(wheel_path)" -m pip \
      --no-python-version-warning install -q --no-build-isolation -t "$site" "$@"
  }
  {
    pip2 setuptools==44.0.0 wheel==0.37.1
    rm -f "$wheels"/{setuptools,pkg_resources,wheel}*
    pip2 "${libraries[@]}"
    touch "$site/zope/__init__.py"
    python3 -m pip install -q --no-deps --no-compile -t "$suite" "autobahntestsuite==$suite_version"
    python2 "$site:$suite:$suite/autobahntestsuite" -c 'import autobahntestsuite.wstest'
  } >"$home/log" 2>&1 || die "the suite could not be installed, log: $home/log"
}

# The fuzzing client with some of the cases; its report goes to a folder.
fuzz() {
  local url=$1 cases=$2 out=$3
  mkdir -p "$out"
  python3 - "$@" >"$out/spec.json" <<'P'
import json, sys
url, cases, out = sys.argv[1:]
print(json.dumps({"outdir": out, "servers": [{"agent": "petrel", "url": url}], "cases": cases.split(","),
                  "exclude-cases": [], "exclude-agent-cases": {}}))
P
  python2 "$site:$suite:$suite/autobahntestsuite" -c \
    'import sys; sys.argv[0] = "wstest"; from autobahntestsuite.wstest import run; run()' \
    -m fuzzingclient -s "$out/spec.json" >"$out/log" 2>&1
}

judge() {
  python3 - "$@" <<'P'
import collections, glob, json, sys
cases = {}
for folder in sys.argv[1:]:
    try:
        cases.update(json.load(open(folder + "/index.json"))["petrel"])
    except OSError:
        print(f"conformance: no report in {folder}; see its log")
        sys.exit(2)
verdicts = collections.Counter((c["behavior"], c["behaviorClose"]) for c in cases.values())
for (message, close), count in sorted(verdicts.items()):
    print(f"{count:4d}  message {message}, close {close}")
strict = {"OK", "INFORMATIONAL"}
bad = [n for n, c in cases.items() if not {c["behavior"], c["behaviorClose"]} <= strict]
for name in sorted(bad, key=lambda name: [int(part) for part in name.split(".")]):
    print(f"      {name}: {cases[name]['behavior']} / {cases[name]['behaviorClose']}")
print(f"{len(cases) - len(bad)} passed, {len(bad)} failed")
sys.exit(1 if bad or not cases else 0)
P
}

if [ ! -f "$home/.ready-$suite_version" ]; then
  echo "conformance: setting up the suite in $home"
  rm -rf "$home"
  unpack_python2
  install_suite
  rm -rf "$home"/{lists,archives,packages}
  touch "$home/.ready-$suite_version"
fi
cargo build --locked -q -p petrel-engines --bin echo-ring
rm -rf "$home/reports"
mkdir -p "$home/reports"
# The suite's largest messages are 16 MiB; the edge itself takes less.
"$target/debug/echo-ring" --listen 127.0.0.1:0 --message-bytes-max $((16 << 20)) >"$home/reports/address" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 100); do [ -s "$home/reports/address" ] && break; sleep 0.1; done
[ -s "$home/reports/address" ] || die "the echo did not start"
if [ $# -gt 0 ]; then parts=("$(IFS=,; echo "$*")"); fi
folders=()
clients=()
for part in "${!parts[@]}"; do
  folders+=("$home/reports/$part")
  fuzz "ws://$(cat "$home/reports/address")" "${parts[$part]}" "$home/reports/$part" &
  clients+=($!)
done
for client in "${clients[@]}"; do wait "$client" || die "a fuzzing client stopped early, logs: $home/reports/*/log"; done
judge "${folders[@]}"
