"""Archives beside the tools that others use: what skopeo and umoci write is loaded, what is saved they read; and loads
that are killed."""

import bz2
import gzip
import json
import lzma
import os
import pathlib
import random
import signal
import stat
import subprocess
import sys
import tarfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "lib"))
import msbregistry  # noqa: E402

ARCHIVE = pathlib.Path(os.environ.get("MSB_BUILD_DIR", "build")) / "tests/image_archive"


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, **options).stdout


def load(cache, archive, *flags):
    return run(ARCHIVE, "load", cache, archive, *flags).splitlines()


def save(cache, kind, archive, *references):
    run(ARCHIVE, "save", cache, kind, archive, *references)


def skopeo(source, target):
    run("skopeo", "--insecure-policy", "copy", "--quiet", source, target)


def layers_with_everything():
    """Two layers: every kind of entry that umoci can unpack, then whiteouts and replacements over them."""
    source = random.Random(7)
    layer = msbregistry.TarLayer()
    layer.add("usr", tarfile.DIRTYPE, mode=0o755)
    layer.add("tmp", tarfile.DIRTYPE, mode=0o1777)
    for i in range(300):
        layer.add(f"usr/file{i:03}", data=source.randbytes(source.randrange(30_000)), mode=0o644, uid=i)
    layer.add("usr/setuid", data=b"#!", mode=0o4755)
    layer.add("usr/hard", tarfile.LNKTYPE, linkname="usr/setuid")
    layer.add("usr/" + "n" * 255, data=b"long")
    layer.add("usr/caf\u00e9 \u2603", data=b"name")
    layer.add("link", tarfile.SYMTYPE, linkname="usr/" + "t" * 200, mode=0o777)
    layer.add("char", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    layer.add("fifo", tarfile.FIFOTYPE, mode=0o600)
    layer.add("user", data=b"x", uid=3_000_000, gid=70_000)
    layer.add("attributes", data=b"x", pax_headers={"SCHILY.xattr.user.colour": "blue"})
    layer.add("gone", tarfile.DIRTYPE, mode=0o755)
    layer.add("gone/inside", data=b"1")
    layer.add("opaque", tarfile.DIRTYPE, mode=0o755)
    layer.add("opaque/old", data=b"1")
    top = msbregistry.make_tar({"usr": None, "usr/file000": b"replaced", "usr/.wh.file001": b"", ".wh.gone": b"",
                                "opaque": None, "opaque/.wh..wh..opq": b"", "opaque/new": b"2"})
    return [layer.bytes(), top]


def tree_of(root):
    """What umoci unpacked, by path: type, mode, owner, size, content, target, attributes, which names are one file."""
    tree, inodes = {}, {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            content = {stat.S_IFREG: lambda: pathlib.Path(path).read_bytes(),
                       stat.S_IFLNK: lambda: os.readlink(path)}.get(kind, lambda: st.st_rdev)()
            attributes = {a: os.getxattr(path, a, follow_symlinks=False)
                          for a in os.listxattr(path, follow_symlinks=False)}
            relative = os.path.relpath(path, root)
            same = inodes.setdefault(st.st_ino, relative)
            tree[relative] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, content, attributes, same)
    return tree


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """An OCI layout made elsewhere, and what umoci makes of it."""
    directory = tmp_path_factory.mktemp("original")
    layout = msbregistry.Layout(str(directory / "oci"))
    layout.image(layers_with_everything(), config={"Cmd": ["/usr/setuid"], "Env": ["A=b"], "Labels": {"x": "y"}})
    skopeo(f"oci:{directory}/oci", f"oci:{directory}/tagged:one")
    layout.tree = unpack(directory / "tagged", "one", directory / "bundle")
    layout.tagged = directory / "tagged"
    return layout


def unpack(layout, tag, bundle):
    run("umoci", "unpack", "--image", f"{layout}:{tag}", bundle)
    return tree_of(bundle / "rootfs")


def test_skopeos_docker_archive(original, tmp_path):
    skopeo(f"oci:{original.tagged}:one", f"docker-archive:{tmp_path}/a.tar:team/image:1")
    (line,) = load(tmp_path / "cache", tmp_path / "a.tar")
    assert line.startswith("docker.io/team/image:1 sha256:") and line.endswith(" loaded")
    assert load(tmp_path / "cache", tmp_path / "a.tar") == [line.replace("loaded", "cached")]


def test_skopeos_oci_archive(original, tmp_path):
    skopeo(f"oci:{original.tagged}:one", f"oci-archive:{tmp_path}/a.tar:image:1")
    manifest = json.loads((original.tagged / "index.json").read_text())["manifests"][0]["digest"]
    assert load(tmp_path / "cache", tmp_path / "a.tar") == [f"image:1 {manifest} loaded"]


@pytest.mark.parametrize("command", [["gzip", "-c"], ["zstd", "-qc"], ["xz", "-1c"], ["bzip2", "-c"], ["cat"]],
                         ids=lambda command: command[0])
def test_compressed_as_a_whole_and_through_a_pipe(original, tmp_path, command):
    skopeo(f"oci:{original.tagged}:one", f"docker-archive:{tmp_path}/a.tar:image:1")
    with subprocess.Popen([*command, tmp_path / "a.tar"], stdout=subprocess.PIPE) as packer:
        assert run(ARCHIVE, "load", tmp_path / "cache", "-", stdin=packer.stdout).endswith(" loaded\n")
    assert packer.returncode == 0
    assert list((tmp_path / "cache/tmp").iterdir()) == []


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress], ids=["gzip", "xz", "bzip2"])
def test_compressed_in_pieces_and_cut(tmp_path, pack):
    """Several streams are one archive, as `cat a.xz b.xz` makes them; what ends early or is damaged is none."""
    layer = msbregistry.make_tar({"file": random.Random(3).randbytes(300_000)})
    config = json.dumps({"architecture": "amd64", "os": "linux",
                         "rootfs": {"type": "layers", "diff_ids": [msbregistry.digest(layer)]}}).encode()
    manifest = json.dumps([{"Config": "c", "RepoTags": ["x:1"], "Layers": ["l"]}]).encode()
    plain = msbregistry.make_tar({"manifest.json": manifest, "c": config, "l": layer})
    packed = [pack(plain[:100_000]), pack(plain[100_000:])]
    archive = tmp_path / "a"
    archive.write_bytes(b"".join(packed))
    assert load(tmp_path / "cache", archive)[0].startswith("x:1 ")
    damaged = bytearray(packed[0])
    damaged[len(damaged) // 2] ^= 0x55
    for wrong in (packed[0], packed[0] + packed[1][:-40_000], packed[0][:-100], bytes(damaged) + packed[1]):
        archive.write_bytes(wrong)
        process = subprocess.run([ARCHIVE, "load", tmp_path / "other", archive], capture_output=True, text=True,
                                 errors="replace")
        assert process.returncode == 1
        assert process.stderr.startswith("error: cannot read the archive: ")
        assert list((tmp_path / "other/tmp").iterdir()) == []


@pytest.mark.parametrize("kind, transport", [("docker", "docker-archive"), ("oci", "oci-archive")])
def test_skopeo_and_umoci_read_what_is_saved(original, tmp_path, kind, transport):
    skopeo(f"oci:{original.tagged}:one", f"oci-archive:{tmp_path}/in.tar:team/image:1")
    load(tmp_path / "cache", tmp_path / "in.tar")
    save(tmp_path / "cache", kind, tmp_path / "out.tar", "team/image:1")
    config = json.loads(run("skopeo", "inspect", "--config", f"{transport}:{tmp_path}/out.tar"))
    assert config["config"] == {"Cmd": ["/usr/setuid"], "Env": ["A=b"], "Labels": {"x": "y"}}
    skopeo(f"{transport}:{tmp_path}/out.tar", f"oci:{tmp_path}/again:one")
    assert unpack(tmp_path / "again", "one", tmp_path / "bundle") == original.tree


def test_saved_is_loaded_as_it_was(original, tmp_path):
    skopeo(f"oci:{original.tagged}:one", f"oci-archive:{tmp_path}/in.tar:image:1")
    load(tmp_path / "cache", tmp_path / "in.tar")
    images = {}
    for kind in ("docker", "oci"):
        save(tmp_path / "cache", kind, tmp_path / f"{kind}.tar", "image:1")
        load(tmp_path / kind, tmp_path / f"{kind}.tar")
        images[kind] = sorted(p.read_bytes() for p in (tmp_path / kind / "layers").glob("*.erofs"))
    before = sorted(p.read_bytes() for p in (tmp_path / "cache/layers").glob("*.erofs"))
    assert images["docker"] == images["oci"]
    # The bottom layer is the same to the byte; in the upper one whiteouts have lost the mode that means nothing.
    assert len(set(before) & set(images["docker"])) == 1


def test_several_references_in_one_archive(original, tmp_path):
    skopeo(f"oci:{original.tagged}:one", f"oci-archive:{tmp_path}/in.tar:image:1")
    load(tmp_path / "cache", tmp_path / "in.tar", "--tag", "other:2")
    save(tmp_path / "cache", "docker", tmp_path / "out.tar", "image:1", "other:2")
    lines = load(tmp_path / "again", tmp_path / "out.tar")
    assert [line.split()[0] for line in lines] == ["image:1", "other:2"]
    assert len(list((tmp_path / "again/layers").glob("*.erofs"))) == 2


# ---- killed


def artifacts(cache):
    """What a sandbox would use, by name. A VMDK holds the cache's own path."""
    found = {}
    for path in pathlib.Path(cache).rglob("*"):
        if path.suffix in (".erofs", ".vmdk", ".json") and path.parent.name != "tmp":
            found[str(path.relative_to(cache))] = path.read_bytes().replace(str(cache).encode(), b"CACHE")
    return found


def test_a_killed_load_leaves_nothing_wrong(original, tmp_path):
    skopeo(f"oci:{original.tagged}:one", f"docker-archive:{tmp_path}/a.tar:image:1")
    load(tmp_path / "reference", tmp_path / "a.tar", "--tag", "image:2")
    expected = artifacts(tmp_path / "reference")
    (line, _) = load(tmp_path / "reference", tmp_path / "a.tar", "--tag", "image:2")
    source = random.Random(11)
    killed = 0
    for turn in range(30):
        cache = tmp_path / f"cache{turn % 3}"
        process = subprocess.Popen([ARCHIVE, "load", cache, tmp_path / "a.tar", "--tag", "image:2", "--events"],
                                   stdout=subprocess.PIPE, text=True, bufsize=1)
        for _ in range(source.randrange(14)):
            if not process.stdout.readline():
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        left = artifacts(cache)
        assert all(content == expected[name] for name, content in left.items())
        # A record means that all of its image is there.
        if any(name.startswith("manifests/") for name in left):
            assert {n for n in left if n[:9] != "manifests"} == {n for n in expected if n[:9] != "manifests"}
        if turn >= 27:
            lines = load(cache, tmp_path / "a.tar", "--tag", "image:2")
            assert lines[0].rsplit(" ", 1)[0] == line.rsplit(" ", 1)[0]
            assert artifacts(cache) == expected
    assert killed >= 10


def test_processes_that_load_one_archive_do_the_work_once(original, tmp_path):
    skopeo(f"oci:{original.tagged}:one", f"docker-archive:{tmp_path}/a.tar:image:1")
    processes = [subprocess.Popen([ARCHIVE, "load", tmp_path / "cache", tmp_path / "a.tar", "--events"],
                                  stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(output.count("layerMaterializeStarted") for output in outputs) == 2
    assert sorted(output.splitlines()[-1].split()[-1] for output in outputs) == ["cached"] * 3 + ["loaded"]
