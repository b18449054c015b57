#!/usr/bin/env bash
# Installs the cross tool chain once, privately, under $DTS_CACHE/cross (about 1.7 GB).
#
# Debian's rustc-web carries the std sources and matches a rustc of its own; zig (from PyPI) is the C compiler and linker for
# every target; qemu-user-static runs the result. Nothing is installed system-wide, and rustup's tool chain stays first on
# PATH. Safe to run again. Debian package names move: they are looked up, not pinned.
set -euo pipefail
cache="${DTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dts}"
base="$cache/cross" deb="$cache/cross/root" py="$cache/cross/py"
mkdir -p "$base/debs" "$base/bin" "$deb"
done_() { [ -f "$base/.done-$1" ]; }

if ! done_ debs; then
    command -v apt-get >/dev/null || { echo "cross/setup.sh: needs Debian's apt-get" >&2; exit 1; }
    apt-cache show rustc-web >/dev/null 2>&1 || apt-get update -qq
    # The LLVM package that the compiler wants changes its name with the version.
    std=$(apt-cache depends libstd-rust-web-dev | awk '$1=="Depends:"&&$2~/^libstd-rust-web-[0-9]/{print $2;exit}')
    llvm=$(apt-cache depends "$std" | awk '$1=="Depends:"&&$2~/^libllvm/{print $2;exit}')
    (cd "$base/debs" && rm -f ./*.deb && apt-get -o APT::Sandbox::User=root download -qq \
        rustc-web libstd-rust-web-dev "$std" "$llvm" rust-web-src qemu-user-static)
    for f in "$base"/debs/*.deb; do dpkg-deb -x "$f" "$deb"; done
    rm -f "$base"/debs/*.deb
    touch "$base/.done-debs"
fi

if ! done_ py; then
    python3 -m venv "$py"
    "$py/bin/pip" install -q --disable-pip-version-check ziglang cargo-zigbuild
    touch "$base/.done-py"
fi

# rustc and rustdoc find their private libraries through these wrappers only.
for t in rustc rustdoc; do
    cat >"$base/bin/$t" <<'W'
#!/bin/sh
d=$(dirname "$(dirname "$(readlink -f "$0")")")/root/usr
LD_LIBRARY_PATH="$d/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$d/bin/${0##*/}" "$@"
W
    chmod +x "$base/bin/$t"
done
"$base/bin/rustc" --version
