#!/usr/bin/env bash
# Shows msb at work: loads the demo image, boots it in a microVM, runs commands in it, looks at it from outside, and
# cleans up. The image stays, so that `msb run busybox` works afterwards.
#
# usage: demo.sh [BUILD_DIR]
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

build=${1:-build}
msb=$build/bin/msb
archive=$build/share/microsandbox/busybox.tar
name="msb-demo"
for file in "$msb" "$archive" "$build/lib/microsandbox/vmlinux" "$build/lib/microsandbox/initramfs.cpio"; do
    [ -s "$file" ] || {
        echo "demo: error: $file is missing: run 'make build' first" >&2
        exit 1
    }
done

# Says what it is for, shows the command as one would type it, and runs it.
show() {
    printf '\n# %s\n$ msb' "$1"
    shift
    printf " %s" "${@@Q}" | sed -E "s/'([A-Za-z0-9_./:=-]+)'/\1/g"
    printf '\n'
    "$msb" "$@"
}
trap '"$msb" rm -f -q "$name" 2>/dev/null || true' EXIT

show "An OCI image, here from an archive that the build made" load -i "$archive"
show "What images there are" image ls
# shellcheck disable=SC2016 # expanded by the shell in the guest
show "One command in a microVM of its own, gone afterwards" run busybox -- \
    /bin/sh -c 'uname -sr; echo "I am $(id -un) with $(nproc) CPU and $(free -m | awk "/^Mem/ {print \$2}") MiB"'
show "A sandbox that stays" create --replace -n "$name" busybox
show "A command in it" exec "$name" -- /bin/sh -c 'echo "kept in the sandbox" >/root/note; ls -l /root; df -h / | tail -n 1'
show "Streams and exit codes come through" exec "$name" -- /bin/sh -c 'echo out; echo err >&2; exit 7' ||
    printf '(exit code %d)\n' $?
show "Which sandboxes run" ls
show "What its commands wrote" logs "$name"
show "Stop it ..." stop "$name"
show "... and start it again: its files are still there" start "$name"
show "The note from before" exec "$name" -- cat /root/note
show "Remove it" rm -f "$name"
trap - EXIT
printf '\nThat worked. Next: %s run busybox\n' "$msb"
