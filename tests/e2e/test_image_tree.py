"""The tree an image has in a guest is the one umoci unpacks, entry by entry (issue 3): type, mode, owner, size, content,
hard links, device numbers, link targets, extended attributes."""

import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest

from msbregistry import Layout, Registry, TarLayer

TREE_LIST = pathlib.Path(os.environ["MSB_BUILD_DIR"]) / "tests" / "tree_list"
# Mount points of the agent and files it writes.
NOT_OF_THE_IMAGE = [".msb", "proc", "sys", "dev", "run", "tmp", "etc/hosts", "etc/hostname", "etc/resolv.conf",
                    "etc/profile", "var"]
LONG = "n" * 255


class Layer(TarLayer):
    """With words for what the entries of an image are."""

    def add(self, name, kind=tarfile.REGTYPE, content=b"", device=(0, 0), xattrs=None, **fields):
        attributes = {f"SCHILY.xattr.{key}": value for key, value in (xattrs or {}).items()}
        return super().add(name, kind, content, devmajor=device[0], devminor=device[1], pax_headers=attributes, **fields)

    def directory(self, name, mode=0o755, **more):
        return self.add(name, tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, target):
        return self.add(name, tarfile.SYMTYPE, mode=0o777, linkname=target)

    def hard_link(self, name, target):
        return self.add(name, tarfile.LNKTYPE, linkname=target)

    def whiteout(self, directory, name):
        return self.add(f"{directory}/.wh.{name}")

    def opaque(self, directory):
        return self.add(f"{directory}/.wh..wh..opq")


def bottom():
    layer = Layer()
    for name in ("etc", "bin", "d", "d/keep", "d/opaque", "d/gone", "d/becomes-file", "links", "nodes", "modes",
                 "names", "owners", "sizes", "xattrs"):
        layer.directory(name)
    layer.add("bin/tree_list", content=TREE_LIST.read_bytes(), mode=0o755)
    layer.add("etc/removed", content=b"below")
    layer.add("etc/replaced", content=b"old", mode=0o600)
    for name in ("keep/old", "opaque/old", "gone/inside", "becomes-file/inside"):
        layer.add(f"d/{name}", content=name.encode())
    layer.add("d/becomes-directory", content=b"file")
    layer.symlink("d/becomes-plain", "nowhere")
    layer.add("links/a", content=b"three names").hard_link("links/b", "links/a").hard_link("d/keep/c", "links/b")
    layer.symlink("links/relative", "../etc/replaced").symlink("links/absolute", "/etc/replaced")
    layer.symlink("links/long", "x" * 1000).symlink("links/dangling", "no/where")
    layer.add("nodes/char", tarfile.CHRTYPE, mode=0o620, device=(5, 1))
    layer.add("nodes/block", tarfile.BLKTYPE, mode=0o660, gid=6, device=(259, 300))
    layer.add("nodes/fifo", tarfile.FIFOTYPE, mode=0o600)
    for mode in (0, 0o1, 0o4755, 0o2755, 0o1777, 0o7777):
        layer.add(f"modes/file-{mode:o}", content=b"m", mode=mode)
        layer.directory(f"modes/directory-{mode:o}", mode=mode)
    layer.add(f"names/{LONG}", content=b"long")
    layer.directory(f"names/{'d' * 255}").add(f"names/{'d' * 255}/{LONG}", content=b"longer")
    layer.add("names/gr\u00fc\u00df \u732b", content=b"utf-8").add("names/\udcff\udcfe", content=b"no utf-8")
    layer.add("names/ space ", content=b"s").add("names/-dash", content=b"d").add("names/.hidden", content=b"h")
    layer.add("owners/both", uid=1000, gid=2000).add("owners/large", uid=4_000_000_000, gid=70_000)
    for size in (0, 1, 4095, 4096, 4097, 65536, 1_000_001):
        layer.add(f"sizes/{size}", content=os.urandom(16) * (size // 16) + b"t" * (size % 16))
    layer.add("xattrs/user", content=b"u", xattrs={"user.note": "value", "user.empty": ""})
    layer.directory("xattrs/directory", xattrs={"user.on": "a directory"})
    # cap_net_raw+ep, version 2: text for tarfile, bytes for the kernel.
    layer.add("xattrs/capability", content=b"c", mode=0o755,
              xattrs={"security.capability": b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".decode()})
    return layer.bytes()


def middle():
    layer = Layer(tarfile.GNU_FORMAT)
    layer.directory("etc").whiteout("etc", "removed").add("etc/replaced", content=b"new", mode=0o644)
    layer.directory("d").whiteout("d", "gone").whiteout("d", "becomes-file").whiteout("d", "becomes-directory")
    layer.whiteout("d", "becomes-plain").add("d/becomes-plain", content=b"plain")
    layer.directory("d/opaque", mode=0o700, uid=7).opaque("d/opaque").add("d/opaque/new", content=b"new")
    layer.directory("names").add(f"names/{'g' * 200}", content=b"a GNU long name")
    layer.whiteout("d", "was-never-there")
    return layer.bytes()


def top():
    layer = Layer()
    layer.directory("d").add("d/becomes-file", content=b"now a file")
    layer.directory("d/becomes-directory").add("d/becomes-directory/inside", content=b"now inside")
    layer.directory("d/gone", mode=0o711).add("d/gone/again", content=b"back")
    layer.directory("etc").add("etc/removed", content=b"back too")
    layer.directory("links").whiteout("links", "b").add("links/new", content=b"x").hard_link("links/new2", "links/new")
    return layer.bytes()


@pytest.fixture(scope="module")
def image(place):
    """(layout directory, reference) of the image in a registry."""
    directory = place.work / "layout"
    layout = Layout(directory)
    layout.image([bottom(), middle(), top()], config={"Cmd": ["/bin/tree_list", "/", *NOT_OF_THE_IMAGE]})
    with Registry() as registry:
        registry.push(str(directory), "tree:1")
        reference = f"{registry.host}/tree:1"
        place.msb.ok("pull", "--insecure", "-q", "--materialize", "all", reference)
    yield directory, reference
    place.msb("rmi", reference)


@pytest.fixture(scope="module")
def expected(place, image):
    """The list of what umoci unpacks."""
    directory, _ = image
    tagged = place.work / "tagged"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{directory}", f"oci:{tagged}:1"], check=True)
    bundle = place.work / "bundle"
    subprocess.run(["umoci", "unpack", "--image", f"{tagged}:1", bundle], check=True, capture_output=True)
    lines = subprocess.run([TREE_LIST, bundle / "rootfs", *NOT_OF_THE_IMAGE], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    shutil.rmtree(bundle)
    assert len(lines) > 60, "the image has what it should test"
    return lines


@pytest.mark.parametrize("root_disk", ["1024M", "tmpfs:64M", "flat"])
def test_the_guest_sees_what_umoci_unpacks(msb, image, expected, root_disk):
    _, reference = image
    seen = msb.ok("run", "-q", "--root-disk", root_disk, reference).out.splitlines()
    assert [line for line in seen if line not in expected] == []
    assert seen == expected
