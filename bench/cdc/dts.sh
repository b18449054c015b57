#!/bin/bash
# dts (MySQL -> Kafka) under the measurements of measure.sh.   dts.sh        run everything
# DTS=PROGRAM takes a ready build. FORMAT=dts-json|debezium-json  META=id|full|none  SINK=kafka|stdout (backlog only)
# How it is measured stands in measure.sh.
PEER=dts-${FORMAT:-dts-json}; TOPIC=${TOPIC:-dts_bench_t1}
. "$(dirname "$0")/measure.sh"
DTS=${DTS:-}; S=$W/dts; mkdir -p "$S"
if [ -z "$DTS" ]; then
  (cd "$HERE/../.." && cargo build --release --locked --no-default-features --features central >&2)
  DTS=${CARGO_TARGET_DIR:-$HERE/../../target}/release/dts
fi
format="format: ${FORMAT:-dts-json}"; [ "${FORMAT:-dts-json}" != dts-json ] || format="$format
  meta: ${META:-id}"

peer_reset() {
  rm -rf "$S/state"; mkdir -p "$S/state"
  local mode=never; [ "$1" = tail ] || mode=initial
  cat > "$S/config.yaml" <<C
device:
  state_dir: $S/state
http:
  listen: 127.0.0.1:${HTTP_PORT:-39600}
source:
  type: mysql-binlog
  dsn: "cdc:\${CDC_PASSWORD}@tcp(127.0.0.1:$MYSQL_PORT)/?timeout=5s&allowPublicKeyRetrieval=true"
  server_id: 5412
  include_tables: ["bench.t1"]
  snapshot: $mode
sink:
  type: kafka
  brokers: ["$BOOT"]
  topic_template: "dts_{{.Database}}_{{.Table}}"
  $format
  compression: lz4
  linger_ms: ${LINGER_MS:-5}
  headers: none
C
}
peer_start() { CDC_PASSWORD=${CDC_PASSWORD:-cdcpw} "$DTS" run --config "$S/config.yaml" < /dev/null >> "$S/log" 2>&1 & PEER_PID=$!; }
peer_stop() { [ -n "${PEER_PID:-}" ] || return 0; kill $PEER_PID 2>/dev/null || true; for _ in $(seq 50); do kill -0 $PEER_PID 2>/dev/null || break; sleep 0.1; done; kill -9 $PEER_PID 2>/dev/null || true; wait $PEER_PID 2>/dev/null || true; PEER_PID=; }

run_all
