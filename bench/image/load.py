#!/usr/bin/python3
"""Time and memory of `msb load` of a large image, beside upstream's when one is given.

usage: load.py [MSB [UPSTREAM_MSB]], see programs() in upstream.py

The image is that of
pull.py, as docker-archive (layers as they are) and as OCI layout (layers in gzip), each loaded from a file in turns with
upstream, and once through a pipe. Prints one line per figure.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile

import pull  # this and the next: beside this file
import upstream

ROUNDS = 5


def build(directory):
    pull.build(f"{directory}/oci")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{directory}/oci"]
    subprocess.run([*copy, f"docker-archive:{directory}/docker.tar:py:1"], check=True)
    subprocess.run([*copy, "--preserve-digests", f"oci-archive:{directory}/oci.tar:py:1"], check=True)


def load(program, home, archive, pipe=False):
    """Into an empty home: (seconds, peak MB, CPU seconds)."""
    shutil.rmtree(home, ignore_errors=True)
    environment = os.environ | {"MSB_HOME": home}
    if not pipe:
        return pull.timed([program, "load", "-i", archive], environment)
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as source:
        return pull.timed([program, "load"], environment, source.stdout)


def bench(name, archive, msb, other, home):
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(load(msb, home, archive))
        if other:
            theirs.append(load(other, home, archive))
    best, memory, cpu = min(ours)
    piped = load(msb, home, archive, pipe=True)
    print(f"load of {name}: {best:.2f} s, {cpu:.2f} s of CPU, peak {memory:.0f} MB (wanted: at most 150); "
          f"from a pipe {piped[0]:.2f} s, peak {piped[1]:.0f} MB")
    if other:
        seconds, memory, cpu = min(theirs)
        print(f"upstream load of {name}: {seconds:.2f} s, {cpu:.2f} s of CPU, peak {memory:.0f} MB")
        print(f"ratio: {best / seconds:.2f} (wanted: at most 0.50)", flush=True)


def main():
    work = tempfile.mkdtemp(prefix="msb-bench-")
    try:
        msb, other = upstream.programs(sys.argv, work)
        # In a process of its own: a child's peak memory counts what it was forked from.
        builder = multiprocessing.Process(target=build, args=(work,))
        builder.start()
        builder.join()
        bench("a docker-archive", f"{work}/docker.tar", msb, other, f"{work}/home")
        bench("an OCI layout", f"{work}/oci.tar", msb, other, f"{work}/home")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
