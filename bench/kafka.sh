#!/usr/bin/env bash
# bench/kafka.sh: what the sink `kafka` costs, beside librdkafka alone, on a broker of its own on this machine (`tests/servers/kafka.sh`).
#   ROWS=1000000 MESSAGES=1000000   how many rows of 200 bytes, and messages of 1 KB
#   DTS_BENCH=PROGRAM               a ready build of bench/micro/kafka.rs instead of building one
#   RDKAFKA=FOLDER                  where librdkafka was built (its sources and src/librdkafka.a), for its performance tool
# One JSON line a measurement; the broker's CPU seconds stand behind each.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=${ROWS:-1000000} messages=${MESSAGES:-1000000}
bench=${DTS_BENCH:-}
if [ -z "$bench" ]; then
  bench=$(cargo bench --locked --profile bench-dev --no-run --bench kafka --no-default-features --features mysql-binlog,sink-kafka 2>&1 |
    sed -n 's/.*Executable .* (\(.*\))/\1/p')
fi
work=$(mktemp -d)
port=${PORT:-29092}
trap 'tests/servers/kafka.sh kill "$work/broker"; rm -rf "$work"' EXIT
KAFKA_HEAP=512m tests/servers/kafka.sh start "$work/broker" "$port" num.partitions=1 log.retention.bytes=300000000 \
  log.segment.bytes=104857600 log.retention.check.interval.ms=2000
broker_cpu() { awk '{ print ($14 + $15) / 100 }' "/proc/$(cat "$work/broker/pid")/stat"; }
measure() { # measure NAME COMMAND…
  local name=$1 before after
  shift
  before=$(broker_cpu)
  "$@" > "$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }
  after=$(broker_cpu)
  echo "$name: $(tail -n 1 "$work/out") broker_cpu_s $(echo "$after $before" | awk '{ print $1 - $2 }')"
}
at="127.0.0.1:$port"
for form in "meta=id" "meta=full" "format=debezium"; do
  measure "encode $form" "$bench" encode "$rows" $form
done
# The first messages create the topics and warm the broker.
"$bench" sink "$at" warm 100000 meta=id > "$work/warm"
for form in "meta=id" "format=debezium"; do
  measure "bare $form" "$bench" bare "$at" "bare${form//[^a-z]/}" "$rows" $form
  measure "sink $form" "$bench" sink "$at" "sink${form//[^a-z]/}" "$rows" $form
done
measure "sink meta=id headers" "$bench" sink "$at" sinkheaders "$rows" meta=id headers
rdkafka=${RDKAFKA:-$(ls -dt "${CARGO_TARGET_DIR:-target}"/*/build/rdkafka-sys-*/out 2>/dev/null | head -n 1 || true)}
if [ -f "$rdkafka/src/librdkafka.a" ]; then
  cc -O2 -o "$work/performance" "$rdkafka/examples/rdkafka_performance.c" "-I$rdkafka/src" "$rdkafka/src/librdkafka.a" -lm -lpthread -ldl
  for compression in none lz4; do
    "$work/performance" -P -t "tool$compression" -s 1024 -c 1000 -b "$at" -q -X acks=all > "$work/warm" 2>&1
    measure "rdkafka_performance 1024 bytes, $compression" "$work/performance" -P -t "tool$compression" -p 0 -s 1024 -c "$messages" -b "$at" -z "$compression" \
      -q -a -1 -X linger.ms=5 -X enable.idempotence=true -X batch.num.messages=100000
    measure "kilobyte $compression" "$bench" kilobyte "$at" "kilobyte$compression" "$messages" meta=none "compression=$compression"
  done
fi
