#!/usr/bin/env bash
# cross/build.sh TARGET [cargo build arguments]: a static musl binary of the agent, the same bytes in any folder.
#   TARGET: aarch64 | armv7 | x86_64 | riscv64 (not tried), or a full Rust target triple
# Default arguments: --profile edge --no-default-features --features edge. Output: prints the binary's path.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd -P)
cache="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
base="$cache/cross"
[ -f "$base/.done-py" ] || "$here/cross/setup.sh" >&2
t="${1:?target: aarch64, armv7, x86_64}"; shift
case "$t" in
    aarch64) t=aarch64-unknown-linux-musl ;;
    armv7)   t=armv7-unknown-linux-musleabihf ;;
    x86_64)  t=x86_64-unknown-linux-musl ;;
    riscv64) t=riscv64gc-unknown-linux-musl ;;
esac
small=
if [ $# = 0 ]; then
    set -- --profile edge --no-default-features --features edge
    # zig makes -Os of the -Oz that it is given; SQLite is 90 kB smaller with the real one.
    small="-Xclang -Oz -fomit-frame-pointer"
    # A derived Debug says the name only: 38 kB less. What people read is Display.
    RUSTFLAGS="${RUSTFLAGS:-} -Z fmt-debug=shallow"
fi
cd "$here"
home="${CARGO_HOME:-$HOME/.cargo}"
export CARGO_TARGET_DIR="${DTS_CROSS_TARGET_DIR:-$cache/cross/target}"
# Debian's rustc may rebuild std only as a nightly would; rustup's cargo drives it.
export RUSTC="$base/bin/rustc" RUSTDOC="$base/bin/rustdoc" RUSTC_BOOTSTRAP=1
# Reproducible: no paths, no clock, no build id.
export CARGO_INCREMENTAL=0 ZERO_AR_DATE=1 TZ=UTC LC_ALL=C
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}"
RUSTFLAGS="${RUSTFLAGS:-} -C link-self-contained=no -C target-feature=+crt-static -C relocation-model=static -C link-arg=-Wl,--build-id=none"
# A panic aborts, so nobody reads unwind tables: 600 kB less.
RUSTFLAGS+=" -C force-unwind-tables=no"
# Short names for sources, since panics carry them; the last that fits wins.
RUSTFLAGS+=" --remap-path-prefix=$home=/cargo --remap-path-prefix=$base/root/usr=/rust --remap-path-prefix=$here=/src"
for registry in "$home"/registry/src/*/; do RUSTFLAGS+=" --remap-path-prefix=${registry%/}=/c"; done
RUSTFLAGS+=" --remap-path-prefix=$base/root/usr/lib/rustlib/src/rust/library=/std"
export RUSTFLAGS
u=${t//-/_}
flags="-g0 $small -fno-unwind-tables -fno-asynchronous-unwind-tables -ffile-prefix-map=$home=/cargo -ffile-prefix-map=$here=/src"
export "CFLAGS_$u=${CFLAGS:-} $flags" "CXXFLAGS_$u=${CXXFLAGS:-} $flags"
PATH="$base/py/bin:$PATH"
# optimize_for_size takes the place of std's default features, of which `backtrace` reads symbols that are stripped.
cargo zigbuild -Z build-std=std,panic_abort -Z build-std-features=optimize_for_size --target "$t" "$@" >&2
echo "$CARGO_TARGET_DIR/$t/edge/dts"
