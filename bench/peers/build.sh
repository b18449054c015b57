#!/usr/bin/env bash
# bench/peers/build.sh [rust go java]: builds other people's decoders into $DTS_CACHE/bench/peers, programs into its bin/.
# What cannot be built (no Go, no Maven, no network) is said and left out.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}/bench/peers"
mkdir -p "$out/bin"
[ $# -gt 0 ] || set -- rust go java

rust() {
  for peer in "$here"/rust/src/bin/*.rs; do
    peer=$(basename "$peer" .rs)
    (cd "$here/rust" && CARGO_TARGET_DIR="$out/cargo" nice cargo build -q --locked --release --bin "$peer") &&
      cp "$out/cargo/release/$peer" "$out/bin/" || echo "not built: $peer"
  done
}

go() {
  (cd "$here/go" && nice env go build -o "$out/bin/peer-go-mysql" .) || echo "not built: peer-go-mysql"
}

# Zendesk's library, and Debezium's fork of it.
java() {
  for peer in zendesk:com.zendesk:0.30.1 debezium:io.debezium:0.41.0; do
    IFS=: read -r name group version <<<"$peer"
    folder="$out/java-$name"
    rm -rf "$folder" && mkdir -p "$folder" && cp -r "$here/java/." "$folder/"
    (cd "$folder" && nice mvn -q -B -Dlib.group="$group" -Dlib.version="$version" compile dependency:build-classpath \
      -Dmdep.outputFile=classpath >mvn.log 2>&1) || { echo "not built: java-$name"; tail -n 3 "$folder/mvn.log"; continue; }
    printf '#!/bin/sh\nexec java -cp "%s" Peer java-%s 1 "$@"\n' "$folder/target/classes:$(cat "$folder/classpath")" "$name" > "$out/bin/peer-java-$name"
    chmod +x "$out/bin/peer-java-$name"
  done
}

for what; do "$what"; done
ls "$out/bin"
