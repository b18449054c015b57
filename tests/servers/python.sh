#!/usr/bin/env bash
# python.sh install | run ARGS…: a Python with other people's MQTT and QUIC stacks (paho-mqtt, aioquic), in a venv of its own.
set -euo pipefail
cache="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
venv="$cache/servers/python"
case ${1:-} in
install)
    [ -f "$venv/.done" ] && exit 0
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check 'paho-mqtt==2.1.0' 'aioquic==1.2.0'
    touch "$venv/.done" ;;
run) shift; exec "$venv/bin/python" "$@" ;;
*) sed -n 2p "$0" >&2; exit 2 ;;
esac
