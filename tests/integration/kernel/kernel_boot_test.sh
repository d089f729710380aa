#!/usr/bin/env bash
# Boots the built guest kernel under TCG, with the machine the product uses and a busybox init, and
# checks from inside what required_options.txt can only promise: file systems register, controllers
# and namespaces are there, the agent's named port appears, a parked vCPU comes online, packet
# filters load, and no interface appears that nobody asked for.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
vmlinux=$("$here/../../../guest/kernel/build.sh" --print-path)
[ -s "$vmlinux" ] || { echo "FAIL: $vmlinux does not exist: build the kernel first with 'make kernel'"; exit 1; }

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,mnt,newns}
cp -- "$(command -v busybox)" "$root/bin/busybox"
cat >"$root/init" <<'END'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup /sys/fs/cgroup
check() { # name, then a command that must succeed
    local name=$1
    shift
    if "$@" >/tmp.log 2>&1; then echo "ok $name" >/dev/ttyS0; else echo "NOT ok $name: $(tr '\n' ' ' </tmp.log)" >/dev/ttyS0; fi
}
for fs in ext4 ext2 xfs squashfs erofs overlay virtiofs vfat fuse tmpfs proc sysfs devpts mqueue cgroup cgroup2 autofs binfmt_misc bpf; do
    check "filesystem $fs" grep -qw "$fs" /proc/filesystems
done
for controller in cpuset cpu io memory hugetlb pids rdma misc; do
    check "controller $controller" grep -qw "$controller" /sys/fs/cgroup/cgroup.controllers
done
for ns in cgroup ipc mnt net pid time user uts; do check "namespace $ns" test -e /proc/self/ns/$ns; done
check "agent port" sh -c 'grep -qx agent /sys/class/virtio-ports/*/name'
check "disk" sh -c 'test "$(cat /sys/block/vda/size)" = 131072'
check "disk root" sh -c 'mount -t ext4 -o ro /dev/vda /mnt && test -x /mnt/bin/sh && umount /mnt'
check "loop on demand" sh -c 'dd if=/dev/zero of=/img bs=64k count=1 && losetup -f && losetup "$(losetup -f)" /img'
check "one vCPU at boot" test "$(nproc)" = 1
check "second vCPU comes online" sh -c 'echo 1 >/sys/devices/system/cpu/cpu1/online && test "$(nproc)" = 2'
check "second vCPU goes offline" sh -c 'echo 0 >/sys/devices/system/cpu/cpu1/online && test "$(nproc)" = 1'
check "interfaces are lo and eth0" sh -c 'test "$(ls /sys/class/net | sort | tr "\n" " ")" = "eth0 lo "'
check "random is seeded" sh -c 'head -c 16 /dev/random | wc -c'
check "clock source is the TSC" grep -q tsc /sys/devices/system/clocksource/clocksource0/current_clocksource
check "hardware clock" test -e /dev/rtc0
check "tun" test -e /dev/net/tun
check "fuse" test -e /dev/fuse
check "vsock" test -e /dev/vsock
check "dummy on demand" ip link add dummy0 type dummy
check "veth and namespace" sh -c 'ip link add v0 type veth peer name v1 && unshare -n true'
check "bridge" ip link add br0 type bridge
check "user namespace" unshare -Ur true
check "loopback ping" sh -c 'ip link set lo up && ping -c 1 -W 2 127.0.0.1'
check "config" sh -c 'zcat /proc/config.gz | grep -q CONFIG_PVH=y'
check "no warning in the kernel log" sh -c '! dmesg | grep -iE "warning:|bug:|call trace|unable to calibrate"'
echo "done after $(cut -d' ' -f1 /proc/uptime) s" >/dev/ttyS0
reboot -f
END
chmod 0755 "$root/init"
(cd -- "$root" && find . | cpio -o -H newc --quiet) >"$work/initramfs.cpio"
"$here/../../../guest/rootfs/build-busybox.sh" "$work/disk.raw"

cmdline="console=ttyS0 quiet reboot=t panic=-1 maxcpus=1"
for i in 0 1 2 3 4 5 6 7; do
    cmdline+=$(printf ' virtio_mmio.device=512@0x%x:%d' $((0xfeb00000 + i * 512)) $((5 + i)))
done
# The network card is not on bus 3: that window's interrupt, 8, is the RTC's.
timeout 120 qemu-system-x86_64 -M microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=off,auto-kernel-cmdline=off \
    -nodefaults -no-user-config -display none -no-reboot -accel tcg -cpu max -m 256 -smp 2 \
    -kernel "$vmlinux" -initrd "$work/initramfs.cpio" -append "$cmdline" -serial "file:$work/console" \
    -device virtio-serial-device,bus=virtio-mmio-bus.0 -chardev null,id=agent -device virtserialport,chardev=agent,name=agent \
    -device virtio-rng-device,bus=virtio-mmio-bus.1 \
    -drive "if=none,id=disk,file=$work/disk.raw,format=raw" -device virtio-blk-device,drive=disk,bus=virtio-mmio-bus.2 \
    -netdev user,id=net,restrict=on -device virtio-net-device,netdev=net,bus=virtio-mmio-bus.4 \
    </dev/null || { echo "FAIL: the machine did not end by itself (status $?); console:"; cat "$work/console"; exit 1; }

tr -d '\r' <"$work/console" >"$work/log"
cat "$work/log"
grep -q '^done after' "$work/log" || { echo "FAIL: the guest did not get to the end of its checks"; exit 1; }
if grep -q '^NOT ok' "$work/log"; then
    echo "FAIL: $(grep -c '^NOT ok' "$work/log") checks failed"
    exit 1
fi
count=$(grep -c '^ok ' "$work/log")
[ "$count" -ge 45 ] || { echo "FAIL: only $count checks ran"; exit 1; }
echo "all $count checks passed"
