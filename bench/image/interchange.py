#!/usr/bin/python3
"""Whether a cache written by upstream serves us and one written by us serves upstream.

usage: interchange.py IMAGE_ARCHIVE [MSB]

IMAGE_ARCHIVE is build/tests/image_archive, MSB is build/bin/msb; without MSB the databases are left out. Upstream's
program comes from npm. Prints one line per check; exit status 1 when one fails.
"""

import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests/lib"))
import msbregistry  # noqa: E402
import upstream  # noqa: E402  (beside this file)

failed = []


def check(what, passed):
    print(f"{'ok  ' if passed else 'FAIL'} {what}", flush=True)
    if not passed:
        failed.append(what)


def run(command, home=None):
    environment = os.environ | ({"MSB_HOME": str(home)} if home else {})
    done = subprocess.run([str(part) for part in command], env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def layers():
    """Every kind of entry but extended attributes, which upstream drops."""
    layer = msbregistry.TarLayer()
    layer.add("d", tarfile.DIRTYPE, mode=0o1777)
    layer.add("d/file", data=b"x" * 10_000, mode=0o4755, uid=3_000_000, gid=70_000)
    layer.add("a-hard", tarfile.LNKTYPE, linkname="d/file")
    layer.add("d/link", tarfile.SYMTYPE, linkname="t" * 200)
    layer.add("d/" + "n" * 255, data=b"long")
    layer.add("caf\u00e9 \u2603", data=b"name")
    layer.add("char", tarfile.CHRTYPE, devmajor=5, devminor=300)
    layer.add("block", tarfile.BLKTYPE, devmajor=8, devminor=1)
    layer.add("fifo", tarfile.FIFOTYPE)
    layer.add("socket", b"`")
    for i in range(500):
        layer.add(f"d/{i:03}", data=bytes([i % 256]) * (i * 37))
    top = msbregistry.make_tar({"d": None, "d/.wh.000": b"", "opaque": None, "opaque/.wh..wh..opq": b"",
                                "opaque/new": b"2", "no-parent/file": b"3"})
    return [layer.bytes(), top]


def make_archives(directory):
    layout = msbregistry.Layout(f"{directory}/oci")
    layout.image(layers(), config={"Cmd": ["sh"], "Env": ["A=b"], "Labels": {"x": "y", "a": "b"}, "WorkingDir": "/d",
                                   "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT", "User": "1:1"})
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{directory}/oci"]
    run([*copy, f"docker-archive:{directory}/docker.tar:x:1"])
    run([*copy, f"oci-archive:{directory}/oci.tar:x:1"])
    # skopeo writes the docker reference in full.
    return {f"{directory}/docker.tar": "docker.io/library/x:1", f"{directory}/oci.tar": "x:1"}


def artifacts(home):
    """Layer images, fsmeta, records and descriptors by name; a descriptor holds its cache's path, and upstream writes
    labels in any order."""
    cache = pathlib.Path(home) / "cache"
    found = {}
    for path in cache.rglob("*"):
        content = path.read_bytes().replace(str(cache).encode(), b"CACHE") if path.is_file() else b""
        if path.suffix == ".json":
            found[str(path.relative_to(cache))] = json.loads(content)
        elif path.suffix in (".erofs", ".vmdk"):
            found[str(path.relative_to(cache))] = content
    return found


def compare_caches(name, archive, reference, ours, theirs, work):
    run([theirs, "load", "-i", archive], f"{work}/theirs")
    run([ours, "load", f"{work}/ours/cache", archive])
    check(f"{name}: both make the same files", artifacts(f"{work}/ours") == artifacts(f"{work}/theirs"))
    again = run([ours, "load", f"{work}/theirs/cache", archive]).decode()
    check(f"{name}: upstream's cache is a hit for us", again.endswith(" cached\n"))
    for form in ("docker", "oci"):
        saved = {(who, cache): save(work, f"{work}/{cache}", reference, form) for who, save in
                 (("ours", lambda work, home, ref, form: run([ours, "save", f"{home}/cache", form, "-", ref])),
                  ("theirs", lambda work, home, ref, form: run([theirs, "save", ref, "--format", form], home)))
                 for cache in ("ours", "theirs")}
        check(f"{name}: both save the same {form} archive from either cache", len(set(saved.values())) == 1)


def compare_databases(name, archive, reference, msb, theirs, work):
    homes = {"ours": (msb, f"{work}/ours-db"), "theirs": (theirs, f"{work}/theirs-db")}
    for program, home in homes.values():
        run([program, "load", "-i", archive], home)
    views = {}
    for loader, (_, home) in homes.items():
        for reader, (program, _) in homes.items():
            images = json.loads(run([program, "images", "--format", "json"], home))
            inspected = json.loads(run([program, "image", "inspect", reference, "--format", "json"], home))
            for document in (*images, inspected):
                document.pop("created_at")
            views[loader, reader] = (images, inspected, run([program, "save", reference], home))
    for loader in homes:
        for what, i in (("images", 0), ("image inspect", 1), ("save", 2)):
            check(f"{name}: `msb {what}` of both agree on what {loader} loaded",
                  views[loader, "ours"][i] == views[loader, "theirs"][i])
    check(f"{name}: both loads give the same images", views["ours", "theirs"] == views["theirs", "theirs"])


def main():
    ours, msb = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(prefix="msb-x-") as directory:
        theirs = upstream.fetch(directory)
        for archive, reference in make_archives(directory).items():
            name = pathlib.Path(archive).name
            work = tempfile.mkdtemp(dir=directory)
            compare_caches(name, archive, reference, ours, theirs, work)
            if msb:
                compare_databases(name, archive, reference, msb, theirs, work)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
