"""Boots the real kernel and initramfs in QEMU with the test at the host end of the agent's ports."""

import os
import shutil
import socket
import subprocess
import tempfile
import time

import msbproto

BUILD = os.environ.get("MSB_BUILD_DIR", os.path.join(os.path.dirname(__file__), "../../build"))


def part(variable, name):
    path = os.environ.get(variable) or os.path.join(BUILD, "lib/microsandbox", name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: build the target, or set {variable}")
    return os.path.abspath(path)


class Disk:
    def __init__(self, path, format="raw", readonly=False, serial=None):
        self.path, self.format, self.readonly, self.serial = path, format, readonly, serial

    def arguments(self, index):
        read_only = ",readonly=on" if self.readonly else ""
        serial = f",serial={self.serial}" if self.serial else ""
        return [
            "-drive",
            f"if=none,id=d{index},file={self.path},format={self.format}{read_only}",
            "-device",
            f"virtio-blk-device,drive=d{index}{serial}",
        ]


class Vm:
    """One VM. `agent` is the client of its agent port, `runtime` of its runtime port (or None)."""

    def __init__(self, disks=(), memory=256, cpus=1, max_cpus=None, runtime=True, append=""):
        self.directory = tempfile.mkdtemp(prefix="msb-vm-")
        self.console_path = os.path.join(self.directory, "console.log")
        ends, guest_ends = {}, []
        names = ["agent"] + (["runtime"] if runtime else [])
        arguments = [
            os.environ.get("MSB_QEMU", "qemu-system-x86_64"),
            *("-M", "microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=off"),
            *("-accel", "tcg", "-cpu", "max", "-m", str(memory)),
            *("-smp", f"{max_cpus or cpus}"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", part("MSB_KERNEL", "vmlinux")),
            *("-initrd", part("MSB_INITRAMFS", "initramfs.cpio")),
            "-append",
            f"console=ttyS0 reboot=t panic=-1 no_timer_check rdinit=/init quiet maxcpus={cpus} {append}".strip(),
            *("-serial", f"file:{self.console_path}"),
            *("-device", "virtio-serial-device"),
        ]
        for name in names:
            mine, theirs = socket.socketpair()
            ends[name] = mine
            guest_ends.append(theirs)
            arguments += ["-chardev", f"socket,id={name},fd={theirs.fileno()}"]
            arguments += ["-device", f"virtserialport,chardev={name},name={name}"]
        for index, disk in enumerate(disks):
            arguments += disk.arguments(index)
        self.errors = open(os.path.join(self.directory, "qemu.log"), "wb")
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            arguments,
            pass_fds=[end.fileno() for end in guest_ends],
            stdin=subprocess.DEVNULL,
            stdout=self.errors,
            stderr=self.errors,
        )
        for end in guest_ends:
            end.close()
        self.agent = msbproto.Client(ends["agent"])
        self.runtime = msbproto.Client(ends["runtime"]) if runtime else None

    def boot(self, bootstrap=None, ack=True):
        """Sends the boot frames; returns the payload of core.ready."""
        self.agent.send("core.bootstrap", {"security_profile": "default", **(bootstrap or {})})
        if not ack:
            return None
        self.resolved = self.agent.expect("core.init.resolved")
        self.agent.send("core.init.ack", {})
        self.ready = self.agent.expect("core.ready")
        return self.ready.payload

    def console(self):
        with open(self.console_path, errors="replace") as file:
            return file.read()

    def wait_exit(self, timeout=60):
        """The VM ends by itself; its whole console."""
        self.process.wait(timeout)
        return self.console()

    def shutdown(self):
        self.agent.send("core.shutdown", None)
        return self.wait_exit()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()
        self.agent.socket.close()
        if self.runtime:
            self.runtime.socket.close()
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            print("--- guest console ---", self.console(), "--- end ---", sep="\n")
            with open(self.errors.name, errors="replace") as file:
                print("--- qemu ---", file.read(), sep="\n")
        self.close()
