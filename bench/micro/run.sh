#!/usr/bin/env bash
# bench/micro/run.sh [check|keep]: instructions a unit of each hot path, by callgrind.
#   check (default): fails where one is more than 3 % above its bar in bench/micro/bars.txt; says so where it is below
#   keep: writes bars.txt anew
# Bars belong to one target and toolchain; `bars.txt` names them, and with others only a note is printed.
set -euo pipefail
cd "$(dirname "$0")"
what="${1:-check}"
command -v valgrind >/dev/null || { echo "bench/micro: no valgrind here (Debian: apt-get install valgrind)" >&2; exit 1; }
target="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}/bench/target"
cargo build --release --quiet --manifest-path Cargo.toml --target-dir "$target"
host="$(rustc -vV | sed -n 's/^host: //p') $(rustc --version | cut -d' ' -f2) SQLite-and-C $(cc -dumpfullversion)"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cases="row-encode row-decode-json message-decode-json frame-pack frame-unpack mqtt-publish-parse spool-append-ack binlog-oltp binlog-narrow binlog-wide binlog-small-txn"
{
    echo "# Instructions a row, a frame (of 100 messages), a packet, a batch (of 100 messages). Written by \`bench/micro/run.sh keep\`."
    echo "host $host"
    for case in $cases; do
        units=$(valgrind --tool=callgrind --toggle-collect='*measured*' --callgrind-out-file=/dev/null \
            "$target/release/dts-micro" "$case" 2>"$out/log")
        counted=$(sed -n 's/.*Collected : //p' "$out/log")
        [ "${counted:-0}" -gt 0 ] || { cat "$out/log" >&2; exit 1; }
        echo "$case $((counted / units))"
    done
} >"$out/now"
if [ "$what" = keep ]; then
    cp "$out/now" bars.txt
    cat bars.txt
    exit
fi
awk -v strict="$(grep -qxF "host $host" bars.txt && echo 1 || echo 0)" '
    /^#/ || /^host/ { next }
    FNR == NR { bar[$1] = $2; next }
    !($1 in bar) { printf "%-22s %9d, no bar yet: keep it with `bench/micro/run.sh keep`\n", $1, $2; next }
    {
        change = ($2 / bar[$1] - 1) * 100
        word = change > 3 ? "ABOVE THE BAR" : change < -3 ? "below: keep it with `bench/micro/run.sh keep`" : "holds"
        printf "%-22s %9d, bar %9d, %+.1f %% %s\n", $1, $2, bar[$1], change, word
        if (change > 3) worse = 1
    }
    END {
        if (worse && !strict) print "another host or toolchain than that of the bars: not counted as a failure"
        exit worse && strict
    }' bars.txt "$out/now"
