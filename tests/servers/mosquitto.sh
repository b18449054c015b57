#!/usr/bin/env bash
# mosquitto.sh install | start DIR PORT | stop DIR: a real Mosquitto for the tests, without a container.
#
# PORT: plain, anonymous · PORT+1: plain, user dts / password dtspw · PORT+2: TLS · PORT+3: TLS with client certificates.
# Certificates: DIR/tls/{ca,server,client}.{pem,key}; the server's is for localhost and 127.0.0.1.
# Debian's packages are unpacked, not installed, under ${XDG_CACHE_HOME:-~/.cache}/dts/servers/mosquitto.
set -euo pipefail
cache="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
root="$cache/servers/mosquitto"

install_root() {
    [ -f "$root/.done" ] && return
    mkdir -p "$root"
    if command -v mosquitto >/dev/null && command -v mosquitto_pub >/dev/null; then
        touch "$root/.system" "$root/.done"
        return
    fi
    command -v apt-get >/dev/null || { echo "no mosquitto here and no apt-get to get it" >&2; exit 1; }
    apt-cache show mosquitto >/dev/null 2>&1 || apt-get update -qq
    # The two packages and what they need beyond a base system.
    names=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
        mosquitto mosquitto-clients | grep -E '^(mosquitto|lib(mosquitto|websockets|cjson|uv|ev|dlt|wrap|ssl|cap|systemd|event-core))' | sort -u)
    (cd "$root" && apt-get -o APT::Sandbox::User=root download -qq $names && for f in ./*.deb; do dpkg-deb -x "$f" .; done && rm -f ./*.deb)
    touch "$root/.done"
}

run() { # run PROGRAM ARGS…
    local program=$1; shift
    if [ -f "$root/.system" ]; then exec "$program" "$@"; fi
    local path="$root/usr/bin/$program"; [ -x "$path" ] || path="$root/usr/sbin/$program"
    LD_LIBRARY_PATH="$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu:$root/usr/lib/aarch64-linux-gnu" exec "$path" "$@"
}

certificates() { # certificates DIR
    mkdir -p "$1"; cd "$1"
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=dts-test-ca -keyout ca.key -out ca.pem
    local n cn e
    for n in server client; do
        cn=$n; e='extendedKeyUsage=clientAuth'
        [ $n = server ] && cn=localhost e='subjectAltName=DNS:localhost,IP:127.0.0.1'
        openssl req -newkey rsa:2048 -nodes -subj "/CN=$cn" -keyout $n.key -out $n.csr
        openssl x509 -req -days 3650 -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile <(echo "$e") -out $n.pem
    done
    chmod 644 ./*
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

case ${1:-} in
install) install_root; (run mosquitto -h | head -1) || true ;;
run) shift; run "$@" ;;
start)
    dir=$2 port=$3
    install_root
    mkdir -p "$dir"; chmod 700 "$dir"
    [ -f "$dir/tls/client.pem" ] || (certificates "$dir/tls") >/dev/null 2>&1
    [ -f "$dir/passwd" ] || (run mosquitto_passwd -b -c "$dir/passwd" dts dtspw)
    chmod 600 "$dir/passwd"
    tls="cafile $dir/tls/ca.pem
certfile $dir/tls/server.pem
keyfile $dir/tls/server.key"
    cat > "$dir/mosquitto.conf" <<C
per_listener_settings true
user $(id -un)
persistence true
persistence_location $dir/
listener $port 127.0.0.1
allow_anonymous true
listener $((port + 1)) 127.0.0.1
allow_anonymous false
password_file $dir/passwd
listener $((port + 2)) 127.0.0.1
allow_anonymous true
$tls
listener $((port + 3)) 127.0.0.1
allow_anonymous false
$tls
require_certificate true
use_identity_as_username true
C
    (run mosquitto -c "$dir/mosquitto.conf") </dev/null >"$dir/log" 2>&1 &
    pid=$!
    echo $pid > "$dir/pid"
    for _ in $(seq 200); do
        kill -0 $pid 2>/dev/null || { tail -20 "$dir/log" >&2; exit 1; }
        listening $((port + 3)) && exit 0
        sleep 0.05
    done
    echo "mosquitto is not ready" >&2; exit 1 ;;
stop) kill "$(cat "$2/pid")" && rm -f "$2/pid" ;;
*) sed -n 2,7p "$0" >&2; exit 2 ;;
esac
