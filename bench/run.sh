#!/usr/bin/env bash
# bench/run.sh [ROW…]: builds what ships, measures it beside its peers, writes bench/results/DATE.md.
#   ROW: size micro agent disk ingest latency wire idle peers (default: all; about 50 minutes, of which disk takes 25)
#   QUICK=1: short runs, about 15 minutes; they say less
# Needs Linux, python3, openssl; root for latency and wire (namespaces, TUN); valgrind for micro. What is missing is skipped by name.
# Timed rows want a quiet machine: each row's load average stands beside it.
set -uo pipefail
cd "$(dirname "$0")/.."
here=bench
export DTS_CACHE="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$DTS_CACHE/target}"
[ $# -gt 0 ] || set -- size micro agent disk ingest latency wire idle peers
wanted=" $* "
mkdir -p "$DTS_CACHE/bench"
BENCH_OUT=$(mktemp "$DTS_CACHE/bench/rows.XXXXXX")
export BENCH_OUT
text=$(mktemp "$DTS_CACHE/bench/text.XXXXXX")
trap 'rm -f "$BENCH_OUT" "$text"' EXIT
failed=0

row() { # row NAME SECONDS COMMAND…
    local name=$1 limit=$2
    shift 2
    case "$wanted" in *" $name "*) ;; *) return ;; esac
    printf '\n== %s (%s)\n' "$*" "$(date -u +%H:%M:%S)"
    timeout --kill-after=30 --signal=INT "$limit" "$@" || {
        echo "   $name: failed with status $?" >&2
        failed=1
    }
}

quick() { if [ -n "${QUICK:-}" ]; then echo "$1"; else echo "$2"; fi; }
root() { [ "$(id -u)" = 0 ] && [ -e /dev/net/tun ]; }

if [ -z "${BENCH_CENTRE:-}" ]; then cargo build --release --locked --features full || exit 1; fi
if [ -z "${BENCH_AGENT:-}" ]; then cargo build --locked --profile edge --no-default-features --features edge || exit 1; fi

{
    row size 1200 $here/size.sh gnu
    row micro 900 $here/micro/run.sh check
} | tee "$text"
row agent 900 $here/macro/agent.py --seconds "$(quick 10 30)" --backlog "$(quick 200000 1000000)"
row disk 2400 $here/macro/disk.py --slow-seconds "$(quick 120 600)"
row ingest 900 $here/macro/ingest.py --rows "$(quick 1000 5000)"
if root; then
    row latency 900 $here/macro/latency.py --seconds "$(quick 10 20)"
    row wire 1800 $here/macro/wire.py --seconds "$(quick 60 300)"
else
    echo "latency and wire: skipped, they need root and /dev/net/tun"
fi
row idle 1200 $here/macro/idle.py --n "$(quick 2000 10000)"
row peers 1200 $here/macro/peers.py --backlog "$(quick 50000 200000)"

$here/report.py "$BENCH_OUT" "$text" "$*"
exit $failed
