#!/usr/bin/env bash
# mysql.sh install FLAVOR… | start FLAVOR DIR PORT [OPTION…] | stop DIR | client FLAVOR DIR [ARG…]: real MySQL and MariaDB for the tests.
#
# FLAVOR: mysql97 · mariadb105 · mariadb1011 · mariadb118. An OPTION is one of the server's own (--log-bin=…).
# Loopback only; users root/rootpw (127.0.0.1) and cdc/cdcpw (replication); the socket is DIR/s.sock, the log DIR/err.log.
# Debian's packages are unpacked, not installed, under ${XDG_CACHE_HOME:-~/.cache}/dts/servers/FLAVOR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"

install() {
    local server=mariadb-server-core client=mariadb-client-core suite
    case $1 in
    mysql97) suite=sid server=mysql-server-core client=mysql-client-core ;;
    mariadb105) suite=bullseye server=mariadb-server-core-10.5 client=mariadb-client-core-10.5 ;;
    mariadb1011) suite=bookworm ;;
    mariadb118) suite=trixie ;;
    *) echo "no flavor $1" >&2; exit 2 ;;
    esac
    "$here/debroot.sh" $suite "$cache/servers/$1" $server $client
}

# The program of the root with its own loader, in the array `command`.
program() { # program FLAVOR PATH…
    local root="$cache/servers/$1" arch path loader
    shift
    arch=$(basename "$(dirname "$(ls "$root"/usr/lib/*/libc.so.6 | head -n 1)")")
    loader=$(ls "$root/usr/lib/$arch"/ld-linux-*.so.* "$root/usr/lib64"/ld-linux-*.so.* 2>/dev/null | head -n 1)
    for path in "$@"; do
        [ -x "$root/usr/$path" ] || continue
        command=("$loader" --library-path "$root/usr/lib/$arch" "$root/usr/$path")
        # mysqld looks for its parts beside the program that it thinks it is.
        [ "$path" != sbin/mysqld ] || command=("$loader" --library-path "$root/usr/lib/$arch" --argv0 "$root/usr/$path" "$root/usr/$path")
        return
    done
    echo "none of $* in $root" >&2; exit 1
}

server() { # server FLAVOR
    local root="$cache/servers/$1" share
    program "$1" sbin/mariadbd sbin/mysqld
    share="$root/usr/share/mysql"; [ -d "$root/usr/share/mariadb" ] && share="$root/usr/share/mariadb"
    command+=(--no-defaults "--basedir=$root/usr" "--lc-messages-dir=$share" "--character-sets-dir=$share/charsets"
        "--plugin-dir=$root/usr/lib/mysql/plugin" "--user=$(id -un)" --innodb-buffer-pool-size=64M)
    case $1 in
    mysql*) command+=(--innodb-redo-log-capacity=32M) ;;
    *) command+=(--innodb-log-file-size=16M); sql=$share ;;
    esac
}

create() { # create FLAVOR DIR
    case $1 in
    mysql*) mkdir -p "$2"; "${command[@]}" --datadir="$2/data" --initialize-insecure --log-error="$2/init.log" ;;
    *)
        mkdir -p "$2/data/mysql"
        { echo "use mysql;"
          for file in system_tables performance_tables system_tables_data; do cat "$sql/mariadb_$file.sql" 2>/dev/null || cat "$sql/mysql_$file.sql"; done
          cat "$sql/fill_help_tables.sql" "$sql/maria_add_gis_sp_bootstrap.sql"
        } | sed -e '/@current_hostname/d' | "${command[@]}" --datadir="$2/data" --bootstrap --log-error="$2/init.log" \
            --enforce-storage-engine= --max-allowed-packet=8M --net-buffer-length=16K > "$2/boot.log" 2>&1 ;;
    esac
}

users() { # users FLAVOR
    echo "SET SQL_LOG_BIN=0;"
    case $1 in
    mysql*) printf '%s\n' "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY 'rootpw';" \
        "GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;" \
        "CREATE USER IF NOT EXISTS 'cdc'@'%' IDENTIFIED WITH caching_sha2_password BY 'cdcpw';" \
        "GRANT SELECT, RELOAD, LOCK TABLES, SHOW DATABASES, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'cdc'@'%';" ;;
    *) printf '%s\n' "GRANT ALL ON *.* TO 'root'@'127.0.0.1' IDENTIFIED BY 'rootpw' WITH GRANT OPTION;" \
        "GRANT ALL ON *.* TO 'cdc'@'%' IDENTIFIED BY 'cdcpw';" ;;
    esac
}

start() { # start FLAVOR DIR PORT [OPTION…]
    local flavor=$1 dir=$2 port=$3 pid
    shift 3
    server "$flavor"
    [ -d "$dir/data/mysql" ] || create "$flavor" "$dir" || { tail -20 "$dir/init.log" >&2; exit 1; }
    users "$flavor" > "$dir/init.sql"
    command+=("--datadir=$dir/data" "--port=$port" --bind-address=127.0.0.1 "--socket=$dir/s.sock" "--pid-file=$dir/server.pid"
        "--log-error=$dir/err.log" --secure-file-priv= --skip-name-resolve "--init-file=$dir/init.sql" --max-connections=50)
    case $flavor in mysql*) command+=(--mysqlx=OFF --performance-schema=OFF --table-open-cache=200) ;; esac
    rm -f "$dir/err.log"
    "${command[@]}" "$@" </dev/null >/dev/null 2>&1 &
    pid=$!
    echo $pid > "$dir/pid"
    for _ in $(seq 1200); do
        kill -0 $pid 2>/dev/null || { tail -20 "$dir/err.log" >&2; exit 1; }
        { grep 'ready for connections' -A 2 "$dir/err.log" | grep -q "port: $port"; } 2>/dev/null && return
        sleep 0.1
    done
    echo "$flavor is not ready" >&2; exit 1
}

stop() { # stop DIR
    local pid; pid=$(cat "$1/pid")
    kill "$pid" 2>/dev/null || true
    # Ended, or ended and nobody there to reap it.
    while [ -d "/proc/$pid" ] && ! grep -q ') Z ' "/proc/$pid/stat" 2>/dev/null; do sleep 0.05; done
    rm -f "$1/pid"
}

client() { # client FLAVOR DIR [ARG…]
    local root="$cache/servers/$1" dir=$2
    program "$1" bin/mariadb bin/mysql
    shift 2
    exec "${command[@]}" --no-defaults "--character-sets-dir=$root/usr/share/mysql/charsets" "--socket=$dir/s.sock" --user=root "$@"
}

case ${1:-} in
install) shift; for flavor in "$@"; do install "$flavor"; done ;;
start | stop | client) "$@" ;;
*) sed -n 2,7p "$0" >&2; exit 2 ;;
esac
