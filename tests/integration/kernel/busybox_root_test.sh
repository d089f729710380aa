#!/usr/bin/env bash
# Asserts that the demo root file system is reproducible, sound, and looks as a guest needs it.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
build_script=$here/../../../guest/rootfs/build-busybox.sh
PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
fail() { echo "FAIL: $*"; exit 1; }

"$build_script" "$work/a.raw"
sleep 1.1 # a time stamp that leaks into the image now differs by at least one second
(umask 077 && TZ=Asia/Tokyo "$build_script" "$work/b.raw")
cmp "$work/a.raw" "$work/b.raw" || fail "two builds differ"
e2fsck -fn "$work/a.raw" >"$work/log" 2>&1 || { cat "$work/log"; fail "e2fsck is not content"; }
[ "$(stat -c %s "$work/a.raw")" = 67108864 ] || fail "the image is not 64 MiB"
used_kib=$(du -k "$work/a.raw" | cut -f1)
[ "$used_kib" -lt 16384 ] || fail "the image is not sparse: $used_kib KiB on disk"

# stat PATH -> "mode uid gid type", from inside the image
inode() { debugfs -R "stat $1" "$work/a.raw" 2>/dev/null | tr '\n' ' ' | sed -nE 's/.*Type: (\w+) +Mode: +([0-7]+).*User: +([0-9]+) +Group: +([0-9]+).*/\2 \3 \4 \1/p'; }
expect() { [ "$(inode "$1")" = "$2" ] || fail "$1 is '$(inode "$1")', should be '$2'"; }
expect / "0755 0 0 directory"
expect /tmp "01777 0 0 directory"
expect /var/tmp "01777 0 0 directory"
expect /root "0700 0 0 directory"
expect /bin/busybox "0755 0 0 regular"
expect /bin/sh "0777 0 0 symlink"
expect /sbin/init "0777 0 0 symlink"
expect /usr/bin/awk "0777 0 0 symlink"
expect /etc/passwd "0644 0 0 regular"
expect /etc/shadow "0640 0 0 regular"
expect /etc/ssl/certs/ca-certificates.crt "0644 0 0 regular"
expect /etc/resolv.conf "0644 0 0 regular"
debugfs -R 'cat /etc/passwd' "$work/a.raw" 2>/dev/null | grep -q '^root:x:0:0:' || fail "/etc/passwd has no root"
debugfs -R 'ls /bin' "$work/a.raw" 2>/dev/null | grep -q ' cat ' || fail "/bin has no cat"
echo "the demo root file system is as it should be ($used_kib KiB on disk)"
