"""A disk that is full: every command says so, nothing half-written stays, and with room again everything works.

The homes are small tmpfs mounts in a mount namespace of their own, so nothing is left on the host.
"""

import pathlib
import shlex
import subprocess

import pytest

from conftest import find_demo_disk

FULL = "No space left on device (os error 28)"


class SmallDisk:
    """Runs shell scripts with `$MSB_HOME` on a tmpfs; `room N` changes its size to N MiB, `fill` leaves nothing free."""

    def __init__(self, place):
        self.place = place
        self.archive = find_demo_disk(place.binary).with_suffix(".tar")
        self.mount = place.work / "small"
        self.mount.mkdir()

    def run(self, script, mib):
        prelude = f"""
            mount -t tmpfs -o size={mib}M,mode=755 none {self.mount}
            room() {{ mount -o remount,size=$1M {self.mount}; rm -f {self.mount}/filler; }}
            fill() {{ cat /dev/zero >{self.mount}/filler 2>/dev/null; true; }}
            msb() {{ {self.place.binary} "$@"; }}
            ARCHIVE={shlex.quote(str(self.archive))}
            mkdir -p "$MSB_HOME"
        """
        environment = self.place.msb.environment(MSB_HOME=str(self.mount / "h"))
        done = subprocess.run(["unshare", "-Urm", "sh", "-c", prelude + script], env=environment, cwd=self.place.work,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        return done


@pytest.fixture
def small(place):
    disk = SmallDisk(place)
    yield disk
    disk.mount.rmdir()


def test_loading_an_image(small):
    done = small.run("""
        msb image ls
        fill
        msb load -i "$ARCHIVE"; echo "load $?"
        rm "$MSB_HOME/../filler"
        msb image ls; find "$MSB_HOME"/cache -type f ! -name '*.lock'
        echo --- room
        msb load -i "$ARCHIVE"; echo "load $?"
        msb image ls -q
    """, mib=8)
    before, after = done.stdout.split("--- room\n")
    assert before == "load 1\n", "an empty list, no files" + done.stderr
    assert FULL in done.stderr
    assert after == "load 0\nbusybox\n", done.stderr


def test_an_empty_home_on_a_full_disk(small):
    done = small.run("""
        fill
        msb ls; echo "ls $?"
        rm "$MSB_HOME/../filler"
        msb ls; echo "ls $?"
    """, mib=4)
    assert done.stdout == "ls 1\nls 0\n", done.stderr
    assert done.stderr.startswith("error: ")
    assert any(text in done.stderr for text in (FULL, "database or disk is full")), done.stderr


def test_creating_a_sandbox(small):
    done = small.run("""
        msb load -q -i "$ARCHIVE"
        fill
        msb create -q -n box busybox; echo "create $?"
        rm "$MSB_HOME/../filler"
        ls "$MSB_HOME/sandboxes"
        msb create -q -n box busybox; echo "create $?"
        msb exec box -- echo it runs
        msb rm -f -q box
    """, mib=24)
    assert done.stdout == "create 1\ncreate 0\nit runs\n", done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_running_sandbox_outlives_a_full_disk(small):
    """Logs and the upper disk cannot grow; the sandbox answers, and stops in good order."""
    done = small.run("""
        msb load -q -i "$ARCHIVE"
        msb create -q -n box busybox
        fill
        msb exec box -- echo still here
        msb exec box -- sh -c 'dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sync; echo wrote $?'
        msb exec box -- echo and still here
        rm "$MSB_HOME/../filler"
        room 200
        msb stop -q box; echo "stop $?"
        msb start -q box; echo "start $?"
        msb exec box -- echo again
        msb rm -f -q box
    """, mib=32)
    assert done.stdout.startswith("still here\n"), done.stderr
    assert "and still here\n" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("stop 0\nstart 0\nagain\n"), done.stdout + done.stderr
