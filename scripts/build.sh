#!/usr/bin/env bash
# Builds everything a run needs: the programs, the guest agent and its initramfs, the guest kernel
# (from its cache when it is there) and the demo root file system.
#
# usage: build.sh [--preset NAME] [--jobs N]
#
#   build/bin/                          programs
#   build/lib/microsandbox/vmlinux      guest kernel
#   build/lib/microsandbox/initramfs.cpio
#   build/share/microsandbox/busybox.raw
#
# Another preset than release goes to build-<preset>/, laid out the same.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

preset=release
jobs=$(nproc)
while [ $# -gt 0 ]; do
    case $1 in
        --preset) preset=${2:?--preset needs a name}; shift 2 ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
        *) echo "build: error: unknown argument '$1' (usage: build.sh [--preset NAME] [--jobs N])" >&2; exit 2 ;;
    esac
done
build=build
[ "$preset" = release ] || build=build-$preset

cmake --preset "$preset"
# The agent's initramfs is a target of its own beside `all`.
cmake --build "$build" --parallel "$jobs" --target all initramfs

guest/kernel/build.sh --jobs "$jobs" --output "$build/lib/microsandbox/vmlinux" >/dev/null

image=$build/share/microsandbox/busybox.raw
if [ ! -s "$image" ] || [ guest/rootfs/build-busybox.sh -nt "$image" ] || [ "$(command -v busybox)" -nt "$image" ]; then
    guest/rootfs/build-busybox.sh "$image"
fi
