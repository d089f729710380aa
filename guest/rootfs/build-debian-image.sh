#!/usr/bin/env bash
# Builds the development image: Debian 12 with python3 and nodejs as an OCI layout of three layers, about 400 MB and more
# than 10 000 entries. Needs the Debian archive; takes some minutes.
#
# usage: build-debian-image.sh LAYOUT
#
# LAYOUT is made, complete or not at all; its image is LAYOUT:1. Works as root and, where user namespaces are allowed, as
# anybody else. Its layers are what changed on disk between the steps of one mmdebstrap run, by change time: nothing that
# a step removes may have been in the layer of a step before.
set -euo pipefail

[ $# -eq 1 ] || {
    echo "build-debian-image: error: expected one argument (usage: build-debian-image.sh LAYOUT)" >&2
    exit 2
}
layout=$(realpath -m -- "$1")
parent=$(dirname -- "$layout")
mkdir -p -- "$parent"
work=$(mktemp -d -- "$parent/.debian-image.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
chmod 0755 "$work" # mmdebstrap's user namespace must get there

# A layer is everything that changed since the layer before, but what apt only keeps for itself, and of the kernel's file
# systems only the mount points. tar's status 1 is such a mount point that changed meanwhile.
cat >"$work/layer" <<'EOF'
#!/bin/sh
# layer NUMBER ROOT
set -eu
here=$(dirname "$0") number=$1 root=$2
newer=
[ ! -e "$here/stamp" ] || newer="-cnewer $here/stamp"
cd "$root"
# shellcheck disable=SC2086 # two words or none
find . -mindepth 1 \( -path './proc/*' -o -path './sys/*' -o -path './dev/*' -o -path './tmp/*' \
    -o -path './var/lib/apt/lists/*' -o -path './var/cache/apt/*' \) -prune -o $newer -print0 >"$here/list"
tar --null --no-recursion --numeric-owner --xattrs --files-from="$here/list" -cf "$here/layer$number.tar" || [ $? -eq 1 ]
touch "$here/stamp"
EOF
chmod 0755 "$work/layer"
mkdir -m 0777 "$work/out"
mv "$work/layer" "$work/out/layer"

# shellcheck disable=SC2016 # $1, the root, is for the hook's shell
install='DEBIAN_FRONTEND=noninteractive chroot "$1" apt-get -q -o Dpkg::Use-Pty=0 install --yes --no-install-recommends'
SOURCE_DATE_EPOCH=1700000000 mmdebstrap --quiet --variant=minbase --include=ca-certificates \
    --customize-hook="'$work/out/layer' 1 \"\$1\"" \
    --customize-hook="$install python3 python3-numpy python3-pip >&2" \
    --customize-hook="'$work/out/layer' 2 \"\$1\"" \
    --customize-hook="$install nodejs npm >&2" \
    --customize-hook="'$work/out/layer' 3 \"\$1\"" \
    --format=null bookworm

umoci init --layout "$work/layout"
umoci new --image "$work/layout:1"
for layer in 1 2 3; do
    umoci raw add-layer --image "$work/layout:1" "$work/out/layer$layer.tar"
    rm "$work/out/layer$layer.tar"
done
umoci config --image "$work/layout:1" --os linux --architecture amd64 \
    --config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --config.workingdir / --config.cmd python3 --config.cmd -c \
    --config.cmd 'import platform; print("Python", platform.python_version(), "on", platform.release())'
umoci gc --layout "$work/layout"
rm -rf -- "$layout"
mv -T -- "$work/layout" "$layout"
