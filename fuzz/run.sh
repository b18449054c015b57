#!/bin/bash
# Runs fuzz targets one after the other on one core, and keeps what reached new code.
#   fuzz/run.sh [SECONDS [TARGET…]]    default: 600 s each, all targets
#   fuzz/run.sh build                  builds them only
#   fuzz/run.sh keep [TARGET…]         replaces the kept inputs by the smallest set that reaches as much
# libFuzzer's hooks are flags of the stable compiler, so that no nightly is needed; `cargo fuzz` works as well.
set -euo pipefail
cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
what=${1:-600}
shift || true
mapfile -t targets < <(if (($#)); then printf '%s\n' "$@"; else sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' Cargo.toml; fi)
host=$(rustc -vV | sed -n "s|^host: ||p")
bins=$CARGO_TARGET_DIR/$host/release
grown=$CARGO_TARGET_DIR/corpus
if [[ $what != keep && -z ${FUZZ_BUILT:-} ]]; then
  cov="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares"
  cov+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
  # The versions of dts itself; what libFuzzer needs is added.
  cp ../Cargo.lock Cargo.lock
  RUSTFLAGS="$cov --cfg fuzzing -Ccodegen-units=1" cargo build --release --target "$host" --bins
fi
[[ $what != build ]] || exit 0
for target in "${targets[@]}"; do
  mkdir -p "$grown/$target" "corpus/$target" artifacts
  # A file holds its format description and a transaction at least.
  case $target in binlog_*) len=4096 ;; *) len=2048 ;; esac
  if [[ $what == keep ]]; then
    small=$(mktemp -d)
    "$bins/$target" -set_cover_merge=1 -use_counters=0 -max_len=$len "$small" "corpus/$target" "$grown/$target" 2>&1 | grep -a 'MERGE-OUTER' | tail -1 || true
    rm -rf "corpus/$target"
    mv "$small" "corpus/$target"
    chmod 755 "corpus/$target"
  else
    echo "== $target, $what s"
    nice -n 10 "$bins/$target" "$grown/$target" "corpus/$target" -max_total_time="$what" -max_len=$len -timeout=10 \
      -rss_limit_mb=1024 -artifact_prefix="artifacts/$target-" -print_final_stats=1 2>&1 |
      grep -a -E 'panicked|ERROR|assert|artifact|stat::number_of_executed|DONE|Test unit|fuzzing/|spool/' || true
  fi
done
