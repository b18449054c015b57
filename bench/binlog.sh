#!/usr/bin/env bash
# bench/binlog.sh [FILE…]: MB per CPU second of dts and of its peers, every value read, the best of ROUNDS (3) runs each in turn.
# Without files: $DTS_SERVERS/bench-binlogs/*.binlog. A peer is a program in $PEERS (default $DTS_SERVERS/bench-build/bin) that takes
# a file and prints one JSON line with "rows" and "checksum" (how it is called stands in binlog.py); what is not there is left out.
# DTS_BENCH=PROGRAM takes a ready build instead of building one; DTS=PROGRAM puts the command line beside the library, with its JSON
# lines to /dev/null. Memory below some 15 MB is that of the script that forks: bench/binlog_rss.py looks closer.
set -euo pipefail
cd "$(dirname "$0")/.."
servers="${DTS_SERVERS:-$HOME/.cache/dts-servers}"
bins="${PEERS:-$servers/bench-build/bin}"
dts="${DTS_BENCH:-}"
if [ -z "$dts" ]; then
  dts=$(cargo bench --locked --no-run --bench binlog --no-default-features --features mysql-binlog 2>&1 | sed -n 's/.*Executable .* (\(.*\))/\1/p')
fi
[ $# -gt 0 ] || set -- "$servers"/bench-binlogs/*.binlog
exec python3 bench/binlog.py "$dts" "$bins" "$@"
