#!/usr/bin/python3
"""How fast the agent answers its first bootstrap: issue budget 30 ms under TCG, root on a block device.

usage: bootstrap.py [RUNS]                      MSB_BUILD_DIR names the build (default build/)

Each run boots a machine, waits until its agent sleeps in its first read, and only then sends core.bootstrap. Printed are
the median and the range of two times, and of the processor time in them (on a busy host the better figure): until core.init.resolved (the root is mounted and entered, the user looked up),
and from the host's core.init.ack to core.ready (mounts, identity, network).
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("MSB_BUILD_DIR", str(ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests/lib"))

import msbvm  # noqa: E402

BUDGET_MS = 30
# The guest sleeps when it used next to nothing for a while, after what no boot can do with less.
IDLE_SECONDS, IDLE_CPU_MS, BOOT_CPU_MS = 0.3, 2, 150
BOOTSTRAP = {
    "hostname": "bench", "entropy": b"",
    "block_root": {"kind": "disk-image", "device": "/dev/vda"},
}


def thread_times(pid):
    """(processor time, time waiting for a processor) of each of the engine's threads, in milliseconds."""
    times = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as file:
            times.append([int(word) / 1e6 for word in file.read().split()[:2]])
    return times


def vcpu_ms(pid):
    """Processor time of the busiest thread: the vCPU."""
    return max(thread_times(pid))[0]


def wait_until_idle(pid):
    used, since = -1.0, time.monotonic()
    while time.monotonic() - since < IDLE_SECONDS or used < BOOT_CPU_MS:
        time.sleep(0.005)
        now = sum(map(sum, thread_times(pid)))  # a thread that waits its turn is not idle
        if now > used + IDLE_CPU_MS:
            used, since = now, time.monotonic()


def measure(disk):
    with msbvm.Vm([msbvm.Disk(disk)]) as vm:
        wait_until_idle(vm.process.pid)
        clock = lambda: (time.monotonic() * 1000, vcpu_ms(vm.process.pid))
        start = clock()
        vm.agent.send("core.bootstrap", {"security_profile": "default", **BOOTSTRAP, "entropy": os.urandom(64)})
        vm.agent.expect("core.init.resolved")
        resolved = clock()
        vm.agent.send("core.init.ack", {})
        vm.agent.expect("core.ready")
        ready = clock()
        return [resolved[0] - start[0], resolved[1] - start[1], ready[0] - resolved[0], ready[1] - resolved[1]]


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as directory:
        disk = os.path.join(directory, "root.raw")
        times = []
        for _ in range(runs):
            source = os.path.join(os.environ["MSB_BUILD_DIR"], "share/microsandbox/busybox.raw")
            subprocess.run(["cp", "--sparse=always", source, disk], check=True)
            subprocess.run(["sync", disk], check=True)  # the guest's first flush must not wait for our copy
            times.append(measure(disk))
    for column, name, budget in [(0, "bootstrap to init.resolved", f"   budget {BUDGET_MS} ms"), (1, "  vCPU time of it", ""),
                                 (2, "init.ack to ready", ""), (3, "  vCPU time of it", "")]:
        values = [row[column] for row in times]
        print(f"{name:28} {statistics.median(values):6.1f} ms   ({min(values):.1f} to {max(values):.1f}){budget}")


main()
