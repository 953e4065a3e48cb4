#!/usr/bin/env bash
# Measures Petrel as processes of their own on real servers: two edges, two routers and two persists on Pulsar, Cassandra
# and Redis, all on this machine, with the CPU of each process a message and its share of all. Prints tables in markdown;
# the reports and the tables stay in target/cluster.
#   perf/cluster.sh                        cluster (200,000 messages, verified) and cluster-low (latency)
#   perf/cluster.sh cluster-steady         these scenarios of perf/scenarios only
#   RATE=1800 perf/cluster.sh cluster      another rate than the scenario's
#   KEEP=1 perf/cluster.sh                 leaves running what it has started; what ran before is always left
#   WARM_UP_S=0 perf/cluster.sh            seconds of load that come before, so that the JVMs have compiled (default 20)
# Where the servers are and how they are started stands in deploy/local/up; here their JVMs compile fully, since a message
# is measured and not a start. Exit code 1: a run was not clean; the tables say which.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PETREL_LOCAL_JIT=${PETREL_LOCAL_JIT:-full}
run_dir=$(realpath -m "${PETREL_LOCAL_DIR:-deploy/local/run}")
results=${CARGO_TARGET_DIR:-target}/cluster
servers=(edge1 edge2 router1 router2 persist1 persist2)
backends=(pulsar cassandra redis)
[ $# -gt 0 ] || set -- cluster cluster-low
mkdir -p "$results"
scratch=$(mktemp -d)

die() { echo "cluster: $*" >&2; exit 2; }
pid_of() { cut -d' ' -f1 "$run_dir/$1/pid"; }

has_run=
for name in "${servers[@]}" "${backends[@]}"; do
  if [ -f "$run_dir/$name/pid" ] && [ -d "/proc/$(pid_of "$name")" ]; then has_run=1; fi
done
cleanup() {
  rm -rf "$scratch"
  [ -n "$has_run" ] || [ -n "${KEEP:-}" ] || deploy/local/down --wipe
}
trap cleanup EXIT
deploy/local/up --petrel >"$scratch/up" || die "the cluster did not start"
cat "$scratch/up" >&2
# The line after "Verify it:" is the command that runs a scenario.
read -r -a verify <<<"$(sed -n '/^Verify it:/{n;p}' "$scratch/up")"
[ ${#verify[@]} -gt 3 ] || die "deploy/local/up did not say how to verify it"
loadgen=${verify[0]} place=("${verify[@]:3}")
processes=()
for name in "${servers[@]}"; do processes+=(--server "$name=$(pid_of "$name")"); done
for name in "${backends[@]}"; do processes+=(--backend "$name=$(pid_of "$name")"); done

# load SCENARIO ARGUMENT...: runs it; what it printed is in FILE.txt beside the report.
load() { "$loadgen" run "$1" "${place[@]}" "${@:2}"; }

warm_up_s=${WARM_UP_S:-20}
if [ "$warm_up_s" != 0 ]; then
  echo "cluster: warming up for $warm_up_s s" >&2
  printf 'users = 1000\nrate = 500.0\nduration_s = %s.0\nlag_p99_ms_max = 60000.0\nlag_max_ms_max = 60000.0\n' \
    "$warm_up_s" >"$scratch/warm-up.toml"
  load "$scratch/warm-up.toml" >"$results/warm-up.txt" 2>&1 ||
    { tail -40 "$results/warm-up.txt" >&2; die "the load before the measurement was not clean"; }
fi

reports=()
failed=0
for name in "$@"; do
  scenario=$scratch/$name.toml
  cp "perf/scenarios/$name.toml" "$scenario"
  if [ -n "${RATE:-}" ]; then sed -i "s/^rate = .*/rate = $RATE.0/" "$scenario"; name=$name-$RATE; fi
  echo "cluster: $name" >&2
  code=0
  load "$scenario" "${processes[@]}" --json "$results/$name.json" >"$results/$name.txt" 2>&1 || code=$?
  if [ "$code" -ne 0 ]; then
    failed=1
    tail -40 "$results/$name.txt" >&2
  fi
  [ "$code" -ne 2 ] || exit 2
  reports+=("$results/$name.json")
done
"$loadgen" table "${reports[@]}" | tee "$results/tables.md"
exit "$failed"
