#!/usr/bin/python3
"""Measures how long the guest kernel takes to reach init under TCG, and where the time goes.

usage: boot_profile.py time [-n RUNS] [--kernel VMLINUX] [kernel parameter...]
       boot_profile.py initcalls [--kernel VMLINUX] [kernel parameter...]
       boot_profile.py profile [--kernel VMLINUX --map SYSTEM_MAP] [kernel parameter...]

time       boots RUNS times (5) on an otherwise bare microvm, as the product boots it, and prints the
           wall time from starting QEMU to the first line init writes
initcalls  prints the slowest initcalls, as the kernel itself times them
profile    samples the program counter and the stack over QMP while the kernel boots (which slows it
           down about twice) and prints where the samples fall; return addresses are guessed from
           stack words, so an inclusive figure can be too high, a leaf figure cannot

Without --kernel: the kernel in the cache (build.sh --print-path).
"""
import argparse
import bisect
import collections
import json
import os
import re
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MACHINE = "microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=off,auto-kernel-cmdline=off"
INIT = r"""
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>
int main(void) {
    mkdir("/dev", 0755);
    mount("dev", "/dev", "devtmpfs", 0, 0);
    int fd = open("/dev/console", O_RDWR);
    if (write(fd, "INIT\n", 5) != 5) return 1;
    reboot(RB_AUTOBOOT);
}
"""


def initramfs(folder):
    root = os.path.join(folder, "root")
    os.makedirs(root)
    subprocess.run(["gcc", "-O1", "-static", "-x", "c", "-", "-o", os.path.join(root, "init")],
                   input=INIT.encode(), check=True)
    path = os.path.join(folder, "initramfs.cpio")
    with open(path, "wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=b".\ninit\n", stdout=out, check=True)
    return path


def start(options, ramdisk, quiet=True, extra=()):
    windows = [f"virtio_mmio.device=512@{0xfeb00000 + i * 512:#x}:{5 + i}" for i in range(8)]
    append = ["console=ttyS0", "reboot=t", "panic=-1", *(["quiet"] if quiet else []), *windows, *options.parameters]
    return subprocess.Popen(
        ["qemu-system-x86_64", "-M", MACHINE, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
         "-accel", "tcg", "-cpu", "max", "-m", "256", "-kernel", options.kernel, "-initrd", ramdisk,
         "-append", " ".join(append), "-serial", "stdio",
         "-device", "virtio-serial-device", "-device", "virtio-rng-device", *extra],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def boot_once(options, ramdisk):
    begin = time.monotonic()
    process, console, reached = start(options, ramdisk), b"", None
    while True:
        if not select.select([process.stdout], [], [], 60)[0]:
            process.kill()
            sys.exit(f"no output for 60 s; console so far:\n{console.decode(errors='replace')}")
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            break
        console += chunk
        if reached is None and b"INIT" in console:
            reached = time.monotonic() - begin
    process.wait()
    if reached is None:
        sys.exit(f"the kernel did not reach init; console:\n{console.decode(errors='replace')}")
    return reached


def command_time(options, ramdisk):
    times = [boot_once(options, ramdisk) * 1000 for _ in range(options.runs)]
    print(f"to init, wall: min {min(times):.0f} ms, median {statistics.median(times):.0f} ms, "
          f"max {max(times):.0f} ms over {len(times)} runs; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")


def command_initcalls(options, ramdisk):
    options.parameters += ["initcall_debug", "loglevel=8", "log_buf_len=4M"]
    console = start(options, ramdisk, quiet=False).communicate()[0].decode(errors="replace")
    calls = [(int(us), name) for name, us in re.findall(r"initcall (\S+?)\+\S+ returned \S+ after (\d+) usecs", console)]
    print(f"{len(calls)} initcalls, {sum(us for us, _ in calls) / 1000:.0f} ms")
    for microseconds, name in sorted(calls, reverse=True)[:30]:
        print(f"{microseconds / 1000:8.1f} ms  {name}")


def command_profile(options, ramdisk):
    symbols = []
    with open(options.map, encoding="ascii") as file:
        for line in file:
            address, kind, name = line.split()
            if kind in "tTwW":
                symbols.append((int(address, 16), name))
    symbols.sort()
    addresses = [address for address, _ in symbols]

    def symbol(address):
        index = bisect.bisect_right(addresses, address) - 1
        return symbols[index][1] if index >= 0 and address - addresses[index] < 0x20000 else None

    control = os.path.join(os.path.dirname(ramdisk), "qmp")
    process = start(options, ramdisk, extra=["-qmp", f"unix:{control},server=on,wait=off"])
    qmp = socket.socket(socket.AF_UNIX)
    while True:
        try:
            qmp.connect(control)
            break
        except OSError:
            time.sleep(0.001)
    stream = qmp.makefile("rw")
    stream.readline()

    def monitor(command):
        request = {"execute": "qmp_capabilities"}
        if command:
            request = {"execute": "human-monitor-command", "arguments": {"command-line": command}}
        stream.write(json.dumps(request) + "\n")
        stream.flush()
        while True:
            line = stream.readline()
            if not line:
                raise EOFError
            answer = json.loads(line)
            if "return" in answer:
                return answer["return"]

    leaves, inclusive, samples = collections.Counter(), collections.Counter(), 0
    try:
        monitor(None)
        while True:
            registers = monitor("info registers")
            rip, rsp = re.search(r"RIP=([0-9a-f]+)", registers), re.search(r"RSP=([0-9a-f]+)", registers)
            if not rip:
                continue  # still in 32-bit start-up code
            leaf = symbol(int(rip[1], 16)) or "(user space or firmware)"
            names = {leaf}
            stack = int(rsp[1], 16)
            if stack >= 0xffff800000000000:
                for word in re.findall(r"0x([0-9a-f]{16})", monitor(f"x/120gx {stack:#x}")):
                    if int(word, 16) >= addresses[0]:
                        names.add(symbol(int(word, 16)))
            leaves[leaf] += 1
            inclusive.update(name for name in names if name)
            samples += 1
            time.sleep(0.0005)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    process.communicate()
    for title, counter, count in (("leaf", leaves, 25), ("inclusive", inclusive, 60)):
        print(f"{title} ({samples} samples)")
        for name, hits in counter.most_common(count):
            print(f"{100 * hits / samples:6.1f}%  {name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("time", "initcalls", "profile"))
    parser.add_argument("-n", "--runs", type=int, default=5)
    parser.add_argument("--kernel")
    parser.add_argument("--map")
    parser.add_argument("parameters", nargs="*", help="added to the kernel command line")
    options = parser.parse_intermixed_args()
    if not options.kernel:
        options.kernel = subprocess.run([os.path.join(HERE, "build.sh"), "--print-path"], check=True,
                                        capture_output=True, text=True).stdout.strip()
    if not options.map:
        options.map = os.path.join(os.path.dirname(options.kernel), "System.map")
    if not os.path.exists(options.kernel):
        sys.exit(f"{options.kernel} does not exist: build the kernel first with 'make kernel'")
    with tempfile.TemporaryDirectory(prefix="boot-profile-") as folder:
        globals()["command_" + options.command](options, initramfs(folder))


if __name__ == "__main__":
    main()
