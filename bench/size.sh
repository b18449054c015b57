#!/usr/bin/env bash
# bench/size.sh [TARGET…]: builds the `edge` preset as it ships, prints its stripped size, and fails where it is over the limit.
#   TARGET: gnu (this machine's own Rust target), x86_64, aarch64, armv7 (static musl, by cross/build.sh)
# Default: gnu x86_64 aarch64. The limit, 3,500,000 bytes, holds for every target.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=3500000
[ $# -gt 0 ] || set -- gnu x86_64 aarch64
printf 'commit %s%s\n' "$(git rev-parse --short HEAD)" "$(git diff --quiet HEAD -- || echo ', with changes')"
over=0
for target; do
    case "$target" in
        gnu)
            cargo build --locked --quiet --profile edge --no-default-features --features edge
            file="${CARGO_TARGET_DIR:-target}/edge/dts"
            how="$(rustc -vV | sed -n 's/^host: //p'), $(rustc --version | cut -d' ' -f1,2)"
            ;;
        *)
            file=$(cross/build.sh "$target" 2>/dev/null)
            how="$target-linux-musl static, $("${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"/cross/bin/rustc --version | cut -d' ' -f1,2)"
            ;;
    esac
    # Profiles strip already; `readelf` says so here instead of believing it.
    if readelf -SW "$file" | grep -q '\.symtab'; then
        echo "$file is not stripped" >&2
        exit 1
    fi
    bytes=$(stat -c %s "$file")
    printf '%-44s %9d bytes' "$how" "$bytes"
    size -A "$file" | awk '
        $1 ~ /^\.(text|rodata|eh_frame|data\.rel\.ro|data|rela\.dyn|relr\.dyn)$/ { printf "  %s %d", $1, $2 }
        END { print "" }'
    if [ "$bytes" -gt "$limit" ]; then
        echo "  over the limit of $limit bytes" >&2
        over=1
    fi
done
exit $over
