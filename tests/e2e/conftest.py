"""Fixtures of the end-to-end tests.

Each test module gets one temporary directory with its own MSB_HOME and removes it; afterwards nothing may be left of
what ran there: no process, no shared memory, no mount, no socket.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "lib"))

from msbcli import Msb, wait_until  # noqa: E402


def find_msb():
    path = pathlib.Path(os.environ.get("MSB_BIN", ROOT / "build" / "bin" / "msb")).resolve()
    assert os.access(path, os.X_OK), f"{path} is not an executable: build msb, or set MSB_BIN"
    return path


def find_demo_disk(msb):
    candidates = [msb.parent.parent / "share/microsandbox/busybox.raw", ROOT / "build/share/microsandbox/busybox.raw"]
    for path in candidates:
        if path.exists():
            return path
    raise AssertionError(f"no demo disk at {candidates}: run `make build`")


def processes_of(directory):
    """Processes whose command line or environment names the directory."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue  # it ended while we looked
        if str(directory).encode() in command + environment and state != "Z":
            found.append((int(entry.name), command.replace(b"\0", b" ")[:200]))
    return found


def shared_memory():
    return set(os.listdir("/dev/shm"))


class Place:
    """A directory with a home, a disk and the msb that works there."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="msbe2e-", dir="/tmp"))
        self.home = self.directory / "h"
        self.home.mkdir()
        self.work = self.directory / "w"
        self.work.mkdir()
        self.binary = find_msb()
        self.msb = Msb(self.binary, self.home, self.work)
        self.shm_before = shared_memory()

    def disk(self, name="disk.raw"):
        """A fresh copy of the demo disk, sparse."""
        target = self.work / name
        subprocess.run(["cp", "--sparse=always", find_demo_disk(self.binary), target], check=True)
        return target

    def close(self):
        for name in self.msb.names():
            self.msb("rm", "-f", name)
        try:
            wait_until(lambda: not processes_of(self.directory), 20, "processes to end")
            leaked = []
        except TimeoutError:
            leaked = processes_of(self.directory)
        mounts = [line for line in open("/proc/mounts") if str(self.directory) in line]
        sockets = [str(p) for p in self.home.glob("run/**/*.sock")]
        shm = {name for name in shared_memory() - self.shm_before if name.startswith("msb-")
               and not self.used_elsewhere(name)}
        for pid, _ in leaked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        shutil.rmtree(self.directory)
        assert not leaked, f"processes left: {leaked}"
        assert not mounts, f"mounts left: {mounts}"
        assert not sockets, f"sockets left: {sockets}"
        assert not shm, f"shared memory left: {shm}"

    @staticmethod
    def used_elsewhere(name):
        """Other test modules run at the same time; what a process maps is theirs."""
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"/dev/shm/{name}" in (entry / "maps").read_text():
                        return True
                except OSError:
                    continue
        return False


@pytest.fixture(scope="module")
def place():
    place = Place()
    yield place
    place.close()


@pytest.fixture(scope="module")
def msb(place):
    return place.msb


@pytest.fixture
def disk(place, request):
    path = place.disk(f"{request.node.name.split('[')[0]}.raw")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def box(place):
    """A running sandbox the tests of a module share."""
    place.disk("box.raw")
    place.msb.ok("create", "./box.raw", "-n", "box", "-e", "FROM_CONFIG=yes")
    yield "box"
    place.msb("rm", "-f", "box")
