#!/usr/bin/env bash
# Kills, stops and restarts real processes, cuts, holds and delays their links and fills their disk, under the verified load:
# one run a seed.
#
#   perf/chaos.sh                     seeds 1 to 3 on perf/chaos/stacks/one.toml, 60 s each
#   perf/chaos.sh --seeds 1..20 --stack perf/chaos/stacks/cluster.toml --out DIR
#   perf/chaos.sh --seeds 1..4 --only kill --victims edge,router,persist --seconds 120
#   PROFILE, NO_BUILD                 as in perf/server.sh
#   CHAOS_BEFORE                      a command that is run before each seed
#
# cluster.toml starts real servers (deploy/local/up --help says what they need); they are stopped at the end. Exit code 0
# where every seed is good. With --out, one JSON a seed, and the table of all that are there is printed at the end.
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
name=$(basename "$stack" .toml)
if [ -z "${NO_BUILD:-}" ]; then
  cargo build --quiet --locked --profile "$profile" -p petrel -p petrel-loadgen -p petrel-chaos
  [ "$name" = one ] ||
    cargo build --quiet --locked --profile "$profile" -p petrel-edge -p petrel-router -p petrel-persist --bins \
      --features petrel-edge/service,petrel-router/service,petrel-persist/service
fi
servers=$(sed -n 's/^PETREL_LOCAL_DIR = "\(.*\)"/\1/p' "$stack")
[ -z "$servers" ] || trap 'PETREL_LOCAL_DIR=$servers deploy/local/down --wipe' EXIT
reports=$(mktemp -d); [ -z "$out" ] || { mkdir -p "$out"; rm -r "$reports"; reports=$out; }
bad=0
for seed in $(seq "${seeds%%..*}" "${seeds##*..}"); do
  ${CHAOS_BEFORE:-}
  "$bin/petrel-chaos" --stack "$stack" --seed "$seed" --bin "$bin" --json "$reports/$name-$seed.json" "${more[@]}" || bad=1
done
# A run that could not begin leaves no report; why, it has said.
[ -z "$(ls "$reports")" ] || "$bin/petrel-chaos" --table "$reports"/*.json || bad=1
[ -n "$out" ] || rm -r "$reports"
exit "$bad"
