"""Twenty sandboxes from one shell script: all come up, run a command and go away, and nothing is left."""

import os
import pathlib
import subprocess

from conftest import processes_of, shared_memory
from msbcli import wait_until

SCRIPT = r"""
for i in $(seq 20); do
    ( cp --sparse=always base.raw disk$i.raw
      "$MSB" run -q -m 128 ./disk$i.raw -- sh -c "echo sandbox $i; exit $i" > out$i
      echo $? > code$i ) &
done
wait
"""


def test_twenty_at_once(place):
    place.disk("base.raw")
    before = (set(processes_of(place.directory)), shared_memory())
    subprocess.run(["bash", "-c", SCRIPT], cwd=place.work, check=True, timeout=800,
                   env=place.msb.environment(MSB=str(place.binary)))
    for i in range(1, 21):
        assert (place.work / f"out{i}").read_text() == f"sandbox {i}\n", i
        assert (place.work / f"code{i}").read_text() == f"{i}\n"
    wait_until(lambda: set(processes_of(place.directory)) == before[0], 30, "processes to end")
    assert place.msb.names() == []
    assert list((place.home / "sandboxes").iterdir()) == []
    sandboxes = place.home / "run" / "sandboxes"
    assert not sandboxes.exists() or list(sandboxes.iterdir()) == []
    assert not list((place.home / "run").rglob("*.sock"))
    assert {name for name in shared_memory() - before[1] if name.startswith("msb-") and not place.used_elsewhere(name)} == set()
