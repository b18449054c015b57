#!/usr/bin/env bash
# quicgo.sh install | run ARGS…: mochi-mqtt on quic-go, built privately. Needs Go, and is left out without: aioquic is the other foreign QUIC.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}/servers/quicgo"
case ${1:-} in
install)
    [ -f "$dir/.done" ] && exit 0
    if ! command -v go >/dev/null; then
        echo "quicgo.sh: no Go here: the tests with quic-go will be skipped" >&2
        exit 0
    fi
    mkdir -p "$dir"
    if (cd "$here/quicgo" && GOFLAGS=-mod=readonly go build -trimpath -o "$dir/quicgo" .); then
        touch "$dir/.done"
    else
        echo "quicgo.sh: it could not be built: the tests with quic-go will be skipped" >&2
    fi ;;
run) shift; exec "$dir/quicgo" "$@" ;;
*) sed -n 2p "$0" >&2; exit 2 ;;
esac
