#!/usr/bin/env bash
# Makes the demo image: the tree of stage-busybox.sh as an OCI image named busybox, in a tar for `msb load`.
#
# usage: build-busybox-image.sh OUT.tar
set -euo pipefail

[ $# -eq 1 ] || {
    echo "build-busybox-image: error: expected one argument, the archive to write (usage: ${0##*/} OUT.tar)" >&2
    exit 1
}
out=$1
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
mkdir -p -- "$(dirname -- "$out")"
tmp=$(mktemp -d -- "$out.work.XXXXXX")
trap 'rm -rf -- "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

umask 022
"$here/stage-busybox.sh" "$tmp/root"
"$here/oci_archive.py" "$tmp/root" "$tmp/image.tar" busybox \
    'Cmd=["/bin/sh"]' 'Env=["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]'
chmod 0644 "$tmp/image.tar"
mv -f -- "$tmp/image.tar" "$out"
