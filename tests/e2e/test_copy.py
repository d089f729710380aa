"""`msb copy` (spec/cli.md section 7)."""

import os
import stat


def tree(root):
    """Path, kind, mode and contents of everything below a directory."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        if path.is_symlink():
            found[str(path.relative_to(root))] = ("link", os.readlink(path))
        elif path.is_dir():
            found[str(path.relative_to(root))] = ("directory", mode)
        else:
            found[str(path.relative_to(root))] = ("file", mode, path.read_bytes())
    return found


def make_tree(directory):
    (directory / "sub/deep").mkdir(parents=True)
    (directory / "a").write_bytes(os.urandom(3_000_000))
    (directory / "empty").touch()
    (directory / "sub/deep/script").write_text("#!/bin/sh\n")
    (directory / "sub/deep/script").chmod(0o4751)
    (directory / "sub/deep").chmod(0o710)
    (directory / "link").symlink_to("sub/deep/script")
    (directory / "dangling").symlink_to("nowhere")
    (directory / "ünï cödé").write_text("x")


def test_a_tree_survives_the_way_there_and_back(msb, box, place):
    source = place.work / "tree"
    make_tree(source)
    msb.ok("copy", "./tree", f"{box}:/root/copied")
    msb.ok("cp", "-q", f"{box}:/root/copied", "./back")
    assert tree(place.work / "back") == tree(source)


def test_into_directories_and_as_new_names(msb, box, place):
    (place.work / "file").write_text("content")
    msb.ok("cp", "./file", f"{box}:/root")
    msb.ok("cp", "./file", f"{box}:/root/renamed")
    assert msb("exec", box, "--", "cat", "/root/file", "/root/renamed").out == "contentcontent"
    (place.work / "dir").mkdir()
    msb.ok("cp", f"{box}:/root/file", "./dir")
    msb.ok("cp", f"{box}:/root/file", "./dir/other")
    msb.ok("cp", f"{box}:/root/file", "bare-name")
    assert (place.work / "dir/file").read_text() == (place.work / "dir/other").read_text() == "content"
    assert (place.work / "bare-name").read_text() == "content"
    result = msb("cp", "./file", f"{box}:/no/such/place/")
    assert result.code == 1 and result.err.startswith("error: sandbox fs error: "), result
    msb.ok("cp", "./dir", f"{box}:/new/parent/dir")
    assert msb("exec", box, "--", "cat", "/new/parent/dir/file").out == "content"


def test_what_a_guest_plants_stays_in_the_copy(msb, box, place):
    victim = place.work / "victim"
    victim.write_text("untouched")
    msb.ok("exec", box, "--", "sh", "-c",
           "mkdir -p /evil/sub && ln -s /etc/passwd /evil/abs && ln -s sub /evil/inside && ln -s ../abs /evil/sub/up")
    msb.ok("cp", f"{box}:/evil", "./evil")
    assert os.readlink(place.work / "evil/abs") == "etc/passwd", "absolute targets are taken from the copy's root"
    assert os.readlink(place.work / "evil/sub/up") == "../abs"
    msb.ok("exec", box, "--", "sh", "-c", "ln -s ../victim /evil/escape")
    result = msb("cp", f"{box}:/evil", "./evil2")
    assert result.code == 1
    assert result.err == ("error: refusing to create symlink escape -> ../victim: target escapes the copy destination\n")
    assert victim.read_text() == "untouched"


def test_special_files_and_missing_sources(msb, box):
    result = msb("cp", f"{box}:/dev/null", "./null")
    assert (result.code, result.err) == (1, "error: unsupported file type: /dev/null\n")
    result = msb("cp", "./nosuch", f"{box}:/x")
    assert (result.code, result.err) == (1, "error: stat ./nosuch: No such file or directory (os error 2)\n")
    result = msb("cp", f"{box}:/nosuch", "./x")
    assert result.code == 1 and result.err.startswith("error: sandbox fs error: "), result


def test_between_sandboxes(msb, box, disk, place):
    msb.ok("create", f"./{disk.name}", "-n", "other")
    try:
        msb.ok("exec", box, "--", "sh", "-c", "mkdir -p /src/d && echo here > /src/d/f && ln -s d/f /src/l")
        msb.ok("cp", f"{box}:/src", "other:/dst")
        assert msb("exec", "other", "--", "sh", "-c", "cat /dst/d/f; readlink /dst/l").out == "here\nd/f\n"
        msb.ok("cp", f"{box}:/src/d", f"{box}:/again")
        assert msb("exec", box, "--", "cat", "/again/f").out == "here\n"
    finally:
        msb("rm", "-f", "other")
