# Redis, from the system's package. It keeps nothing that Petrel needs, so by default nothing on disk. Sourced.

REDIS_PORT=${REDIS_PORT:-6379}

redis_ports() { echo "$REDIS_PORT"; }
redis_memory_mb() { echo 64; }
redis_address() { echo "redis://127.0.0.1:$REDIS_PORT"; }

redis_tools() {
  need redis-server redis-server Redis
  local version; version=$(redis-server --version | sed -n 's/.* v=\([0-9]*\).*/\1/p')
  [ "$version" -ge 7 ] || die "Redis 7 or later is needed and this is $version: install a newer redis-server"
}

# The package manager verifies what it installs.
redis_fetch() { :; }

redis_launch() {
  local dir; dir=$(dir_of redis)
  mkdir -p "$dir/data"
  launch redis redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --protected-mode yes --daemonize no --dir "$dir/data" \
    --save '' --appendonly "${REDIS_APPENDONLY:-no}" ${REDIS_MAXMEMORY:+--maxmemory "$REDIS_MAXMEMORY"}
}

redis_is_ready() {
  local answer=
  { exec {redis_fd}<>"/dev/tcp/127.0.0.1/$REDIS_PORT"; } 2>/dev/null || return 1
  printf 'PING\r\n' >&"$redis_fd"
  read -r -t 2 answer <&"$redis_fd" || true
  exec {redis_fd}>&-
  [[ $answer == +PONG* ]]
}
