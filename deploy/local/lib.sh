# What the scripts beside this one share. Sourced.
#
# A server is a folder DIR/NAME (data, configuration, log, pid) and a file NAME.sh with the functions NAME_tools,
# NAME_ports, NAME_memory_mb, NAME_fetch, NAME_launch, NAME_is_ready and NAME_address.

all_servers=(redis cassandra pulsar)
run_dir=$(realpath -m "${PETREL_LOCAL_DIR:-$here/run}")
cache_dir=$(realpath -m "${PETREL_LOCAL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/petrel}")

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*" >&2; }
die() { say "error: $*"; exit 1; }

server_named() {
  local server
  for server in "${all_servers[@]}"; do [ "$1" != "$server" ] || { echo "$server"; return; }; done
  die "no server named '$1': ${all_servers[*]}"
}

dir_of() { echo "$run_dir/$1"; }

# One run at a time for each folder. The descriptor is closed for the servers, which would hold it.
lock() {
  mkdir -p "$run_dir"
  exec {lock_fd}>"$run_dir/lock"
  flock -n "$lock_fd" || { say "waiting for another up or down of $run_dir"; flock "$lock_fd"; }
}

# --- processes: known by pid and start time, so that a pid that was given again is never taken for ours

start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# The pid of a server that lives.
pid_of() {
  local pid started
  read -r pid started 2>/dev/null <"$(dir_of "$1")/pid" || return 1
  [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] || return 1
  # One that has ended and was not reaped does not live.
  ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null || return 1
  echo "$pid"
}

# Runs a command as the server, apart from this shell and its terminal.
launch() {
  local server=$1 dir; shift
  dir=$(dir_of "$server")
  setsid "$@" >"$dir/log" 2>&1 </dev/null {lock_fd}>&- &
  echo "$! $(start_time $!)" >"$dir/pid"
  "${server}_ports" >"$dir/ports"
  disown
}

wait_until_ready() {
  local server=$1 log; log=$(dir_of "$1")/log
  local until=$((SECONDS + ${PETREL_LOCAL_PATIENCE_S:-120}))
  until "${server}_is_ready"; do
    if ! pid_of "$server" >/dev/null; then
      tail -n 25 "$log" >&2
      die "$server ended while it started; the end of its log stands above, all of it in $log"
    fi
    if [ $SECONDS -ge $until ]; then
      tail -n 25 "$log" >&2
      die "$server was not ready in time; the end of its log stands above, all of it in $log"
    fi
    sleep 0.1
  done
}

# A server that runs has the ports that are asked for.
same_ports() {
  local ports; ports=$(cat "$(dir_of "$1")/ports" 2>/dev/null) || ports=
  [ "$ports" = "$("${1}_ports")" ] ||
    die "$1 runs on other ports ($ports): set the same ones, or stop it with deploy/local/down --only $1"
}

tell_to_stop() {
  local pid
  if pid=$(pid_of "$1"); then kill "$pid" 2>/dev/null || true; fi
}

# Ends a server and waits for its end; one that takes longer than a minute is killed.
stop() {
  local pid i
  [ -f "$(dir_of "$1")/pid" ] || return 0
  if pid=$(pid_of "$1"); then kill "$pid" 2>/dev/null || true; fi
  for ((i = 0; i < 600; i++)); do
    pid_of "$1" >/dev/null || break
    sleep 0.1
  done
  if pid_of "$1" >/dev/null; then
    say "$1 (pid $pid) did not end within 60 s and is killed"
    kill -9 "$pid" 2>/dev/null || true
  fi
  rm -f "$(dir_of "$1")/pid"
  say "$1 is stopped"
}

# --- what can be missing

# need TOOL PACKAGE WHY: a program, by apt where that is allowed.
need() {
  command -v "$1" >/dev/null && return
  if [ -n "$is_installing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $2"
    apt-get update -qq >&2 || die "apt-get update failed: see above"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null ||
      die "apt-get install $2 failed: see above"
    command -v "$1" >/dev/null && return
  fi
  die "$3 needs '$1': apt-get install $2, or run deploy/local/up --install as root"
}

# The Java that the servers run on.
java_program() {
  if [ -n "${JAVA_HOME:-}" ]; then echo "$JAVA_HOME/bin/java"; else echo java; fi
}

need_java() {
  local java version
  [ -n "${JAVA_HOME:-}" ] || need java openjdk-17-jre-headless "$1"
  java=$(java_program)
  version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || version=
  case "$version" in
    17|21) ;;
    '') die "$java does not run: set JAVA_HOME to a Java 17 or 21" ;;
    *) die "$1 needs Java 17 or 21 and $java is $version: apt-get install openjdk-17-jre-headless, or set JAVA_HOME" ;;
  esac
}

# is_listening [ADDRESS:]PORT: somebody does.
is_listening() {
  local at=127.0.0.1:$1
  [[ $1 != *:* ]] || at=$1
  (exec 3<>"/dev/tcp/${at%:*}/${at##*:}") 2>/dev/null
}

# need_ports SERVER [ADDRESS:]PORT...: each is free; one that a killed server still holds gets a few seconds.
need_ports() {
  local server=$1 port i holder; shift
  for port in "$@"; do
    for ((i = 0; i < 50; i++)); do
      is_listening "$port" || continue 2
      sleep 0.1
    done
    holder=$(ss -Hltnp "sport = :${port##*:}" 2>/dev/null | sed -n 's/.*users:((\(.*\))).*/ by \1/p' | head -n 1)
    die "port $port, which $server needs, is in use$holder: stop that, or choose another (deploy/local/up --help)"
  done
}

need_memory() {
  local server needed=0 available
  for server in "$@"; do needed=$((needed + $("${server}_memory_mb"))); done
  available=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
  [ "$available" -ge "$needed" ] ||
    die "$needed MB of memory are needed for $* and $available MB are available: close something, or lower *_HEAP, *_DIRECT"
}

# As the JVM writes sizes: 512m, 1g.
megabytes() {
  case "$1" in
    *[gG]) echo $((${1%[gG]} * 1024)) ;;
    *[mM]) echo "${1%[mM]}" ;;
    *) die "a size is written like 512m or 1g, not '$1'" ;;
  esac
}

# --- downloads

# need_download_tools NAME FOLDER: what runs it, and what downloads it where FOLDER is not there yet.
need_download_tools() {
  need_java "$1"
  [ -d "$2" ] || need mvn maven "downloading $1"
}

# begin_download WHAT MEGABYTES FOLDER: room for it, and an empty folder.
begin_download() {
  say "downloading $1"
  need_room_mb "$2"
  rm -rf "$3"
  mkdir -p "$3"
}

need_room_mb() {
  local available
  mkdir -p "$cache_dir"
  available=$(df -Pm "$cache_dir" | awk 'NR == 2 { print $4 }')
  [ "$available" -ge "$1" ] || die "$cache_dir has $available MB of room and $1 MB are needed: free some, or set PETREL_LOCAL_CACHE"
}

# maven ARGUMENT...: a goal of the dependency plugin. Maven verifies what it downloads against the registry's own sums.
maven() {
  local goal=$1; shift
  mvn --batch-mode --no-transfer-progress --quiet --strict-checksums \
    "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:$goal" "$@" 2>&1 | uncoloured >&2 ||
    die "maven could not download: see above; behind a proxy or mirror, set it in ~/.m2/settings.xml"
}

# Where Maven keeps what it has downloaded.
maven_repository() {
  mvn --batch-mode --quiet org.apache.maven.plugins:maven-help-plugin:3.4.0:evaluate \
    -Dexpression=settings.localRepository -DforceStdout 2>/dev/null | uncoloured
}

# Maven resets colours at its end even where it has used none.
uncoloured() { sed 's/\x1b\[[0-9;]*m//g'; }

# --- Java

# The collector with the least memory for small heaps; C2 costs more of a short run than it gives.
java_flags() {
  echo "-XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -XX:+PerfDisableSharedMem -Djava.net.preferIPv4Stack=true"
  [ "${PETREL_LOCAL_JIT:-c1}" = full ] || echo "-XX:TieredStopAtLevel=1"
}

# Packages of the JDK that a server reaches into.
opened() { printf -- '--add-opens=%s=ALL-UNNAMED ' "$@"; }
exported() { printf -- '--add-exports=%s=ALL-UNNAMED ' "$@"; }
