#!/usr/bin/env bash
# bench/peers/gen.sh [oltp wide narrow zstd small-txn…]: the files of bench/binlog.sh, written by a real MySQL 9.7, with an index.json.
# They go to $DTS_CACHE/bench/binlogs. SCALE (1), SEED (42), ROW_METADATA (MINIMAL), PORT (33971). At SCALE=1 about 1 GB and 6 minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mysql="$here/../../tests/servers/mysql.sh"
export DTS_CACHE="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
out="${OUT:-$DTS_CACHE/bench/binlogs}"
[ -e "$DTS_CACHE/servers/mysql97/.done" ] || "$mysql" install mysql97
data=$(mktemp -d "${TMPDIR:-/tmp}/dts-bench-mysql-XXXXXX")
trap 'if [ -e "$data/pid" ]; then "$mysql" stop "$data"; fi; rm -rf "$data"' EXIT
"$mysql" start mysql97 "$data" "${PORT:-33971}" --server-id=97 --log-bin=binlog --binlog-format=ROW --gtid-mode=ON \
  --enforce-gtid-consistency=ON --binlog-row-metadata="${ROW_METADATA:-MINIMAL}" --max-allowed-packet=64M --max-binlog-size=1G \
  --sync-binlog=0 --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=1G --innodb-doublewrite=OFF
mkdir -p "$out"
python3 "$here/gen.py" --server "$data" --out "$out" --seed "${SEED:-42}" --scale "${SCALE:-1}" "$@"
