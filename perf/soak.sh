#!/usr/bin/env bash
# Soaks a Petrel of its own: messages, churn, recalls and reads among users of whom a tenth is away at any time, for an
# hour or --minutes M, while the server's memory, descriptors and threads are read from /proc. The run is
# verified, its history is judged by the simulation's judge, and the series must be flat.
#   perf/soak.sh [--minutes M] [--rate N] [--out DIR]
#   PROFILE    cargo's profile (default: release)
# Leaves DIR/soak.csv and DIR/soak.svg (default: target/soak). A message takes about 1 kB of history while it runs, and the
# judge as much memory.
# An hour for the record: perf/soak.sh --out perf/results
# Flat means: the median of the last fifth of what is judged is at most a tenth and 16 MiB (memory), 16 (descriptors) or none
# (threads) above the median of its first fifth. What is judged begins at 20 minutes: before, the log's segments and the
# store's tables in memory are still filling up to their bounds. A run of less than 30 minutes is judged from two fifths on,
# and not by its memory. Exit code 1: a violation, or not flat.
set -euo pipefail
minutes=60 rate=200 out=
while [ $# -gt 0 ]; do
  case "$1" in
    --minutes) minutes=$2; shift 2 ;;
    --rate) rate=$2; shift 2 ;;
    --out) out=$(realpath -m "$2"); shift 2 ;;
    *) echo "soak.sh: --minutes M, --rate N or --out DIR, not '$1'" >&2; exit 2 ;;
  esac
done
source "$(dirname "${BASH_SOURCE[0]}")/server.sh"
out=${out:-$(realpath -m "${CARGO_TARGET_DIR:-target}/soak")}
mkdir -p "$out"
seconds=$(awk "BEGIN { print int($minutes * 60) }")
# A point for every second pixel of the plot.
every=$((seconds > 720 ? seconds / 360 : 1))
cat >"$work/soak.toml" <<TOML
users = 300
devices = 2
payload_bytes = [{ bytes = 64, weight = 8 }, { bytes = 1024, weight = 1 }]
phases = [{ name = "soak", duration_s = $seconds.0, rate = $rate.0 }]
offline_share = 0.1
offline_s = 5.0
churn_per_s = 10.0
recall_share = 0.02
read_share = 0.3
# What it proves does not rest on the generator's pace.
lag_p99_ms_max = 10_000.0
lag_max_ms_max = 60_000.0
TOML

# Seconds since the start, resident KiB, descriptors, threads, KiB of data. Files of the store's tables are not counted: they
# become more with the data, and fjall keeps at most 900 of them open.
sample() {
  local started=$SECONDS resident threads
  while read -r resident threads < <(awk '/^VmRSS/ { rss = $2 } /^Threads/ { print rss, $2 }' "/proc/$server/status" 2>/dev/null); do
    echo "$((SECONDS - started)),$resident,$(find "/proc/$server/fd" -mindepth 1 ! -lname "$data/store/*" 2>/dev/null | wc -l),$threads,$(du -sk "$data" 2>/dev/null | cut -f1)"
    sleep "$every"
  done
}

build
start "$work/data"
echo "second,resident_kib,descriptors,threads,data_kib" >"$out/soak.csv"
sample >>"$out/soak.csv" &
sampler=$!
code=0
"$bin/petrel-loadgen" run "$work/soak.toml" --http "$http" --edge "$edge" --data "$data" --history "$work/history" || code=$?
[ "$code" -le 1 ] || die "the load could not be made"
kill "$sampler" 2>/dev/null || true
wait "$sampler" 2>/dev/null || true
stop
if ! "$bin/petrel-loadgen" check "$work/history"; then
  mv "$work/history" "$out/history"
  echo "soak.sh: the history is kept: petrel-loadgen check $out/history" >&2
  code=1
fi
awk -f perf/plot.awk "$out/soak.csv" >"$out/soak.svg"
echo "soak.sh: $out/soak.csv, $out/soak.svg"

awk -F, -v seconds="$seconds" '
  function median(from, to, column,   n, i, j, sorted, swap) {
    n = 0
    for (i = from; i < to; i++) sorted[n++] = value[i, column]
    for (i = 1; i < n; i++) for (j = i; j > 0 && sorted[j] < sorted[j - 1]; j--) {
      swap = sorted[j]; sorted[j] = sorted[j - 1]; sorted[j - 1] = swap
    }
    return sorted[int(n / 2)]
  }
  BEGIN { count = 0; is_long = seconds >= 1800; begin = is_long ? 1200 : 0.4 * seconds }
  # What comes after the load is not judged.
  NR > 1 && $1 >= begin && $1 <= seconds { for (c = 2; c <= 4; c++) value[count, c] = $c + 0; count++ }
  END {
    if (count < 15) { print "soak.sh: too short to judge: " count " samples"; exit 1 }
    name[2] = "resident KiB"; name[3] = "descriptors"; name[4] = "threads"
    share[2] = 0.1; more[2] = 16384; share[3] = 0; more[3] = 16; share[4] = 0; more[4] = 0
    for (c = 2; c <= 4; c++) {
      first = median(0, int(count * 0.2), c)
      last = median(int(count * 0.8), count, c)
      max = first * (1 + share[c]) + more[c]
      is_judged = c > 2 || is_long
      verdict = !is_judged ? "too early to judge" : last <= max ? "flat" : "NOT FLAT"
      printf "%s: %d from second %d on, %d at the end: %s\n", name[c], first, begin, last, verdict
      if (is_judged && last > max) failed = 1
    }
    exit failed
  }' "$out/soak.csv" || code=1
exit "$code"
