#!/usr/bin/env bash
# The agent as a static musl binary for another architecture, tried under qemu against a centre on this host.
#   tests/cross.sh [aarch64]
# Installs the cross tool chain on its first run (cross/setup.sh). The configs lie beside this file, in tests/cross/.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-aarch64}
export DTS_CACHE="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$DTS_CACHE/target}"

limit=3500000

fail() { echo "cross.sh: $*" >&2; [ -z "${work:-}" ] || tail -n 20 "$work"/*.log >&2; exit 1; }
step() { printf '== %s\n' "$1"; }

step "build for $target"
agent=$(cross/build.sh "$target")
# Not by file(1): it may be missing. A program that names an interpreter, or a library, is not static.
headers=$(readelf -lW "$agent"; readelf -dW "$agent")
case $headers in *INTERP*|*NEEDED*) fail "$agent is not statically linked" ;; esac
size=$(stat -c %s "$agent")
echo "$agent: statically linked, $size bytes"
[ "$size" -le "$limit" ] || fail "$size bytes are more than $limit"
qemu="$DTS_CACHE/cross/root/usr/bin/qemu-$target-static"
[ -x "$qemu" ] || fail "$qemu is missing"

step "build the centre"
cargo build --locked
centre="$CARGO_TARGET_DIR/debug/dts"

work=$(mktemp -d)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

step "certificates and configs"
certificates() (
    cd "$work"
    newkey() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "$@" 2>/dev/null; }
    newkey -x509 -days 3650 -subj /CN=cross-test-ca -keyout ca.key -out ca.pem
    sign() { # sign NAME EXTENSIONS…
        newkey -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
        openssl x509 -req -days 3650 -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -out "$1.pem" \
            -extfile <(printf '%s\n' "${@:2}") 2>/dev/null
    }
    sign localhost subjectAltName=DNS:localhost extendedKeyUsage=serverAuth
    sign cross subjectAltName=URI:urn:dts:device:cross extendedKeyUsage=clientAuth
)
certificates
free_port() {
    local port
    while :; do
        port=$((RANDOM % 16000 + 16000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
QUIC=$(free_port) TLS=$(free_port) POSTS=$(free_port)
export QUIC TLS POSTS WORK="$work"

wait_for() { # wait_for WHAT COMMAND…
    local what=$1
    for _ in $(seq 600); do
        if "${@:2}" >/dev/null 2>&1; then return; fi
        for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a process has ended"; done
        sleep 0.1
    done
    fail "$what did not come"
}
post() { # post NUMBER: the status of the answer
    local body="{\"n\":$1}" answer
    exec 3<>"/dev/tcp/127.0.0.1/$POSTS" || return 1
    printf 'POST /cross HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        ${#body} "$body" >&3
    IFS=' ' read -r _ answer _ <&3
    exec 3>&-
    [ "$answer" = 202 ]
}
arrived() { grep -c '"topic":"cross"' "$work/out.ndjson" 2>/dev/null || true; }
has() { [ "$(arrived)" -ge "$1" ]; }

step "run"
"$qemu" "$agent" version
"$centre" run --config tests/cross/centre.yaml 2>"$work/centre.log" &
pids+=($!)
"$qemu" "$agent" run --config tests/cross/agent.yaml 2>"$work/agent.log" &
pids+=($!)
wait_for "the agent's input" grep -q "listening on" "$work/agent.log"
for n in $(seq 100); do post "$n" || fail "post $n is not taken"; done
wait_for "the events" has 100
# Killed, it goes on where it was.
kill -9 "${pids[1]}"; wait "${pids[1]}" 2>/dev/null || true
"$qemu" "$agent" run --config tests/cross/agent.yaml 2>"$work/agent2.log" &
pids[1]=$!
wait_for "the agent's input again" grep -q "listening on" "$work/agent2.log"
for n in $(seq 101 200); do post "$n" || fail "post $n is not taken"; done
wait_for "all events" has 200
sleep 1
[ "$(arrived)" = 200 ] || fail "$(arrived) events instead of 200"
for n in $(seq 200); do grep -q "\"payload\":{\"n\":$n}" "$work/out.ndjson" || fail "event $n is missing"; done
kill -TERM "${pids[1]}"
wait "${pids[1]}" || fail "the agent did not stop well"
unset 'pids[1]'
echo "200 events of an $target agent under qemu arrived, $(grep -ho 'over [a-z]*' "$work"/agent*.log | sort -u | paste -sd,)"
