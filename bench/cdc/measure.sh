# Sourced by debezium.sh and dts.sh, which define
#   peer_reset MODE   forget all state; MODE = tail (stream from now on) or snapshot (copy the table first)
#   peer_start        start in the background, set PEER_PID
#   peer_stop         clean stop, so that the next start resumes
#   TOPIC             where records of bench.t1 land
# and call run_all. One MySQL and one Kafka are started (tests/servers) unless MYSQL_PORT / KAFKA_PORT name running ones.
# STEPS="first backlog steady snapshot"  ROWS=1000000  TXN=1000  RATES="1000 5000"  SECONDS_STEADY=30  PARTS=1
# Results: one JSON object a line on standard output, also appended to $OUT.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); SV=$HERE/../../tests/servers
export DTS_CACHE="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"; SERVERS=$DTS_CACHE/servers; W=${BENCH_DIR:-$DTS_CACHE/bench/cdc}; mkdir -p "$W"
ROWS=${ROWS:-1000000}; TXN=${TXN:-1000}; RATES=${RATES:-1000 5000}; SECONDS_STEADY=${SECONDS_STEADY:-30}
PARTS=${PARTS:-1}
OUT=${OUT:-$W/results.jsonl}
py() { "${PYTHON:-$W/venv/bin/python}" "$@"; }
say() { echo "== $*" >&2; }
need() {
  [ -n "${PYTHON:-}" ] || [ -e "$W/venv/.done" ] || { python3 -m venv "$W/venv"; "$W/venv/bin/pip" -q install confluent-kafka pymysql cryptography; touch "$W/venv/.done"; }
  if [ -z "${MYSQL_PORT:-}" ]; then MYSQL_PORT=39306; MY=$W/mysql; "$SV/mysql.sh" install mysql97
    "$SV/mysql.sh" start mysql97 "$MY" $MYSQL_PORT --server-id=97 --log-bin=binlog --binlog-format=ROW --gtid-mode=ON --enforce-gtid-consistency=ON --binlog-row-metadata=FULL --max-allowed-packet=64M >&2; fi
  if [ -z "${KAFKA_PORT:-}" ]; then KAFKA_PORT=39200; KD=$W/kafka; "$SV/kafka.sh" install; "$SV/kafka.sh" start "$KD" $KAFKA_PORT >&2; fi
  MYSQL_PID=${MYSQL_PID:-$(cat "$MY/pid")}; KAFKA_PID=${KAFKA_PID:-$(cat "$KD/pid")}; BOOT=127.0.0.1:$KAFKA_PORT; }
done_with() { [ -z "${PEER_PID:-}" ] || peer_stop || true; [ -z "${MY:-}" ] || "$SV/mysql.sh" stop "$MY" || true; [ -z "${KD:-}" ] || "$SV/kafka.sh" stop "$KD" || true; ! declare -F peer_cleanup > /dev/null || peer_cleanup; }
load() { py "$HERE/load_mysql.py" --port $MYSQL_PORT "$@"; }
kafka() { py "$HERE/drain_kafka.py" --bootstrap $BOOT --topic $TOPIC "$@"; }
put() { echo "{\"peer\":\"$PEER\",\"step\":\"$1\",\"at\":\"$(date -u +%FT%TZ)\",\"result\":${2:-null},\"check\":${3:-null},\"cost\":${4:-null}}" | tee -a "$OUT"; }
snap() { py "$HERE/procstat.py" snap "$W/snap" peer=$PEER_PID kafka=$KAFKA_PID mysqld=$MYSQL_PID; }
cost() { py "$HERE/procstat.py" diff "$W/snap"; }

# start the peer and time it against the topic's end offset. The watcher connects first and then waits for the go file.
timed_start() { # expect
  rm -f "$W/go" "$W/peer.pid"; kafka count --expect $1 --timeout ${LIMIT:-300} --pid-file "$W/peer.pid" --go "$W/go" > "$W/count.json" & local c=$!
  while [ ! -e "$W/go" ]; do sleep 0.01; done
  peer_start; echo $PEER_PID > "$W/peer.pid"; snap; wait $c; CNT=$(tail -n 1 "$W/count.json"); COST=$(cost)
  case $CNT in *'"end": "all"'*) ;; *) say "peer did not finish: $CNT"; esac; }

step_first() {      # a: spawn -> first record
  say "first record, fresh state, table of one row"; load create --fresh >/dev/null; load one >/dev/null; peer_reset snapshot; kafka mktopic >/dev/null
  timed_start 1; put first_record_snapshot_of_1_row "$CNT" null "$COST"; sleep 3; peer_stop
  say "first record, resumed state, one row waiting"; load one >/dev/null; kafka mktopic >/dev/null
  timed_start 1; put first_record_resume_1_row "$CNT" null "$COST"; sleep 2; peer_stop; }
step_backlog() {    # b: ROWS rows wait in the binlog
  say "backlog"; load create --fresh >/dev/null; peer_reset tail; kafka mktopic >/dev/null; peer_start
  for i in $(seq 40); do                                # a row written before the peer took its position is rightly not seen: write one until one arrives
    load one > /dev/null; kafka count --expect 1 --timeout 4 > "$W/wait.json"; ! grep -q '"end": "all"' "$W/wait.json" || break; done
  sleep 7; peer_stop                                    # its position is stored now
  local last; last=$(load create | py -c 'import json,sys;print(json.loads(sys.stdin.readline())["rows"])')
  load backlog --rows $ROWS --txn $TXN >&2; kafka mktopic --partitions $PARTS >/dev/null
  timed_start $ROWS; put backlog_$ROWS "$CNT" "$(kafka check --first-id $((last+1)) --rows $ROWS)" "$COST"; }
step_steady() {     # c: the peer is running, or is started again from its stored position
  if [ -z "${PEER_PID:-}" ]; then kafka mktopic --partitions $PARTS >/dev/null; load one >/dev/null; peer_start; kafka count --expect 1 --timeout 120 >/dev/null; fi
  for r in $RATES; do say "steady $r/s"
    load steady --rate $r --seconds ${WARM:-8} > /dev/null; sleep 2                     # warm
    local n0; n0=$(kafka count --expect 0 | py -c 'import json,sys;print(json.loads(sys.stdin.readline())["records"])')
    snap; L=$(load steady --rate $r --seconds $SECONDS_STEADY --out "$W/times.json" | tail -n 1); C=$(cost)
    kafka count --expect $((n0 + r * SECONDS_STEADY)) --timeout 120 > /dev/null
    put steady_$r "$(kafka latency --times "$W/times.json")" "$L" "$C"; done; }
step_snapshot() {   # d
  say "snapshot"; peer_stop; local n; n=$(load create | py -c 'import json,sys;print(json.loads(sys.stdin.readline())["rows"])')
  if [ "$n" -lt $ROWS ]; then load backlog --rows $((ROWS - n)) --txn $TXN >&2; n=$ROWS; fi
  peer_reset snapshot; kafka mktopic --partitions $PARTS >/dev/null
  timed_start $n; put snapshot_$n "$CNT" "$(kafka check --first-id 1 --rows $n)" "$COST"; peer_stop; }
run_all() { need; trap done_with EXIT; for s in ${STEPS:-first backlog steady snapshot}; do step_$s; done; }
