"""Images: load, save, list, inspect, remove, prune, and running them (spec/cli.md sections 4, 8 and 12, spec/images.md
sections 15 to 19)."""

import json
import pathlib
import re
import signal
import subprocess

import msbregistry
import pytest

from msbcli import Terminal, wait_until

CONFIG = {"Cmd": ["-c", "echo own command in $PWD as $(id -un) with $FROM_IMAGE"], "Entrypoint": ["/bin/sh"],
          "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "WorkingDir": "/work", "User": "nobody", "Labels": {"k": "v"},
          "StopSignal": "SIGINT"}


def build(directory, config=CONFIG):
    """A layout with two layers and an archive of it; what the files say about themselves."""
    layout = msbregistry.Layout(str(directory / "layout"))
    second = {"work": None, "work/file": b"from layer 2\n", "etc": None, "etc/release": b"box\n"}
    digest = layout.image([msbregistry.busybox_tar(), msbregistry.make_tar(second)], config)
    subprocess.run(["tar", "-C", layout.directory, "-cf", directory / "box.tar", "."], check=True)
    blobs = pathlib.Path(layout.directory) / "blobs/sha256"
    manifest = json.loads((blobs / digest[7:]).read_text())
    return {"layout": layout.directory, "archive": directory / "box.tar", "digest": digest, "manifest": manifest,
            "config": json.loads((blobs / manifest["config"]["digest"][7:]).read_text())}


@pytest.fixture(scope="module")
def image(place):
    directory = place.directory / "image"
    directory.mkdir()
    return build(directory)


@pytest.fixture(scope="module")
def box_image(msb, image):
    """The image under the name the tests that boot it use."""
    msb.ok("load", "-i", image["archive"], "-t", "test/box:1")
    return "test/box:1"


def kibibytes(count):
    return f"{count} B" if count < 1024 else f"{count / 1024:.1f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def test_a_fresh_home_has_no_images(place, tmp_path):
    def fresh(*args):
        return place.msb(*args, env={"MSB_HOME": str(tmp_path)})
    for command in (["images"], ["image", "list"], ["image", "ls"]):
        result = fresh(*command)
        assert (result.code, result.out, result.err) == (0, "", "No images found.\n")
        result = fresh(*command, "-q")
        assert (result.out, result.err) == ("", "")
        assert fresh(*command, "-q", "--format", "json").out == "[]\n", "JSON wins over -q"
    result = fresh("image", "prune", "-y")
    assert (result.code, result.out, result.err) == (0, "", "Nothing to prune.\n")
    assert fresh("image", "prune", "-y", "-q").err == ""
    assert fresh("image", "prune", "-y", "--format", "json").out == (
        '{\n  "bytes_reclaimed": null,\n  "fsmeta_removed": 0,\n  "image_refs_removed": 0,\n  "layers_removed": 0,\n'
        '  "manifests_removed": 0,\n  "vmdk_removed": 0\n}\n')


# What upstream 0.6.18 answers: (arguments, standard error, exit code).
ERRORS = [
    (["pull", ":::"], "error: invalid image reference: invalid reference format\n", 1),
    (["pull", "--ca-certs", "/nonexist", "127.0.0.1:1/x:1"],
     "error: failed to read CA certs from `/nonexist`: No such file or directory (os error 2)\n", 1),
    (["rmi", "a", "b"],
     "error: image not found: a\nerror: image not found: b\nerror: some images failed to remove\n", 1),
    (["rmi", "-q", "a", "b"], "error: some images failed to remove\n", 1),
    (["image", "inspect", "nope"], "error: image not found: nope\n", 1),
    (["image", "inspect", "nope", "--format", "json"], "error: image not found: nope\n", 1),
    (["image", "prune"], "error: non-interactive terminal; use --yes to prune cached images\n", 1),
    (["load", "-i", "/nonexist"], "error: cache error at /nonexist: No such file or directory (os error 2)\n", 1),
    (["load"], "error: manifest parse error: archive missing manifest.json or oci-layout\n", 1),
    (["save", "nope"], "error: image not found: nope\n", 1),
    (["save", ":::"], "error: invalid image reference ':::': invalid reference format\n", 1),
    (["create", "nope:1", "--pull", "never"], "error: image error: image not cached: docker.io/library/nope:1\n", 1),
    (["run", "--pull", "never", "zzz", "--", "ls"],
     "error: image error: image not cached: docker.io/library/zzz:latest\n", 1),
]


@pytest.mark.parametrize("args, error, code", ERRORS, ids=[" ".join(row[0]) for row in ERRORS])
def test_error(msb, args, error, code):
    result = msb(*args)
    assert (result.code, result.out, result.err) == (code, "", error)


def test_images_need_a_local_backend(msb):
    for args in (["images"], ["pull", ":::"], ["load"], ["save", "a"], ["rmi", "a"], ["image", "inspect", "a"],
                 ["image", "prune", "-y"]):
        result = msb(*args, env={"MSB_BACKEND": "cloud", "MSB_API_KEY": "k"})
        assert result.err == ("error: this command requires a local backend, but the active default is a cloud "
                              "backend\n"), args
        assert result.code == 1


def test_load_list_and_inspect(place, image, tmp_path):
    def fresh(*args, **options):
        return place.msb(*args, env={"MSB_HOME": str(tmp_path)}, **options)
    result = fresh("load", "-i", image["archive"], "-t", "team/two:1", "-t", "x")
    assert (result.code, result.out) == (0, "")
    assert result.err == "   ✓ Loaded       team/two:1\n   ✓ Loaded       x\n"
    assert fresh("load", "-q", "-t", "from/pipe", stdin=image["archive"].read_bytes()).err == ""
    assert fresh("load", "-i", image["archive"]).err == (
        "error: manifest parse error: OCI layout image has no ref.name annotation; pass --tag to name it\n")

    assert fresh("images", "-q").out == "from/pipe\nx\nteam/two:1\n", "newest first"
    size = sum(layer["size"] for layer in image["manifest"]["layers"])
    lines = fresh("images").out.splitlines()
    assert lines[0] == f"{'REFERENCE':14}{'DIGEST':23}{'SIZE':{len(kibibytes(size)) + 4}}CREATED"
    assert re.fullmatch(f"x {{13}}{image['digest'][:19]}    {kibibytes(size)}    "
                        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", lines[2]), lines
    listed = json.loads(fresh("image", "ls", "--format", "json").out)
    created = listed[1].pop("created_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", created)
    assert listed[1] == {"architecture": "amd64", "digest": image["digest"], "layer_count": 2, "os": "linux",
                         "reference": "x", "size_bytes": size}
    assert list(listed[0]) == sorted(listed[0]), "sorted keys"

    detail = json.loads(fresh("image", "inspect", "x", "--format", "json").out)
    assert detail.pop("created_at") == created
    layers = [{"blob_digest": layer["digest"], "compressed_size_bytes": layer["size"], "diff_id": diff_id,
               "erofs_size_bytes": None, "media_type": layer["mediaType"], "position": position}
              for position, (layer, diff_id) in enumerate(zip(image["manifest"]["layers"],
                                                              image["config"]["rootfs"]["diff_ids"]))]
    assert detail == {**listed[1], "layers": layers, "config": {
        "cmd": CONFIG["Cmd"], "digest": image["manifest"]["config"]["digest"], "entrypoint": ["/bin/sh"],
        "env": CONFIG["Env"], "labels": {"k": "v"}, "stop_signal": None, "user": "nobody", "working_dir": "/work"}}

    text = fresh("image", "inspect", "x").out
    assert re.sub(r"Created: .*", "Created: T", text) == (
        f"Reference:      x\nDigest:         {image['digest']}\nArchitecture:   amd64\nOS:             linux\n"
        f"Size:           {kibibytes(size)}\nCreated: T\n\nConfig\n  Entrypoint:   /bin/sh\n"
        f"  Cmd:          {' '.join(CONFIG['Cmd'])}\n  WorkingDir:   /work\n  User:         nobody\n  Env:\n"
        "    PATH=/bin\n    FROM_IMAGE=yes\n\nLayers (2)\n" + "".join(
            f"  {i + 1:<4}{layer['digest'][:19]:16}{kibibytes(layer['size']):10}{layer['mediaType']}\n"
            for i, layer in enumerate(image["manifest"]["layers"])))


def test_an_image_that_says_nothing_about_itself(place, tmp_path):
    layout = msbregistry.Layout(str(tmp_path / "layout"))
    layout.image([msbregistry.make_tar({"a": b"x"})], {"x": 1})
    subprocess.run(["tar", "-C", layout.directory, "-cf", tmp_path / "a.tar", "."], check=True)
    environment = {"MSB_HOME": str(tmp_path / "h")}
    place.msb.ok("load", "-i", tmp_path / "a.tar", "-t", "bare", env=environment)
    assert "\nConfig\n  Entrypoint:   -\n  Cmd:          -\n  WorkingDir:   -\n  User:         -\n\nLayers (1)\n" in \
        place.msb.ok("image", "inspect", "bare", env=environment).out


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_save_and_load_again(place, msb, box_image, form, tmp_path):
    file = tmp_path / "saved.tar"
    result = msb.ok("save", box_image, "--format", form, "-o", file)
    assert re.fullmatch(f"   ✓ Saved        {re.escape(str(file))}( \\(.*\\))?\n", result.err) and result.out == ""
    assert msb.ok("save", "-q", box_image, "--format", form, "-o", tmp_path / "again.tar").err == ""
    assert (tmp_path / "again.tar").read_bytes() == file.read_bytes()
    piped = subprocess.run([msb.binary, "image", "save", box_image, "--format", form], env=msb.environment(),
                           capture_output=True, check=True)
    assert (piped.stdout, piped.stderr) == (file.read_bytes(), b"")

    transport = "docker-archive" if form == "docker" else "oci-archive"
    inspected = json.loads(subprocess.run(["skopeo", "--insecure-policy", "inspect", "--config", f"{transport}:{file}"],
                                          check=True, capture_output=True).stdout)
    assert inspected["config"]["Cmd"] == CONFIG["Cmd"]
    environment = {"MSB_HOME": str(tmp_path / "h")}
    tags = [] if form == "docker" else ["-t", box_image]
    assert place.msb.ok("load", *tags, "-i", file, env=environment).err == f"   ✓ Loaded       {box_image}\n"
    assert "  Cmd:          -c echo own" in place.msb.ok("image", "inspect", box_image, env=environment).out


def test_a_failed_save_leaves_the_file_that_was_there(msb, box_image, tmp_path):
    file = tmp_path / "saved.tar"
    file.write_text("precious")
    result = msb("save", box_image, "nope", "-o", file)
    assert (result.code, result.err) == (1, "error: image not found: nope\n")
    assert file.read_text() == "precious"
    assert msb("save", box_image, "-o", tmp_path / "no/dir.tar").code == 1
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupted_save_leaves_nothing(msb, box_image, tmp_path):
    large = msbregistry.Layout(str(tmp_path / "layout"))
    large.image([msbregistry.make_tar({"zeros": bytes(400 << 20)})])
    subprocess.run(["tar", "-C", large.directory, "-cf", tmp_path / "large.tar", "."], check=True)
    msb.ok("load", "-q", "-i", tmp_path / "large.tar", "-t", "large")
    target = tmp_path / "out"
    target.mkdir()
    process = msb.popen("save", "large", "-o", str(target / "a.tar"))
    wait_until(lambda: list(target.iterdir()) or process.poll() is not None, what="the work file")
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    assert list(target.iterdir()) == []
    msb.ok("rmi", "-q", "large")


def test_archives_do_not_go_to_or_come_from_a_terminal(msb, box_image):
    terminal = Terminal(msb)
    try:
        terminal.line(f"$MSB save {box_image}")
        terminal.expect("error: standard output is a terminal; name a file with --output")
        terminal.line("clear; $MSB load")
        terminal.expect("error: standard input is a terminal; name the archive with --input")
    finally:
        terminal.close()


def test_prune_asks_on_a_terminal(place, image, tmp_path):
    environment = {"MSB_HOME": str(tmp_path)}
    place.msb.ok("load", "-i", image["archive"], "-t", "x", env=environment)
    terminal = Terminal(place.msb)
    try:
        terminal.line(f"export MSB_HOME={tmp_path}; $MSB image prune")
        terminal.expect("Remove all cached images not used by sandboxes? [y/N]")
        terminal.line("")
        terminal.expect("\nAborted.\n")
        assert place.msb("images", "-q", env=environment).out == "x\n"
        terminal.line("clear; $MSB image prune")
        terminal.expect("Remove all cached images not used by sandboxes? [y/N]")
        terminal.line("y")
        terminal.expect("   ✓ Pruned       image cache\n  Image refs:   1\n  Manifests:    1\n  Layers:       2\n"
                        "  Fsmeta:       1\n  VMDK:         1\n  Reclaimed:    ")
    finally:
        terminal.close()
    assert place.msb("images", "-q", env=environment).out == ""


def test_run_takes_entrypoint_command_user_and_environment_from_the_image(msb, box_image):
    result = msb("run", box_image)
    assert (result.code, result.out, result.err) == (0, "own command in /work as nobody with yes\n", "")
    result = msb("run", box_image, "-u", "root", "-w", "/", "-e", "FROM_IMAGE=no", "--", "-c",
                 "echo $PWD $(id -un) $FROM_IMAGE; cat /work/file; exit 7")
    assert (result.code, result.out, result.err) == (7, "/ root no\nfrom layer 2\n", ""), "the words follow the entrypoint"
    result = msb("run", box_image, "--entrypoint", "/bin/echo", "--", "instead")
    assert result.out == "instead\n", result
    result = msb("run", box_image, "--entrypoint", "/bin/echo")
    assert result.out == " ".join(CONFIG["Cmd"]) + "\n", "the image's command is kept"
    assert msb.names() == []


def test_root_disks_and_files_put_into_the_image(msb, place, box_image):
    tree = place.work / "tree"
    tree.mkdir()
    (tree / "inner").write_text("in a directory\n")
    (place.work / "note").write_text("copied\n")
    script = ("cat /opt/note /opt/tree/inner; ls -d /made /etc/release /work/file 2>/dev/null; echo x >/written && "
              "df -m / | awk 'NR == 2 {print $2}'")
    patches = ["--copy", "./note:/opt/note", "--copy-dir", "./tree:/opt/tree", "--mkdir", "/made", "--rm", "/etc/release"]
    sizes = {}
    for disk in ("8G", "tmpfs:100M"):
        result = msb("run", box_image, "-u", "root", "--root-disk", disk, *(patches if disk == "8G" else []), "--", "-c",
                     script)
        lines = result.out.splitlines()
        if disk == "8G":
            assert lines[:4] == ["copied", "in a directory", "/made", "/work/file"], result
        sizes[disk] = int(lines[-1])
    assert 7 * 1024 < sizes["8G"] <= 8 * 1024 and sizes["tmpfs:100M"] == 100, sizes


def test_flat_root_disks(msb, place, image, tmp_path):
    with msbregistry.Registry() as registry:
        registry.push(image["layout"], "box:1")
        reference = f"{registry.host}/box:1"
        msb.ok("pull", "-q", "--insecure", "--materialize", "flat", reference)
    result = msb("run", reference, "-u", "root", "--root-disk", "flat:1G,clone=copy", "--", "-c",
                 "grep ' / ' /proc/mounts | cut -d' ' -f3; df -m / | awk 'NR == 2 {print ($2 > 700)}'; cat /work/file")
    assert result.out == "ext4\n1\nfrom layer 2\n", result
    msb.ok("rmi", reference)


def test_an_image_in_use_stays(msb, box_image):
    assert msb.ok("create", box_image, "-n", "user").err == ""
    number = re.search(r"\d+", msb("rmi", box_image).err)[0]
    result = msb("rmi", box_image)
    assert (result.code, result.err) == (
        1, f"error: image in use by sandbox(es): {number}\nerror: some images failed to remove\n")
    result = msb("rmi", "-f", box_image)
    assert result.err.startswith("error: database error: Execution Error: error returned from database: (code: 1811) "
                                 "FOREIGN KEY constraint failed\n"), result
    assert msb("image", "prune", "-y").code == 0
    assert box_image in msb("images", "-q").out.split()
    # It is named, so it stays when its command is over, and starts again as it was.
    assert msb("exec", "user", "--", "sh", "-c", "echo kept >/tmp/../work/kept || echo denied; id -un").out == \
        "denied\nnobody\n"
    msb.ok("stop", "user")
    result = msb("run", "-n", "user", box_image, "--", "-c", "cat /work/file")
    assert (result.out, result.err, result.code) == ("from layer 2\n", "", 0)
    msb.ok("rm", "user")


def test_a_detached_run_keeps_its_command(msb, box_image):
    name = msb.ok("run", "-d", "-n", "background", box_image, "--", "-c", "echo started; sleep 1000").out
    assert name == "background\n"
    assert msb("ps", name.strip()).out.splitlines()[1].split()[1] == box_image
    config = json.loads(msb("inspect", "background", "--format", "json").out)["config"]
    assert config["runtime"]["cmd"] == ["-c", "echo started; sleep 1000"]
    assert config["manifest_digest"].startswith("sha256:")
    msb.ok("rm", "-f", "background")
