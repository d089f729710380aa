#!/usr/bin/env bash
# Builds everything a run needs: the programs, the guest agent and its initramfs, the guest kernel
# (from its cache when it is there) and the demo root file system.
#
# usage: build.sh [--preset NAME] [--jobs N] [--all]
#
# --all also builds the tests and benchmarks.
#
#   build/bin/                          programs
#   build/lib/microsandbox/vmlinux      guest kernel
#   build/lib/microsandbox/initramfs.cpio
#   build/share/microsandbox/busybox.raw   the demo root as a disk
#   build/share/microsandbox/busybox.tar   the same as an OCI image
#
# Another preset than release goes to build-<preset>/, laid out the same.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

preset=release
jobs=$(nproc)
targets=(programs)
while [ $# -gt 0 ]; do
    case $1 in
        --preset) preset=${2:?--preset needs a name}; shift 2 ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
        --all) targets=(all initramfs); shift ;;
        *) echo "build: error: unknown argument '$1' (usage: build.sh [--preset NAME] [--jobs N] [--all])" >&2; exit 2 ;;
    esac
done
build=build
[ "$preset" = release ] || build=build-$preset

cmake --preset "$preset"
# The agent's initramfs is a target of its own beside `all`.
cmake --build "$build" --parallel "$jobs" --target "${targets[@]}"

guest/kernel/build.sh --jobs "$jobs" --output "$build/lib/microsandbox/vmlinux" >/dev/null

# Made anew when busybox or one of the scripts is newer.
demo() {
    local out=$build/share/microsandbox/$1 script=$2 source
    for source in guest/rootfs/* "$(command -v busybox)"; do
        if [ ! -s "$out" ] || [ "$source" -nt "$out" ]; then
            "$script" "$out"
            return
        fi
    done
}
demo busybox.raw guest/rootfs/build-busybox.sh
demo busybox.tar guest/rootfs/build-busybox-image.sh
