# For engines.sh and peers.sh: the parts of a comparison, run one after the other. Sourced; the caller has set
# -euo pipefail, `what` (engines or peers) and `title`.
#   part NAME MINUTES SERVERS ARGUMENT…   one part: petrel-engines with the first SERVERS servers (0: all); takes about MINUTES
#   part NAME MINUTES - COMMAND…          one part: another command that prints Markdown
#   compare ARGUMENT…                     runs what the command line asked for, after the caller has filled `servers`
# ROUNDS, TIME and WARM_UP in arguments stand for --rounds, --milliseconds and --warm-up-milliseconds with their values.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
profile=${PROFILE:-release}
bin=${CARGO_TARGET_DIR:-target}/$profile
results=perf/results/engines.md
rounds=15 milliseconds=700 warm_up=200
servers=() names=() notes=()
declare -A minutes selected plan

die() { echo "$(basename "$0"): $*" >&2; exit 1; }

build() { [ -n "${NO_BUILD:-}" ] || cargo build --locked --profile "$profile" -p petrel-engines --all-features; }

part() {
  local name=$1
  names+=("$name") minutes[$name]=$2 selected[$name]=$3
  shift 3
  plan[$name]=$*
}

# The parts that both comparisons have: every payload and number of connections as fast as answers come, rates that leave
# the servers time, and the latency when there is little to do.
common_parts() {
  local connections
  part echo 3 0 echo ROUNDS TIME WARM_UP
  part rate-50000 3 0 echo ROUNDS TIME WARM_UP --rate 50000
  part rate-200000 3 0 echo ROUNDS TIME WARM_UP --rate 200000
  part latency 4 0 echo ROUNDS WARM_UP --milliseconds 1500 --rate 1000
  for connections in 100 1000; do
    part "matrix-$connections" 7 0 echo ROUNDS TIME WARM_UP --connections "$connections" --payload 20,128,1024,16384
  done
  part matrix-10000-small 7 0 echo ROUNDS TIME WARM_UP --connections 10000 --payload 20,128
  part matrix-10000-large 8 0 echo ROUNDS TIME WARM_UP --connections 10000 --payload 1024,16384
  part idle 1 0 idle --rounds 3
}

run_part() {
  local name=$1 given=("${servers[@]}")
  local arguments=${plan[$name]}
  arguments=${arguments//ROUNDS/--rounds $rounds}
  arguments=${arguments//TIME/--milliseconds $milliseconds}
  arguments=${arguments//WARM_UP/--warm-up-milliseconds $warm_up}
  if [ "${selected[$name]}" = - ]; then
    $arguments
    return
  fi
  # Each server is two words: --server and NAME=COMMAND.
  [ "${selected[$name]}" = 0 ] || given=("${servers[@]:0:$((2 * selected[$name]))}")
  # shellcheck disable=SC2086
  "$bin/petrel-engines" $arguments "${given[@]}" --json "$out/$what.json"
}

compare() {
  local asked=() out=target/perf is_recorded=
  while [ $# -gt 0 ]; do
    case $1 in
      --list)
        for name in "${names[@]}"; do echo "$name ${minutes[$name]} min"; done
        return ;;
      --short) rounds=3 milliseconds=400 ;;
      --rounds) rounds=$2; shift ;;
      --record) is_recorded=1 ;;
      --out) out=$2; shift ;;
      -*) die "unknown option $1: see the head of the script" ;;
      *) [ -n "${plan[$1]:-}" ] || die "no part $1: choose from ${names[*]}"; asked+=("$1") ;;
    esac
    shift
  done
  [ "${#asked[@]}" -gt 0 ] || asked=("${names[@]}")
  mkdir -p "$out"
  local file=$out/$what.md
  {
    echo "## $title: ${asked[*]}"
    echo
    echo "$(date -u +%F), Linux $(uname -r), $(nproc) cores of $(sed -n 's/^model name.*: //p;T;q' /proc/cpuinfo), profile $profile, commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    for note in "${notes[@]}"; do echo "$note"; done
    echo
    for name in "${asked[@]}"; do
      echo "$what: $name, about ${minutes[$name]} min" >&2
      run_part "$name"
      echo
    done
  } | tee "$file"
  [ -z "$is_recorded" ] || { echo; cat "$file"; } >>"$results"
}
