#!/usr/bin/env bash
# debroot.sh SUITE ROOT PACKAGE…: unpacks Debian packages with everything that they need into ROOT. Nothing is installed, no
# maintainer script runs; the programs in it run with ROOT's own loader and libc, as any user. ROOT/.done says that it is whole.
set -euo pipefail
suite=$1 root=$2; shift 2
[ -f "$root/.done" ] && exit 0
command -v apt-get >/dev/null || { echo "no apt-get here to get $* with" >&2; exit 1; }
state="$root.apt"
rm -rf "$root" "$state"
mkdir -p "$state"/{lists/partial,archives/partial} "$root"
: > "$state/status"
# The mirror that this machine already uses.
[ -n "$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' | head -n 1)" ] || apt-get update -qq
mirror=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' | head -n 1)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] ${mirror:?no Debian mirror is configured here} $suite main" > "$state/sources.list"
options=(-o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::Lists="$state/lists"
    -o Dir::State::status="$state/status" -o Dir::Cache::archives="$state/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Install-Recommends=false
    -o APT::Sandbox::User=root -o Debug::NoLocking=1)
apt-get "${options[@]}" -qq update
apt-get "${options[@]}" -y --download-only --no-install-recommends install "$@" > "$state/log"
for folder in bin sbin lib lib64; do mkdir -p "$root/usr/$folder"; ln -sfn usr/$folder "$root/$folder"; done
for package in "$state"/archives/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink; done
rm -rf "$state" "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale"
touch "$root/.done"
