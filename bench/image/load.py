#!/usr/bin/python3
"""Load time of a large image, beside upstream's msb when one is given.

usage: load.py IMAGE_ARCHIVE [UPSTREAM_MSB]

IMAGE_ARCHIVE is build/tests/image_archive. The image is that of pull.py, as docker-archive (layers as they are) and as
OCI layout (layers in gzip), each loaded from a file in turns with upstream, and once through a pipe. Prints one line per
figure.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile

import pull  # beside this file

ROUNDS = 5


def build(directory):
    pull.build(f"{directory}/oci")
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{directory}/oci"]
    subprocess.run([*copy, f"docker-archive:{directory}/docker.tar:py:1"], check=True)
    subprocess.run([*copy, "--preserve-digests", f"oci-archive:{directory}/oci.tar:py:1"], check=True)


def load(command, archive, environment=None, pipe=False):
    """(seconds, peak MB, CPU seconds)"""
    if not pipe:
        return pull.timed([*command, archive], environment)
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as source:
        return pull.timed([*command, "-"], environment, source.stdout)


def bench(name, archive, program, upstream, work):
    ours, theirs = [], []
    for _ in range(ROUNDS):
        shutil.rmtree(f"{work}/cache", ignore_errors=True)
        ours.append(load([program, "load", f"{work}/cache"], archive))
        if upstream:
            shutil.rmtree(f"{work}/home", ignore_errors=True)
            theirs.append(load([upstream, "load", "-i"], archive, os.environ | {"MSB_HOME": f"{work}/home"}))
    shutil.rmtree(f"{work}/cache")
    piped = load([program, "load", f"{work}/cache"], archive, pipe=True)
    best, memory, cpu = min(ours)
    print(f"load of {name}: {best:.2f} s, {cpu:.2f} s of CPU, peak {memory:.0f} MB (wanted: at most 150); "
          f"from a pipe {piped[0]:.2f} s")
    if upstream:
        other, other_memory, other_cpu = min(theirs)
        print(f"upstream load of {name}: {other:.2f} s, {other_cpu:.2f} s of CPU, peak {other_memory:.0f} MB")
        print(f"ratio: {best / other:.2f} (wanted: at most 0.50)", flush=True)


def main():
    program, upstream = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    work = tempfile.mkdtemp(prefix="msb-bench-")
    try:
        # In a process of its own: a child's peak memory counts what it was forked from.
        builder = multiprocessing.Process(target=build, args=(work,))
        builder.start()
        builder.join()
        bench("a docker-archive", f"{work}/docker.tar", program, upstream, work)
        bench("an OCI layout", f"{work}/oci.tar", program, upstream, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
