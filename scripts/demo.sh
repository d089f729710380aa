#!/usr/bin/env bash
# Loads the demo image, boots it in a microVM and looks around in it.
#
# usage: demo.sh [BUILD_DIR]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

build=${1:-build}
msb=$build/bin/msb
archive=$build/share/microsandbox/busybox.tar
for file in "$msb" "$archive" "$build/lib/microsandbox/vmlinux" "$build/lib/microsandbox/initramfs.cpio"; do
    [ -s "$file" ] || {
        echo "demo: error: $file is missing: run 'make build' first" >&2
        exit 1
    }
done
echo "+ $msb load -i $archive"
"$msb" load -i "$archive"
# shellcheck disable=SC2016 # expanded by the shell in the guest
script='uname -a; echo "I am $(id -un) with $(nproc) CPU and $(free -m | awk "/^Mem/ {print \$2}") MiB"; df -h / | tail -n 1; cat /etc/os-release'
echo "+ $msb run busybox -- /bin/sh -c '$script'"
exec "$msb" run busybox -- /bin/sh -c "$script"
