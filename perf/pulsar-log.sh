#!/usr/bin/env bash
# Measures the log on Pulsar against a broker of its own, which is stopped and removed at the end: perf/pulsar-log.sh [SECONDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PETREL_LOCAL_DIR=$(mktemp -d)
export PETREL_LOCAL_DIR PETREL_LOCAL_JIT=full
export PULSAR_PORT=${PULSAR_PORT:-27650} PULSAR_ADMIN_PORT=${PULSAR_ADMIN_PORT:-27090} PULSAR_BOOKIE_PORT=${PULSAR_BOOKIE_PORT:-27181}
trap 'deploy/local/down --wipe; rm -rf "$PETREL_LOCAL_DIR"' EXIT
cargo build --profile bench-dev --locked -p petrel-bus --features pulsar --example bench_log
deploy/local/up --only pulsar
"${CARGO_TARGET_DIR:-target}/bench-dev/examples/bench_log" --seconds "${1:-5}" \
  --pulsar "pulsar://127.0.0.1:$PULSAR_PORT" --admin "http://127.0.0.1:$PULSAR_ADMIN_PORT"
