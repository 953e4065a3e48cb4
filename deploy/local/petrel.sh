# Petrel's own services on top of the servers: two edges, two routers, two persists. Sourced.

PETREL_PORT=${PETREL_PORT:-10000}
PETREL_NAME=${PETREL_NAME:-local}
petrel_services=(persist1 persist2 router1 router2 edge1 edge2)

# service NAME: its kind, its number, its place among all, and its ports: those for clients, calls and health.
service() {
  kind=${1%[0-9]} number=${1##*[a-z]}
  local place; place=$(printf '%s\n' "${petrel_services[@]}" | grep -nx "$1" | cut -d: -f1)
  calls=$((PETREL_PORT + 30 + place)) health=$((PETREL_PORT + 40 + place)) front=
  case "$kind" in
    edge) front=$((PETREL_PORT + number)) ;;
    router) front=$((PETREL_PORT + 20 + number)) ;;
  esac
}

petrel_programs() {
  petrel_bin=${PETREL_BIN:-}
  [ -z "$petrel_bin" ] || return 0
  local profile=${PETREL_LOCAL_PROFILE:-release} root=$here/../..
  command -v cargo >/dev/null || die "no Rust toolchain to build Petrel with: install rustup, or set PETREL_BIN"
  command -v protoc >/dev/null || need protoc protobuf-compiler "the client of Pulsar"
  say "building Petrel's services ($profile)"
  (cd "$root" && cargo build --quiet --locked --profile "$profile" \
    -p petrel-edge -p petrel-router -p petrel-persist -p petrel-loadgen \
    --features petrel-edge/service,petrel-router/service,petrel-persist/service)
  petrel_bin=$(realpath "${CARGO_TARGET_DIR:-$root/target}/$profile")
}

petrel_launch() {
  local kind number calls health front dir=$run_dir/petrel
  service "$1"
  mkdir -p "$dir" "$(dir_of "$1")"
  [ -f "$dir/keys.json" ] || "$petrel_bin/petrel-router" keys new "$dir/keys.json" >/dev/null
  local options=(--id "$number" --calls "127.0.0.1:$calls" --health "127.0.0.1:$health"
    --pulsar-broker "pulsar://127.0.0.1:$PULSAR_PORT" --pulsar-admin "http://127.0.0.1:$PULSAR_ADMIN_PORT"
    --pulsar-namespace "$PETREL_NAME" --pulsar-partitions "${PETREL_PARTITIONS:-4}")
  local routers; routers=$(for r in router1 router2; do (service "$r"; echo "127.0.0.1:$calls"); done | paste -sd,)
  case "$kind" in
    edge)
      options+=(--listen "127.0.0.1:$front" --keys "$dir/keys.json" --state "$(dir_of "$1")" --routers "$routers"
        --shards "${PETREL_SHARDS:-2}" --sockets-per-shard "${PETREL_SOCKETS:-8000}") ;;
    router)
      options+=(--http "127.0.0.1:$front" --keys "$dir/keys.json" --redis-prefix "$PETREL_NAME:"
        --redis-urls "redis://127.0.0.1:$REDIS_PORT") ;;
    persist)
      options+=(--routers "$routers" --cassandra-nodes "127.0.0.1:$CASSANDRA_PORT" --cassandra-replicas 1
        --cassandra-keyspace "petrel_$PETREL_NAME") ;;
  esac
  launch "$1" "$petrel_bin/petrel-$kind" "${options[@]}"
}

petrel_is_ready() {
  local kind number calls health front answer=
  service "$1"
  { exec {ready_fd}<>"/dev/tcp/127.0.0.1/$health"; } 2>/dev/null || return 1
  printf 'GET /readyz HTTP/1.0\r\n\r\n' >&"$ready_fd"
  read -r -t 2 answer <&"$ready_fd" || true
  exec {ready_fd}>&-
  [[ $answer == *\ 200\ * ]]
}

petrel_ports() {
  local kind number calls health front
  service "$1"
  echo "$calls $health $front"
}

for petrel_service in "${petrel_services[@]}"; do
  eval "${petrel_service}_ports() { petrel_ports $petrel_service; }
    ${petrel_service}_is_ready() { petrel_is_ready $petrel_service; }"
done

petrel_up() {
  local name started=()
  petrel_programs
  for name in "${petrel_services[@]}"; do
    if pid_of "$name" >/dev/null; then same_ports "$name"; continue; fi
    # shellcheck disable=SC2046 # one word each
    need_ports "$name" $("${name}_ports")
    started+=("$name")
  done
  for name in "${started[@]}"; do petrel_launch "$name"; done
  for name in "${petrel_services[@]}"; do wait_until_ready "$name"; done
  local kind number calls health front edges=() fronts=() places=()
  for name in "${petrel_services[@]}"; do
    service "$name"
    places+=("  $name  pid $(pid_of "$name")  http://127.0.0.1:$health/{healthz,readyz,metrics}  log $(dir_of "$name")/log")
    case "$kind" in
      edge) edges+=("ws://127.0.0.1:$front/websocket") ;;
      router) fronts+=("http://127.0.0.1:$front") ;;
    esac
  done
  local all_edges; all_edges=$(IFS=,; echo "${edges[*]}")
  cat <<END
Petrel is up: two edges, two routers, two persists.
  clients   ${edges[*]}
  HTTP      ${fronts[*]}
$(printf '%s\n' "${places[@]}")
Verify it:
  $petrel_bin/petrel-loadgen run perf/scenarios/cluster.toml --http ${fronts[0]} --data $run_dir/petrel --edge $all_edges
END
}
