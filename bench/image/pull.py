#!/usr/bin/python3
"""Pull time of a large image from a loopback registry, beside upstream's msb when one is given.

usage: pull.py [MSB [UPSTREAM_MSB]], see programs() in upstream.py

The image: three gzip layers, about 370 MB and 13 000 entries taken from this machine's /usr. Prints one line per figure.
"""

import io
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/lib"))
import msbregistry  # noqa: E402
import upstream  # noqa: E402  (beside this file)

LAYERS, BYTES, ENTRIES, ROUNDS = 3, 370_000_000, 13_000, 5


def usr_layers():
    """Tars of regular files and links of /usr, each with a share of the bytes and of the entries."""
    walk = ((d, f) for top in ("/usr/share", "/usr/lib", "/usr/bin")
            for d, dirs, files in sorted(os.walk(top)) for f in sorted(files))
    for _ in range(LAYERS):
        out, size, entries = io.BytesIO(), 0, 0
        with tarfile.open(fileobj=out, mode="w") as tar:
            for directory, name in walk:
                path = os.path.join(directory, name)
                length = os.lstat(path).st_size
                # Small files until the entries are there, then large ones until the bytes are.
                if entries < ENTRIES // LAYERS and length > 40_000 or length > 30_000_000:
                    continue
                if entries >= ENTRIES // LAYERS and length < 100_000:
                    continue
                tar.add(path, recursive=False)
                size, entries = size + length, entries + 1
                if size >= BYTES // LAYERS:
                    break
        print(f"layer: {size / 1e6:.0f} MB, {entries} files", flush=True)
        yield out.getvalue()


def build(directory):
    msbregistry.Layout(directory).image(list(usr_layers()))


def timed(command, environment=None, stdin=None):
    """(seconds, peak MB, CPU seconds)"""
    start = time.monotonic()
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{command} failed")
    return time.monotonic() - start, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def pull(msb, reference, home, fresh=True):
    if fresh:
        shutil.rmtree(home, ignore_errors=True)
    return timed([msb, "pull", "--insecure", reference], os.environ | {"MSB_HOME": home})


def main():
    work = tempfile.mkdtemp(prefix="msb-bench-")
    try:
        msb, other_msb = upstream.programs(sys.argv, work)
        # In a process of its own: a child's peak memory counts what it was forked from.
        builder = multiprocessing.Process(target=build, args=(f"{work}/oci",))
        builder.start()
        builder.join()
        with msbregistry.Registry() as registry:
            registry.push(f"{work}/oci", "py:1")
            reference = f"{registry.host}/py:1"
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(pull(msb, reference, f"{work}/ours"))
                if other_msb:
                    theirs.append(pull(other_msb, reference, f"{work}/theirs"))
            again = min(pull(msb, reference, f"{work}/ours", fresh=False)[0] for _ in range(ROUNDS))
        best, memory, cpu = min(ours)
        print(f"msb pull: {best:.2f} s, {cpu:.2f} s of CPU, peak {memory:.0f} MB")
        if other_msb:
            other, other_memory, other_cpu = min(theirs)
            print(f"upstream pull: {other:.2f} s, {other_cpu:.2f} s of CPU, peak {other_memory:.0f} MB")
            print(f"ratio: {best / other:.2f} (wanted: at most 0.60)")
        print(f"pull of a cached image: {again * 1000:.0f} ms (wanted: at most 20)")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
