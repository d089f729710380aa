"""Sandboxes from OCI images: what they take over, their root disks, changes to the root (spec/images.md sections 12 to 15)."""

import io
import json
import shutil
import subprocess
import tarfile

import pytest

from msbregistry import Layout, make_tar

INIT = b"""#!/bin/sh
echo "init got: $*" >/dev/console
poweroff -f
"""


def busybox_layer(extra=None):
    busybox = shutil.which("busybox")
    with open(busybox, "rb") as file:
        members = {"bin": None, "etc": None, "srv": None, "bin/busybox": (0o755, file.read())}
    for name in ("sh", "cat", "echo", "id", "pwd", "ls", "df", "poweroff", "touch", "stat", "sleep", "true", "env"):
        members[f"bin/{name}"] = "busybox"
    members["etc/passwd"] = b"root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/srv:/bin/sh\n"
    members["etc/group"] = b"root:x:0:\nweb:x:1000:\n"
    members["srv/page"] = b"the image's\n"
    members["lib64"] = "usr/lib64"
    return make_tar({**members, **(extra or {})})


@pytest.fixture(scope="module")
def load(place):
    """load(name, config, extra members) makes an image and loads it."""
    def load(name, config=None, extra=None):
        directory = place.work / f"layout-{name}"
        Layout(directory).image([busybox_layer(extra)], config=config or {"Cmd": ["/bin/sh"]})
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for path in sorted(directory.rglob("*")):
                tar.add(path, arcname=str(path.relative_to(directory)), recursive=False)
        place.msb.ok("load", "-q", "-t", name, stdin=out.getvalue())
        shutil.rmtree(directory)
        return name
    return load


@pytest.fixture(scope="module")
def plain(load):
    return load("plain")


def test_the_images_own_command_user_directory_and_environment(msb, load):
    load("app", {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id -u; pwd; echo $WHAT $0"], "User": "web",
                 "WorkingDir": "/srv", "Env": ["WHAT=image"]})
    assert msb.ok("run", "app").out == "1000\n/srv\nimage /bin/sh\n"
    assert msb.ok("run", "-e", "WHAT=mine", "-u", "root", "-w", "/", "app").out == "0\n/\nmine /bin/sh\n"
    assert msb.ok("run", "app", "--", "echo $WHAT and args", "zero").out == "image and args\n", "the entrypoint stays"
    # Other than with docker, an entrypoint of the user's keeps the image's command.
    assert msb.ok("run", "--entrypoint", "/bin/echo", "app").out == "id -u; pwd; echo $WHAT $0\n"


def test_a_directory_the_image_does_not_have(msb, plain):
    result = msb("create", "-n", "nodir", "-w", "/no/such", plain)
    assert (result.code, result.err) == (1, "error: invalid config: workdir does not exist in guest: /no/such\n")
    msb.ok("rm", "nodir")


@pytest.mark.parametrize("disk,shown", [("64G", "65536 MiB (managed, ext4)"), ("tmpfs:64M", "64 MiB (tmpfs)")])
def test_root_disks(msb, plain, disk, shown):
    msb.ok("create", "-n", "disks", "--root-disk", disk, plain)
    assert msb.ok("exec", "disks", "--", "cat", "/srv/page").out == "the image's\n"
    msb.ok("exec", "disks", "--", "touch", "/srv/mine")
    assert shown in msb.ok("inspect", "disks").out
    msb.ok("restart", "-q", "disks")
    kept = msb("exec", "disks", "--", "stat", "/srv/mine").code == 0
    assert kept == (disk != "tmpfs:64M")
    msb.ok("rm", "-f", "disks")


def test_a_users_disk_as_the_upper(msb, place, plain):
    upper = place.work / "upper.img"
    subprocess.run(["truncate", "-s", "64M", upper], check=True)
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", upper], check=True)
    for text in ("first", "second"):
        msb.ok("run", "--root-disk", f"./{upper.name}", plain, "--", "sh", "-c", f"echo {text} >>/srv/log")
    assert msb.ok("run", "--root-disk", f"{upper}:format=raw", plain, "--", "cat", "/srv/log").out == "first\nsecond\n"
    subprocess.run(["/usr/sbin/e2fsck", "-fn", upper], check=True, capture_output=True)
    msb.ok("create", "-n", "holder", "--root-disk", upper, plain)
    result = msb("run", "--root-disk", upper, plain, "--", "true")
    assert result.code == 1 and "is already attached with an incompatible disk mode" in result.err
    assert msb.names() == ["holder"], "the unnamed one that could not start is gone"
    msb.ok("rm", "-f", "holder")


def test_patches_are_there_at_first_boot(msb, place, plain):
    (place.work / "tree" / "sub").mkdir(parents=True)
    (place.work / "tree" / "sub" / "file").write_text("copied\n")
    (place.work / "one.txt").write_text("one\n")
    seen = msb.ok("run", "--copy-dir", "./tree:/opt/tree", "--copy-file", "./one.txt:/etc/one", "--mkdir", "/var/lib/x",
                  "--rm", "/srv/page", plain, "--", "sh", "-c",
                  "cat /opt/tree/sub/file /etc/one; stat -c %a /var/lib/x; ls /srv; cat /etc/group").out
    assert seen == "copied\none\n755\nroot:x:0:\nweb:x:1000:\n"
    for flags, text in [
        (["--copy-file", "./one.txt:/etc/passwd"],
         "path exists in image layer: '/etc/passwd' (set replace to allow)"),
        (["--copy-file", "./one.txt:/lib64/x"], "patch path parent is not a directory: '/lib64' (symlink)"),
    ]:
        result = msb("create", "-n", "patched", *flags, plain)
        assert (result.code, result.err) == (1, f"error: patch failed: {text}\n")
    assert "patched" not in msb.names()
    result = msb("create", "-n", "patched", "--mkdir", "/x", "--root-disk", "tmpfs", plain)
    assert result.err == ("error: invalid config: patches require a managed root disk (they are baked into the upper at "
                          "create time)\n")


def test_a_configuration_file(msb, place, plain):
    (place.work / "box.yaml").write_text(json.dumps({
        "image": plain, "cpus": 2, "env": {"A": "${HOME}", "B": "file"}, "scripts": {"hello": "echo hello $A $B"},
        "patches": [{"text": {"path": "/etc/motd", "content": "patched\n"}}], "cmd": ["hello"]}))
    assert msb.ok("run", "--conf", "box.yaml").out == f"hello {place.work} file\n"
    assert msb.ok("run", "--conf", "box.yaml", "-e", "B=flag", "--", "cat", "/etc/motd").out == "patched\n"
    (place.work / "more.yaml").write_text("env: {B: scope}\n")
    assert msb.ok("run", "--conf", "box.yaml", "--runtime-conf", "more.yaml").out == f"hello {place.work} scope\n"
    (place.work / "bad.yaml").write_text("memory: 512\n")
    assert msb("run", "--conf", "bad.yaml").err == (
        "error: invalid sandbox configuration bad.yaml: invalid type: integer `512`, expected a string\n")


def test_an_image_that_brings_its_init(msb, load):
    load("initial", {"Entrypoint": ["/init"], "Cmd": ["default", "words"]}, {"init": (0o755, INIT)})
    assert "init got: default words" in msb.ok("run", "--init", "auto", "initial").out
    assert "init got: mine" in msb.ok("run", "--init", "auto", "initial", "--", "mine").out


def test_an_image_in_use_is_kept(msb, load):
    load("used")
    msb.ok("create", "-n", "user", "used")
    msb.ok("stop", "-q", "user")
    assert "image in use by sandbox(es): " in msb("rmi", "used").err
    msb.ok("image", "prune", "-y")
    assert msb.ok("run", "-n", "user", "--", "cat", "/srv/page").out == "the image's\n"
    msb.ok("rm", "user")
    msb.ok("rmi", "used")
    assert msb("run", "--pull", "never", "used", "--", "true").err == (
        "error: image error: image not cached: docker.io/library/used:latest\n")


def test_many_sandboxes_from_one_image_at_once(msb, plain):
    runs = [msb.popen("run", "-q", plain, "--", "sh", "-c", f"echo {i} >/srv/n; cat /srv/n", stdout=subprocess.PIPE)
            for i in range(6)]
    assert [run.communicate()[0] for run in runs] == [f"{i}\n".encode() for i in range(6)]
    assert {run.returncode for run in runs} == {0}
