"""core.fs.*: spec/guest-agent.md section 11, spec/protocol.md section 10."""

import msbproto
import pytest

READ = {"read": True, "write": False, "append": False, "create": False, "truncate": False, "create_new": False}
WRITE = {**READ, "read": False, "write": True, "create": True, "truncate": True}


@pytest.fixture
def dir(agent, target, request):
    path = f"{target.scratch}/{request.node.originalname}"
    assert agent.fs("Mkdir", path=path, mode=None)["ok"]
    yield path
    assert agent.fs("RemoveDir", path=path, recursive=True)["ok"]


def data(response):
    assert response["ok"], response
    return response["data"]


def error(response):
    assert not response["ok"] and response["data"] is None
    return response["error"]


def opened(agent, path, options=READ, **fields):
    return data(agent.fs("OpenFile", path=path, options=options, **fields))["Handle"]


def put(agent, path, content):
    handle = opened(agent, path, WRITE)
    assert agent.fs_write(handle, [content])["ok"]
    data(agent.fs("CloseHandle", handle=handle))


def get(agent, path):
    handle = opened(agent, path)
    chunks, response = agent.fs_read(handle)
    assert response["ok"]
    data(agent.fs("CloseHandle", handle=handle))
    return b"".join(chunks)


def test_stat_failure_frame_bytes(agent):
    agent.send("core.fs.request", {"op": {"Stat": {"path": "/nope", "follow_symlink": False}}}, 9)
    assert agent.on(9).raw.hex() == (
        "0000005f0000000901a3617607617470636f72652e66732e726573706f6e73656170583fa3626f6bf465657272"
        "6f72782c737461743a204e6f20737563682066696c65206f72206469726563746f727920286f73206572726f72"
        "2032296464617461f6"
    )


def test_realpath(agent, dir):
    agent.send("core.fs.request", {"op": {"RealPath": {"path": "/proc/.."}}}, 9)
    assert agent.on(9).raw.hex() == (
        "000000390000000901a3617607617470636f72652e66732e726573706f6e736561705819a3626f6bf565657272"
        "6f72f66464617461a16450617468612f"
    )
    assert data(agent.fs("RealPath", path=f"{dir}/./new/"))["Path"] == f"{dir}/new"
    missing = agent.fs("RealPath", path=f"{dir}/no/new")
    assert error(missing) == "realpath: No such file or directory (os error 2)"
    agent.fs("Symlink", target="/nowhere", link_path=f"{dir}/dangling")
    assert data(agent.fs("RealPath", path=f"{dir}/dangling"))["Path"] == f"{dir}/dangling"


def test_stat_and_setstat(agent, dir):
    path = f"{dir}/f"
    put(agent, path, b"hello")
    attrs = {"mode": 0o640, "uid": 1000, "gid": 2000, "size": 3, "atime": 1_600_000_000, "mtime": 1_700_000_000}
    data(agent.fs("SetStat", path=path, follow_symlink=True, attrs=attrs))
    assert data(agent.fs("Stat", path=path, follow_symlink=False))["Stat"] == {
        "path": path,
        "kind": "file",
        "size": 3,
        "mode": 0o100640,
        "modified": 1_700_000_000,
        "uid": 1000,
        "gid": 2000,
        "atime": 1_600_000_000,
        "mtime": 1_700_000_000,
    }
    data(agent.fs("SetStat", path=path, follow_symlink=True, attrs={"mtime": 5}))
    entry = data(agent.fs("Stat", path=path, follow_symlink=True))["Stat"]
    assert (entry["mtime"], entry["atime"]) == (5, 1_600_000_000)
    data(agent.fs("SetStat", path=f"{dir}/none", follow_symlink=True, attrs={}))


def test_setstat_on_links(agent, dir):
    agent.fs("Symlink", target=f"{dir}/missing", link_path=f"{dir}/l")
    refused = agent.fs("SetStat", path=f"{dir}/l", follow_symlink=False, attrs={"mode": 0o600})
    assert error(refused) == "setstat: chmod on symlink without following is not supported"
    size = agent.fs("SetStat", path=f"{dir}/l", follow_symlink=False, attrs={"size": 1})
    assert error(size) == "setstat: open for truncate: No such file or directory (os error 2)"
    data(agent.fs("SetStat", path=f"{dir}/l", follow_symlink=False, attrs={"uid": 7, "mtime": 9}))
    entry = data(agent.fs("Stat", path=f"{dir}/l", follow_symlink=False))["Stat"]
    assert (entry["kind"], entry["uid"], entry["mtime"]) == ("symlink", 7, 9)
    gone = agent.fs("SetStat", path=f"{dir}/l", follow_symlink=True, attrs={"mtime": 9})
    assert error(gone) == "setstat: stat before utimensat: No such file or directory (os error 2)"


def test_mkdir(agent, dir):
    data(agent.fs("Mkdir", path=f"{dir}/a/b/c", mode=0o700))
    modes = [data(agent.fs("Stat", path=p, follow_symlink=True))["Stat"]["mode"] for p in (f"{dir}/a", f"{dir}/a/b/c")]
    assert modes == [0o40755, 0o40700]
    data(agent.fs("Mkdir", path=f"{dir}/a", mode=0o711))
    assert data(agent.fs("Stat", path=f"{dir}/a", follow_symlink=True))["Stat"]["mode"] == 0o40711
    put(agent, f"{dir}/f", b"")
    assert error(agent.fs("Mkdir", path=f"{dir}/f", mode=None)) == "mkdir: File exists (os error 17)"
    assert error(agent.fs("Mkdir", path=f"{dir}/f/x", mode=None)) == "mkdir: Not a directory (os error 20)"


def test_list_and_readdir(agent, dir):
    for name in ("x", "y", "z"):
        put(agent, f"{dir}/{name}", b"1")
    entries = data(agent.fs("List", path=dir))["List"]
    assert sorted(entry["path"] for entry in entries) == [f"{dir}/{name}" for name in "xyz"]
    assert error(agent.fs("List", path=f"{dir}/no")) == "readdir: opendir: No such file or directory (os error 2)"

    handle = data(agent.fs("OpenDir", path=dir))["Handle"]
    assert data(agent.fs("FStat", handle=handle))["Stat"]["kind"] == "dir"
    refused = agent.fs("FSetStat", handle=handle, attrs={"mode": 0o777})
    assert error(refused) == f"fsetstat: handle {handle} is a directory"
    assert error(agent.fs_read(handle)[1]) == f"read: handle {handle} is a directory"
    seen = []
    for limit in (0, 1, 100):
        batch = data(agent.fs("ReadDir", handle=handle, limit=limit))["List"]
        assert len(batch) == 1
        seen += [entry["path"] for entry in batch]
    assert sorted(seen) == [f"{dir}/{name}" for name in "xyz"]
    assert data(agent.fs("ReadDir", handle=handle, limit=None)) == {"List": []}
    data(agent.fs("CloseHandle", handle=handle))


def test_oversized_listing_is_an_error(agent, dir):
    """Upstream never answers (spec/protocol.md section 10)."""
    name = "n" * 245
    script = f"cd {dir} && i=0; while [ $i -lt 11000 ]; do : > {name}$i; i=$((i+1)); done"
    assert agent.shell(script).code == 0
    assert error(agent.fs("List", path=dir)) == "readdir: the listing is too large for one response"
    handle = data(agent.fs("OpenDir", path=dir))["Handle"]
    total = 0
    while batch := data(agent.fs("ReadDir", handle=handle, limit=1_000_000))["List"]:
        total += len(batch)
    assert total == 11000
    data(agent.fs("CloseHandle", handle=handle))


def test_links_remove_rename_copy(agent, dir):
    put(agent, f"{dir}/f", b"content")
    data(agent.fs("Symlink", target="f", link_path=f"{dir}/l"))
    assert data(agent.fs("ReadLink", path=f"{dir}/l")) == {"Path": "f"}
    assert error(agent.fs("ReadLink", path=f"{dir}/f")) == "readlink: Invalid argument (os error 22)"
    data(agent.fs("SetStat", path=f"{dir}/f", follow_symlink=True, attrs={"mode": 0o751}))
    data(agent.fs("Copy", src=f"{dir}/l", dst=f"{dir}/copy"))
    assert get(agent, f"{dir}/copy") == b"content"
    assert data(agent.fs("Stat", path=f"{dir}/copy", follow_symlink=False))["Stat"]["mode"] == 0o100751
    data(agent.fs("Copy", src=f"{dir}/f", dst=f"{dir}/f"))
    assert get(agent, f"{dir}/f") == b"content"
    assert error(agent.fs("Copy", src=dir, dst=f"{dir}/d")) == (
        "copy: the source path is neither a regular file nor a symlink to a regular file"
    )
    data(agent.fs("Rename", src=f"{dir}/copy", dst=f"{dir}/moved"))
    assert error(agent.fs("Remove", path=f"{dir}/copy")) == "remove: No such file or directory (os error 2)"
    assert error(agent.fs("Remove", path=dir)) == "remove: Is a directory (os error 21)"
    data(agent.fs("Remove", path=f"{dir}/moved"))
    assert error(agent.fs("Rename", src=f"{dir}/a", dst=f"{dir}/b")) == "rename: No such file or directory (os error 2)"


def test_remove_dir(agent, dir):
    agent.shell(f"mkdir -p {dir}/t/{'d/' * 300} && echo keep > {dir}/keep && ln -s {dir}/keep {dir}/t/d/link")
    assert error(agent.fs("RemoveDir", path=f"{dir}/t", recursive=False)) == "remove_dir: Directory not empty (os error 39)"
    data(agent.fs("Symlink", target=f"{dir}/t", link_path=f"{dir}/tl"))
    data(agent.fs("RemoveDir", path=f"{dir}/tl", recursive=True))
    assert error(agent.fs("RemoveDir", path=f"{dir}/keep", recursive=True)) == "remove_dir: Not a directory (os error 20)"
    data(agent.fs("RemoveDir", path=f"{dir}/t", recursive=True))
    assert [e["path"] for e in data(agent.fs("List", path=dir))["List"]] == [f"{dir}/keep"]
    assert get(agent, f"{dir}/keep") == b"keep\n"


def test_open_options(agent, dir):
    none = {**READ, "read": False}
    text = "open: must specify at least one of read, write, or append access"
    assert error(agent.fs("OpenFile", path=f"{dir}/f", options=none)) == text
    text = "open: creating or truncating a file requires write or append access"
    for wrong in ({**READ, "create": True}, {**READ, "truncate": True}, {**WRITE, "append": True}):
        assert error(agent.fs("OpenFile", path=f"{dir}/f", options=wrong)) == text
    handle = opened(agent, f"{dir}/f", {**WRITE, "truncate": False, "mode": 0o666})
    assert data(agent.fs("FStat", handle=handle))["Stat"]["mode"] == 0o100644  # umask 022
    assert error(agent.fs_read(handle)[1]) == f"read: handle {handle} is not open for reading"
    data(agent.fs("FSetStat", handle=handle, attrs={"mode": 0o600, "size": 4, "mtime": 77}))
    entry = data(agent.fs("FStat", handle=handle))["Stat"]
    assert (entry["mode"], entry["size"], entry["mtime"]) == (0o100600, 4, 77)
    data(agent.fs("CloseHandle", handle=handle))
    exclusive = agent.fs("OpenFile", path=f"{dir}/f", options={**WRITE, "create_new": True})
    assert error(exclusive) == "open: File exists (os error 17)"
    assert error(agent.fs("CloseHandle", handle=handle)) == f"close: invalid handle: {handle}"


def test_read_and_write(agent, dir):
    path = f"{dir}/f"
    handle = opened(agent, path, {**WRITE, "read": True})
    assert agent.fs_write(handle, [b"hello ", b"world"], len=11)["ok"]
    assert agent.fs_write(handle, [b"W"], offset=6)["ok"]
    assert agent.fs_read(handle)[0] == [b"hello World"]
    assert agent.fs_read(handle, offset=6, len=3)[0] == [b"Wor"]
    assert agent.fs_read(handle, offset=100) == ([], {"ok": True, "error": None, "data": None})
    assert agent.fs_read(handle, len=0)[0] == []
    assert error(agent.fs_read(handle, offset=1 << 63)[1]) == "seek: Invalid argument (os error 22)"
    mismatch = agent.fs_write(handle, [b"ab"], len=10)
    assert error(mismatch) == "write length mismatch: expected 10, wrote 2"
    data(agent.fs("CloseHandle", handle=handle))
    handle = opened(agent, path, {**READ, "read": False, "append": True})
    assert agent.fs_write(handle, [b"!"], offset=0)["ok"]
    data(agent.fs("CloseHandle", handle=handle))
    assert get(agent, path) == b"abllo World!"


def test_failed_chunk_ends_the_stream(agent, target):
    handle = opened(agent, "/dev/full", {**READ, "read": False, "write": True})
    id = agent.new_id()
    agent.send("core.fs.request", {"op": {"Write": {"handle": handle, "offset": 0, "len": None}}}, id)
    agent.send("core.fs.data", {"data": b"x"}, id)
    assert error(agent.on(id).payload) == "write: No space left on device (os error 28)"
    agent.send("core.fs.data", {"data": b"y"}, id)
    assert error(agent.on(id).payload) == f"unknown write session: {id}"
    agent.send("core.fs.data", {"data": b""}, 77)
    assert error(agent.on(77).payload) == "unknown write session: 77"
    data(agent.fs("CloseHandle", handle=handle))


def test_large_transfer(agent, dir):
    content = bytes(range(251)) * 28000  # 7 028 000 bytes
    handle = opened(agent, f"{dir}/big", {**WRITE, "read": True})
    pieces = [content[at : at + 1_000_000] for at in range(0, len(content), 1_000_000)]
    assert agent.fs_write(handle, pieces, len=len(content))["ok"]
    chunks, response = agent.fs_read(handle)
    assert response["ok"] and b"".join(chunks) == content
    assert max(map(len, chunks)) <= 3 * 1024 * 1024
    data(agent.fs("CloseHandle", handle=handle))


def test_ownership_and_disconnect(agent, dir):
    step = msbproto.ID_RANGE_STEP
    put(agent, f"{dir}/f", b"mine")
    handle = opened(agent, f"{dir}/f", id=3)
    assert agent.fs_read(handle, id=step)[1]["ok"]
    foreign = agent.fs_read(handle, id=step + 1)[1]
    assert error(foreign) == f"read: handle {handle} is owned by a different relay client"
    other = opened(agent, f"{dir}/f", id=step + 1)
    agent.send("core.relay.client.disconnected", {"id_start": 1, "id_end_exclusive": step})
    assert error(agent.fs("FStat", handle=handle, id=4)) == f"fstat: invalid handle: {handle}"
    assert agent.fs("FStat", handle=other, id=step + 2)["ok"]
    data(agent.fs("CloseHandle", handle=other, id=step + 3))


def test_handle_limit(agent, dir):
    put(agent, f"{dir}/f", b"")
    start = 2 * msbproto.ID_RANGE_STEP + 1
    request = {"op": {"OpenFile": {"path": f"{dir}/f", "options": READ}}}
    agent.send_bytes(b"".join(msbproto.frame("core.fs.request", request, start + n) for n in range(1025)))
    answers = [agent.expect("core.fs.response", start + n).payload for n in range(1025)]
    assert all(answer["ok"] for answer in answers[:1024])
    assert error(answers[1024]) == "open: too many open filesystem handles for relay client: 1024"
    agent.send(
        "core.relay.client.disconnected",
        {"id_start": start, "id_end_exclusive": start + msbproto.ID_RANGE_STEP - 1},
    )
    assert agent.fs("OpenFile", path=f"{dir}/f", options=READ, id=start)["ok"]
    agent.send("core.relay.client.disconnected", {"id_start": start, "id_end_exclusive": start + 1})


def test_blocking_call_stalls_nobody(agent, target):
    """Opening a FIFO waits for a writer; pings, processes and other clients' files do not."""
    fifo = f"{target.scratch}/fifo"
    assert agent.shell(f"rm -f {fifo}; mkfifo {fifo}").code == 0
    waiting = agent.new_id()
    agent.send("core.fs.request", {"op": {"OpenFile": {"path": fifo, "options": READ}}}, waiting)
    agent.ping(timeout=30)
    other_client = 5 * msbproto.ID_RANGE_STEP + 1
    assert agent.fs("Stat", path="/", follow_symlink=False, id=other_client)["ok"]
    # The writer waits in turn until the agent's open succeeds.
    writer = agent.start_exec("/bin/sh", "-c", f"printf through > {fifo}")
    handle = agent.expect("core.fs.response", waiting).payload["data"]["Handle"]
    assert agent.fs_read(handle)[0] == [b"through"]
    assert agent.collect_exec(writer).code == 0
    data(agent.fs("CloseHandle", handle=handle))


def test_nul_in_paths(agent):
    text = "file name contained an unexpected NUL byte"
    assert error(agent.fs("Stat", path="/a\0b", follow_symlink=False)) == f"stat: {text}"
    assert error(agent.fs("Remove", path="/a\0b")) == f"remove: {text}"
