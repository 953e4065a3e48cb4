# A node of Cassandra 5.0, alone or one of several, from its jars in the Java registry. Sourced.

CASSANDRA_ADDRESS=${CASSANDRA_ADDRESS:-127.0.0.1}
CASSANDRA_PORT=${CASSANDRA_PORT:-9042}
CASSANDRA_STORAGE_PORT=${CASSANDRA_STORAGE_PORT:-7000}
CASSANDRA_HEAP=${CASSANDRA_HEAP:-512m}
CASSANDRA_DIRECT=${CASSANDRA_DIRECT:-256m}
cassandra_version=$(sed -n 's:.*<version>\(5[^<]*\)</version>.*:\1:p' "$here/cassandra.pom.xml")
cassandra_jars=$cache_dir/cassandra-$cassandra_version

cassandra_ports() { echo "$CASSANDRA_ADDRESS:$CASSANDRA_PORT $CASSANDRA_ADDRESS:$CASSANDRA_STORAGE_PORT"; }
cassandra_memory_mb() { echo $(($(megabytes "$CASSANDRA_HEAP") + $(megabytes "$CASSANDRA_DIRECT") + 200)); }
cassandra_address() { echo "$CASSANDRA_ADDRESS:$CASSANDRA_PORT"; }

cassandra_tools() { need_download_tools Cassandra "$cassandra_jars"; }

cassandra_fetch() {
  [ ! -d "$cassandra_jars" ] || return 0
  local new=$cassandra_jars.new
  begin_download "Cassandra $cassandra_version (about 70 MB)" 300 "$new"
  # Without the natives of other systems.
  maven copy-dependencies -f "$here/cassandra.pom.xml" -DincludeScope=runtime -DoutputDirectory="$new" \
    -DexcludeClassifiers=osx-x86_64,osx-aarch_64,windows-x86_64,linux-riscv64 \
    -DexcludeArtifactIds=netty-transport-classes-kqueue,netty-transport-native-kqueue
  (cd "$new" && sha256sum --check --strict --quiet "$here/cassandra.sha256" >&2) ||
    die "a file of Cassandra is not the one that deploy/local/cassandra.sha256 names: see above; it is left in $new"
  local unknown; unknown=$(comm -23 <(ls "$new" | sort) <(awk '{ print $2 }' "$here/cassandra.sha256" | sort))
  [ -z "$unknown" ] || die "files came that deploy/local/cassandra.sha256 does not name: $unknown"
  mv "$new" "$cassandra_jars"
}

cassandra_yaml() {
  local data=$1
  cat <<Y
cluster_name: petrel-local
num_tokens: 1
initial_token: "${CASSANDRA_TOKEN:-0}"
auto_bootstrap: false
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
dynamic_snitch: false
seed_provider: [{class_name: org.apache.cassandra.locator.SimpleSeedProvider, parameters: [{seeds: "${CASSANDRA_SEED:-$CASSANDRA_ADDRESS}:$CASSANDRA_STORAGE_PORT"}]}]
listen_address: $CASSANDRA_ADDRESS
rpc_address: $CASSANDRA_ADDRESS
storage_port: $CASSANDRA_STORAGE_PORT
native_transport_port: $CASSANDRA_PORT
data_file_directories: [$data/data]
commitlog_directory: $data/commitlog
saved_caches_directory: $data/saved_caches
hints_directory: $data/hints
cdc_raw_directory: $data/cdc_raw
hinted_handoff_enabled: false
auto_snapshot: false
commitlog_segment_size: 16MiB
commitlog_total_space: 256MiB
memtable: {configurations: {trie: {class_name: TrieMemtable}, default: {inherits: trie}}}
memtable_heap_space: 96MiB
memtable_offheap_space: 96MiB
memtable_allocation_type: offheap_objects
sstable: {selected_format: bti}
storage_compatibility_mode: NONE
disk_access_mode: mmap_index_only
disk_optimization_strategy: ssd
concurrent_reads: 8
# With commitlog_sync batch, a row holds a thread until the disk has it: what reaches the disk at once is this many rows.
concurrent_writes: 128
concurrent_compactors: 1
native_transport_max_threads: 64
key_cache_size: 16MiB
counter_cache_size: 0MiB
file_cache_size: 32MiB
read_request_timeout: 10s
write_request_timeout: 10s
range_request_timeout: 20s
request_timeout: 20s
truncate_request_timeout: 60s
Y
  case "${CASSANDRA_COMMITLOG:-batch}" in
    # A write is answered when it is on disk, so a killed node loses nothing that it answered.
    batch) echo "commitlog_sync: batch" ;;
    periodic) printf 'commitlog_sync: periodic\ncommitlog_sync_period: 1000ms\n' ;;
    *) die "CASSANDRA_COMMITLOG is batch or periodic, not '$CASSANDRA_COMMITLOG'" ;;
  esac
  if [ -n "${CASSANDRA_CONF:-}" ]; then cat "$CASSANDRA_CONF"; fi
}

cassandra_launch() {
  local dir; dir=$(dir_of cassandra)
  mkdir -p "$dir/data/triggers"
  cassandra_yaml "$dir/data" >"$dir/cassandra.yaml"
  cat >"$dir/logback.xml" <<'X'
<configuration scan="false">
  <statusListener class="ch.qos.logback.core.status.NopStatusListener"/>
  <appender name="log" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level [%thread] %logger{0} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="log"/></root>
</configuration>
X
  # A node alone has nobody to wait for.
  MALLOC_ARENA_MAX=2 launch cassandra "$(java_program)" -cp "$cassandra_jars/*" \
    -Xms128m -Xmx"$CASSANDRA_HEAP" -Xss256k -XX:MaxDirectMemorySize="$CASSANDRA_DIRECT" $(java_flags) \
    $(exported java.base/jdk.internal.misc java.base/java.lang.ref java.management.rmi/com.sun.jmx.remote.internal.rmi \
      java.rmi/sun.rmi.registry java.rmi/sun.rmi.server java.sql/java.sql jdk.attach/sun.tools.attach \
      jdk.compiler/com.sun.tools.javac.file jdk.unsupported/sun.misc) \
    $(opened java.base/java.io java.base/java.lang java.base/java.lang.module java.base/java.lang.reflect \
      java.base/java.util java.base/jdk.internal.loader java.base/jdk.internal.math java.base/jdk.internal.module \
      java.base/jdk.internal.ref java.base/jdk.internal.reflect java.base/jdk.internal.util.jar java.base/sun.nio.ch \
      jdk.compiler/com.sun.tools.javac jdk.management/com.sun.management.internal) \
    -Djdk.attach.allowAttachSelf=true -Dio.netty.tryReflectionSetAccessible=true -Djava.awt.headless=true \
    -Dcassandra.config="file://$dir/cassandra.yaml" -Dcassandra.storagedir="$dir/data" \
    -Dcassandra.triggers_dir="$dir/data/triggers" -Dlogback.configurationFile="file://$dir/logback.xml" \
    -Dcassandra-foreground=yes -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=0 \
    -Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.load_ring_state=false \
    org.apache.cassandra.service.CassandraDaemon
}

cassandra_is_ready() {
  is_listening "$CASSANDRA_ADDRESS:$CASSANDRA_PORT" && grep -q 'Startup complete' "$(dir_of cassandra)/log"
}
