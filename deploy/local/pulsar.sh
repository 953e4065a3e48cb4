# Pulsar 4.0 standalone: a broker and a bookie in one process, metadata in RocksDB, no functions worker. Sourced.

PULSAR_PORT=${PULSAR_PORT:-6650}
PULSAR_ADMIN_PORT=${PULSAR_ADMIN_PORT:-8090}
PULSAR_BOOKIE_PORT=${PULSAR_BOOKIE_PORT:-3181}
PULSAR_HEAP=${PULSAR_HEAP:-512m}
PULSAR_DIRECT=${PULSAR_DIRECT:-512m}
pulsar_version=4.0.8
pulsar_archive=pulsar-server-distribution-$pulsar_version-bin.tar.gz
pulsar_sha512=65b769b10696cdfebf7fc5bcdc95dd663702e27051e616c1a13cb100e91279525be35352171befe7b0011176330aab29bd0a6c8a0f2f0646641af46d2e33cbd6
pulsar_home=$cache_dir/apache-pulsar-$pulsar_version

pulsar_ports() { echo "$PULSAR_PORT $PULSAR_ADMIN_PORT $PULSAR_BOOKIE_PORT"; }
pulsar_memory_mb() { echo $(($(megabytes "$PULSAR_HEAP") + $(megabytes "$PULSAR_DIRECT") + 200)); }
pulsar_address() { echo "pulsar://127.0.0.1:$PULSAR_PORT, admin http://127.0.0.1:$PULSAR_ADMIN_PORT"; }

pulsar_tools() { need_download_tools Pulsar "$pulsar_home"; }

pulsar_fetch() {
  [ ! -d "$pulsar_home" ] || return 0
  local new=$cache_dir/pulsar.new
  begin_download "Pulsar $pulsar_version (245 MB)" 1000 "$new"
  maven copy -Dartifact="org.apache.pulsar:pulsar-server-distribution:$pulsar_version:tar.gz:bin" -DoutputDirectory="$new"
  (cd "$new" && echo "$pulsar_sha512  $pulsar_archive" | sha512sum --check --strict --quiet >&2) ||
    die "$new/$pulsar_archive is not the one whose SHA-512 stands in deploy/local/pulsar.sh"
  tar -xzf "$new/$pulsar_archive" -C "$new" --exclude='*/instances' --exclude='*/examples'
  mv "$new/apache-pulsar-$pulsar_version" "$pulsar_home"
  rm -rf "$new"
  # Maven's own copy is as large and not needed again.
  rm -f "$(maven_repository)/org/apache/pulsar/pulsar-server-distribution/$pulsar_version/"*.tar.gz
}

# What differs from the distribution's standalone.conf. With a failover delay above 0 the broker gives a reader that takes over
# new records before those that were not acknowledged; Petrel refuses such a broker.
pulsar_settings() {
  cat <<C
brokerServicePort=$PULSAR_PORT
webServicePort=$PULSAR_ADMIN_PORT
bindAddress=127.0.0.1
advertisedAddress=127.0.0.1
listeningInterface=lo
allowEphemeralPorts=true
webSocketServiceEnabled=false
allowAutoTopicCreation=false
brokerDeleteInactiveTopicsEnabled=false
activeConsumerFailoverDelayTimeMillis=0
backlogQuotaCheckIntervalInSeconds=5
managedLedgerMaxEntriesPerLedger=5000000
managedLedgerNewEntriesCheckDelayInMillis=0
managedLedgerCacheSizeMB=64
dbStorage_writeCacheMaxSizeMb=64
dbStorage_readAheadCacheMaxSizeMb=32
dbStorage_rocksDB_blockCacheSize=16777216
journalMaxSizeMB=64
journalPreAllocSizeMB=4
numIOThreads=2
numOrderedExecutorThreads=2
numHttpServerThreads=8
numExecutorThreadPoolSize=2
numCacheExecutorThreadPoolSize=2
topicOrderedExecutorThreadNum=2
numWorkerThreadsForNonPersistentTopic=2
managedLedgerNumSchedulerThreads=2
bookkeeperClientNumWorkerThreads=2
bookkeeperClientNumIoThreads=2
bookkeeperNumberOfChannelsPerBookie=2
serverNumIOThreads=2
numAddWorkerThreads=1
numReadWorkerThreads=2
C
  if [ -n "${PULSAR_CONF:-}" ]; then cat "$PULSAR_CONF"; fi
}

pulsar_launch() {
  local dir; dir=$(dir_of pulsar)
  mkdir -p "$dir/data"
  pulsar_settings >"$dir/settings"
  # Our value where the distribution has the key, else at the end.
  awk -F= 'NR == FNR { value[$1] = $0; next }
    /^[A-Za-z_0-9]+=/ && $1 in value { if (!($1 in done)) print value[$1]; done[$1]; next }
    { print }
    END { for (key in value) if (!(key in done)) print value[key] }' \
    "$dir/settings" "$pulsar_home/conf/standalone.conf" >"$dir/standalone.conf"
  cat >"$dir/log4j2.xml" <<'X'
<Configuration status="WARN">
  <Appenders>
    <Console name="log"><PatternLayout pattern="%d{ISO8601} %-5level [%t] %logger{1.} - %msg%n%xEx"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="org.eclipse.jetty.server.RequestLog" level="warn"/>
    <Root level="info"><AppenderRef ref="log"/></Root>
  </Loggers>
</Configuration>
X
  local metadata=org.apache.pulsar.metadata.bookkeeper.PulsarMetadata
  MALLOC_ARENA_MAX=2 launch pulsar "$(java_program)" -cp "$pulsar_home/lib/*" \
    -Xms128m -Xmx"$PULSAR_HEAP" -XX:MaxDirectMemorySize="$PULSAR_DIRECT" $(java_flags) \
    $(opened java.base/java.io java.base/java.nio java.base/java.util.zip java.base/jdk.internal.misc \
      java.base/jdk.internal.platform java.management/sun.management jdk.management/com.sun.management.internal) \
    --enable-native-access=ALL-UNNAMED -Dpulsar.allocator.exit_on_oom=true -Dio.netty.tryReflectionSetAccessible=true \
    -Dlog4j.configurationFile="$dir/log4j2.xml" -Dlog4j.shutdownHookEnabled=false -Dlog4j2.is.webapp=false \
    -Dbookkeeper.metadata.bookie.drivers="${metadata}BookieDriver" \
    -Dbookkeeper.metadata.client.drivers="${metadata}ClientDriver" \
    org.apache.pulsar.PulsarStandaloneStarter -c "$dir/standalone.conf" -nfw -nss \
    --bookkeeper-port "$PULSAR_BOOKIE_PORT" --metadata-dir "$dir/data/metadata" --bookkeeper-dir "$dir/data/bookkeeper"
}

# The broker says that it is ready before its first namespace is there, so that is asked for.
pulsar_is_ready() {
  local status=
  { exec {pulsar_fd}<>"/dev/tcp/127.0.0.1/$PULSAR_ADMIN_PORT"; } 2>/dev/null || return 1
  printf 'GET /admin/v2/namespaces/public/default HTTP/1.0\r\n%s\r\n' \
    "${PULSAR_TOKEN:+Authorization: Bearer $PULSAR_TOKEN$'\r\n'}" >&"$pulsar_fd"
  read -r -t 5 status <&"$pulsar_fd" || true
  exec {pulsar_fd}>&-
  [[ $status == *' 200 '* ]]
}
