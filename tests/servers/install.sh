#!/usr/bin/env bash
# Installs every foreign server and client that the tests use, privately under the cache.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/mosquitto.sh" install
"$here/python.sh" install
"$here/quicgo.sh" install
"$here/mysql.sh" install mysql97 mariadb105 mariadb1011 mariadb118
"$here/kafka.sh" install
