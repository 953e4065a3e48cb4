#!/usr/bin/env bash
# Kills, stops and restarts real processes, and cuts and delays their links, under the verified load: one run a seed.
#
#   perf/chaos.sh                     seeds 1 to 3 on perf/chaos/stacks/one.toml, 60 s each
#   perf/chaos.sh --seeds 1..20 --stack perf/chaos/stacks/one.toml --out perf/results
#   PROFILE, NO_BUILD                 as in perf/server.sh
#
# Exit code 0 where every seed is good. With --out, one JSON a seed and a row a seed in chaos.md.
set -euo pipefail
cd "$(dirname "$0")/.."
stack=perf/chaos/stacks/one.toml; seeds=1..3; out=; more=()
while [ $# -gt 0 ]; do
  case $1 in
    --stack) stack=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    *) more+=("$1"); shift ;;
  esac
done
profile=${PROFILE:-release}; folder=$profile
[ "$profile" != dev ] || folder=debug
bin=${CARGO_TARGET_DIR:-target}/$folder
[ -n "${NO_BUILD:-}" ] ||
  cargo build --quiet --locked --profile "$profile" -p petrel -p petrel-loadgen -p petrel-chaos
name=$(basename "$stack" .toml); bad=0
if [ -n "$out" ]; then
  mkdir -p "$out"
  [ -f "$out/chaos.md" ] || printf '| stack | seed | faults | verdict |\n| --- | --- | --- | --- |\n' >"$out/chaos.md"
fi
for seed in $(seq "${seeds%%..*}" "${seeds##*..}"); do
  json=(); log=$(mktemp)
  [ -z "$out" ] || json=(--json "$out/chaos-$name-$seed.json")
  "$bin/petrel-chaos" --stack "$stack" --seed "$seed" --bin "$bin" "${json[@]}" "${more[@]}" | tee "$log" || bad=1
  [ -z "$out" ] ||
    sed -n "s/^seed \([0-9]*\): \([0-9]*\) faults, \(.*\)/| $name | \1 | \2 | \3 |/p" "$log" >>"$out/chaos.md"
  rm -f "$log"
done
exit "$bad"
