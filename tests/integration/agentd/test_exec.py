"""core.exec.*: spec/guest-agent.md sections 9 and 10, spec/protocol.md section 9."""

import signal

import pytest

ENOENT = {"kind": "not_found", "errno": 2, "errno_name": "ENOENT"}


def failure(result):
    assert result.code is None and result.pid is None
    return {key: result.failed[key] for key in ("kind", "errno", "errno_name")}


def test_streams_and_exit_code(agent):
    result = agent.shell("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.code) == (b"out\n", b"err\n", 7)


def test_exit_codes(agent):
    assert agent.shell("exit 300").code == 44
    assert agent.shell("exit 255").code == 255
    assert agent.shell("kill -9 $$").code == -1
    assert agent.shell("kill -TERM $$").code == -1


def test_exited_frame_bytes(agent):
    id = agent.start_exec("/bin/sh", "-c", "kill -9 $$", id=8)
    frame = agent.expect("core.exec.exited", id)
    assert frame.raw.hex() == (
        "000000260000000801a3617607617470636f72652e657865632e657869746564617047a164636f646520"
    )
    agent.expect("core.exec.started", id)


def test_missing_program_frame_bytes(agent):
    agent.start_exec("nosuchcmd", id=2)
    assert agent.on(2).raw.hex() == (
        "000000a10000000201a3617607617470636f72652e657865632e6661696c656461705881a5646b696e64696e6f"
        "745f666f756e64656572726e6f026a6572726e6f5f6e616d6566454e4f454e54676d6573736167657839737061"
        "776e20226e6f73756368636d64223a204e6f20737563682066696c65206f72206469726563746f727920286f73"
        "206572726f722032296573746167656e436f6d6d616e643a3a737061776e"
    )
    failed = agent.exec("nosuchcmd", tty=True).failed
    assert failed["stage"] == "execvp" and failed["kind"] == "not_found"


def test_spawn_failures(agent, target):
    def kind(name, **fields):
        return failure(agent.exec(f"{target.directory}/{name}", **fields))

    denied = {"kind": "permission_denied", "errno": 13, "errno_name": "EACCES"}
    assert kind("not-executable") == denied
    assert kind("") == denied  # a directory
    assert kind("no-shebang") == {"kind": "not_executable", "errno": 8, "errno_name": "ENOEXEC"}
    assert kind("bad-interpreter") == ENOENT
    bad_cwd = {"kind": "bad_cwd", "errno": 20, "errno_name": "ENOTDIR"}
    assert failure(agent.exec("/etc/passwd/x")) == bad_cwd
    assert failure(agent.exec("/bin/sh", cwd="/etc/passwd")) == bad_cwd
    assert failure(agent.exec("")) == ENOENT
    assert failure(agent.exec("/bin/sh", cwd="/nope")) == ENOENT


def test_missing_directory_is_ignored_on_a_terminal(agent):
    result = agent.exec("/bin/sh", "-c", "pwd", cwd="/nope", tty=True)
    assert (result.stdout, result.code) == (b"/\r\n", 0)


def test_no_shell_fallback_and_remembered_eacces(agent, target):
    path = f"PATH={target.directory}:/usr/bin:/bin"
    assert failure(agent.exec("not-executable", env=[path]))["errno"] == 13
    assert failure(agent.exec("no-shebang", env=[path]))["errno"] == 8
    # Relative to the new directory, where an empty segment of PATH points too.
    assert failure(agent.exec("not-executable", env=["PATH="], cwd=target.directory))["errno"] == 13


def test_nul_bytes(agent):
    failed = agent.exec("/bin/echo", "a\0b").failed
    assert failed == {
        "kind": "other",
        "errno": None,
        "errno_name": None,
        "message": 'spawn "/bin/echo": nul byte found in provided data',
        "stage": "Command::spawn",
    }
    assert '"<string-with-nul>"' in agent.exec("a\0b").failed["message"]
    failed = agent.exec("/bin/echo", "a\0b", tty=True).failed
    assert failed["stage"] is None
    assert failed["message"] == (
        "exec session error: invalid arg: nul byte found in provided data at position: 1"
    )


def test_environment(agent):
    env = ["A=1", "B=x=y", "NOEQ", "PATH=/foo", "HOME=/h", "A=2", "=x"]
    lines = agent.exec("/bin/sh", "-c", "PATH=/usr/bin:/bin exec env PATH=$PATH", env=env).stdout.split(b"\n")
    for expected in (b"A=2", b"B=x=y", b"HOME=/h", b"PATH=/.msb/scripts:/foo", b"TERM=linux"):
        assert expected in lines
    assert not any(line.startswith(b"NOEQ") for line in lines)
    assert not any(line.startswith((b"USER=", b"SHELL=", b"LOGNAME=")) for line in lines)


@pytest.mark.parametrize(
    "request_path, expected",
    [
        (["PATH=/usr/bin:/bin"], "/.msb/scripts:/usr/bin:/bin"),
        (["PATH=/usr/bin:/.msb/scripts"], "/usr/bin:/.msb/scripts"),
        (["PATH=/a", "PATH=/b"], "/b"),
        ([], "/.msb/scripts:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ],
)
def test_path(agent, request_path, expected):
    result = agent.exec("/bin/sh", "-c", "echo $PATH", env=request_path)
    assert result.stdout.decode().strip() == expected


def test_users(agent):
    script = "id -u; id -g; id -G | tr ' ' '\\n' | sort -n | tr '\\n' ' '; echo; echo $HOME"

    def who(user):
        return agent.shell(script, user=user).stdout.decode().split("\n")[:4]

    assert who("alice") == ["1000", "1000", "10 1000 2000 ", "/home/alice"]
    assert who(" 1000 ") == ["1000", "1000", "10 1000 2000 ", "/home/alice"]
    assert who("alice:wheel")[1] == "10"
    assert who("alice:77")[1] == "77"
    assert who("1234") == ["1234", "0", "0 ", "/"]
    assert who("homeless") == ["1001", "1001", "1001 ", "/"]
    assert who("") == who(None) == ["0", "0", "0 ", "/root"]


@pytest.mark.parametrize(
    "user, text",
    [
        ("bob", "guest user not found: bob"),
        ("alice:nobodies", "guest group not found: nobodies"),
        (":5", "user spec has empty user"),
        ("alice:", "user spec has empty group"),
    ],
)
def test_bad_users(agent, user, text):
    for tty in (False, True):
        failed = agent.exec("/bin/true", user=user, tty=tty).failed
        assert failed["kind"] == "other" and failed["errno"] is None and failed["stage"] is None
        assert failed["message"] == f"exec session error: {text}"


def test_user_cannot_execute_what_root_can(agent, target):
    assert agent.shell(f"echo '#!/bin/sh' > {target.scratch}/private; chmod 700 {target.scratch}/private").code == 0
    assert failure(agent.exec(f"{target.scratch}/private", user="alice"))["errno"] == 13


def test_rlimits(agent):
    limits = [{"resource": "NoFile", "soft": 64, "hard": 128}, {"resource": "bogus", "soft": 1, "hard": 2}]
    assert agent.shell("ulimit -Sn; ulimit -Hn", rlimits=limits).stdout == b"64\n128\n"
    wrong = [{"resource": "nofile", "soft": 9, "hard": 3}]
    assert failure(agent.shell("true", rlimits=wrong)) == {"kind": "other", "errno": 22, "errno_name": "EINVAL"}
    too_much = [{"resource": "nofile", "soft": 10, "hard": 1 << 40}]
    assert failure(agent.shell("true", rlimits=too_much, user="alice"))["errno"] == 1
    result = agent.shell("true", rlimits=wrong, tty=True)
    assert result.pid and result.code == 1


def test_agent_limits_do_not_leak(agent):
    """The agent raises its own limit of open files; children get the sandbox's."""
    result = agent.shell("ulimit -Sn; grep 'open files' /proc/self/limits")
    assert int(result.stdout.split()[0]) < 65536


def test_stdin_and_eof(agent):
    assert agent.exec("/bin/cat", stdin=b"hello").stdout == b"hello"
    id = agent.start_exec("/bin/cat")
    for chunk in (b"one ", b"two", b"", b"", b"dropped"):
        agent.send("core.exec.stdin", {"data": chunk}, id)
    assert agent.collect_exec(id).stdout == b"one two"


def test_large_stdin_comes_back_whole(agent):
    data = bytes(range(256)) * 4096  # 1 MiB through two 64 KiB pipes
    id = agent.start_exec("/bin/cat")
    for at in range(0, len(data), 100_000):
        agent.send("core.exec.stdin", {"data": data[at : at + 100_000]}, id)
    agent.send("core.exec.stdin", {"data": b""}, id)
    result = agent.collect_exec(id)
    assert result.stdout == data and result.code == 0


def test_output_chunks_are_bounded(agent):
    id = agent.start_exec("/bin/sh", "-c", "head -c 100000 /dev/zero")
    total = 0
    while (message := agent.on(id)).type != "core.exec.exited":
        if message.type == "core.exec.stdout":
            assert 0 < len(message.payload["data"]) <= 4096
            total += len(message.payload["data"])
    assert total == 100_000


def test_closed_stdin_is_reported(agent):
    id = agent.start_exec("/bin/sh", "-c", "exec 0<&-; echo closed; read x < /dev/tty; sleep 1")
    agent.expect("core.exec.stdout", id)
    agent.send("core.exec.stdin", {"data": b"x"}, id)
    result = agent.collect_exec(id)
    assert result.stdin_errors == [
        {"errno": 32, "errno_name": "EPIPE", "message": "io error: Broken pipe (os error 32)"}
    ]
    assert result.code is not None


def test_one_full_stdin_stalls_nobody(agent):
    """Upstream's agent waits in its loop; ours queues (spec section 8)."""
    id = agent.start_exec("/bin/sleep", "1000")
    agent.expect("core.exec.started", id)
    for _ in range(16):
        agent.send("core.exec.stdin", {"data": bytes(65536)}, id)
    agent.ping(timeout=30)
    assert agent.shell("echo alive").stdout == b"alive\n"
    agent.send("core.exec.signal", {"signal": 9}, id)
    assert agent.collect_exec(id).code == -1


def test_signals_reach_the_group(agent):
    id = agent.start_exec("/bin/sh", "-c", "sleep 1000 & echo up; wait")
    agent.expect("core.exec.stdout", id)
    for ignored in (0, 32, 64, -1):
        agent.send("core.exec.signal", {"signal": ignored}, id)
    agent.send("core.exec.signal", {"signal": signal.SIGTERM}, id)
    assert agent.collect_exec(id).code == -1


def test_group_is_signalled_after_its_leader_is_gone(agent):
    id = agent.start_exec("/bin/sh", "-c", "sleep 1000 & exit 5")
    pid = agent.expect("core.exec.started", id).payload["pid"]
    # The leader was reaped once its entry in /proc is gone; no exit message, for sleep has the pipe.
    agent.shell(f"while [ -e /proc/{pid} ]; do :; done")
    agent.send("core.exec.signal", {"signal": 9}, id)
    assert agent.collect_exec(id).code == 5


def test_background_child_delays_exit(agent):
    result = agent.shell("echo early; (read x; echo late) <&0 &", stdin=b"\n")
    assert result.stdout.split() == [b"early", b"late"] and result.code == 0


def test_terminal(agent):
    result = agent.exec("/bin/sh", "-c", "stty size; echo err >&2; tty; id -u", tty=True, rows=50, cols=132)
    lines = result.stdout.split(b"\r\n")
    assert lines[0] == b"50 132" and lines[1] == b"err"
    assert lines[2].startswith(b"/dev/pts/") and lines[3] == b"0"
    assert result.stderr == b"" and result.code == 0


def test_terminal_resize_and_eof(agent):
    # The shell runs its trap once cat is done.
    script = "trap 'stty size' WINCH; echo ready; cat; echo end"
    id = agent.start_exec("/bin/sh", "-c", script, tty=True)
    output = agent.expect("core.exec.stdout", id).payload["data"]
    agent.send("core.exec.resize", {"rows": 30, "cols": 100}, id)
    agent.send("core.exec.stdin", {"data": b""}, id)  # no end of file on a terminal
    agent.send("core.exec.stdin", {"data": b"hi\n"}, id)
    while output.count(b"hi") < 2:  # the terminal's echo, and cat's
        output += agent.expect("core.exec.stdout", id).payload["data"]
    agent.send("core.exec.stdin", {"data": b"\x04"}, id)
    result = agent.collect_exec(id)
    output += result.stdout
    assert b"30 100" in output and b"end" in output and result.code == 0


def test_terminal_is_not_hung_up_when_its_program_closes_it(agent):
    """cat(1), for one, closes its standard descriptors and only then exits."""
    result = agent.exec("/bin/sh", "-c", "echo up; exec 0<&- 1>&- 2>&-; sleep 0.3; exit 3", tty=True)
    assert (result.stdout, result.code) == (b"up\r\n", 3)


def test_terminal_interrupt(agent):
    id = agent.start_exec("/bin/sh", "-c", "echo up; exec sleep 1000", tty=True)
    agent.expect("core.exec.stdout", id)
    agent.send("core.exec.stdin", {"data": b"\x03"}, id)
    assert agent.collect_exec(id).code in (-1, 130)


def test_children_inherit_nothing(agent):
    """Not even the masters of other sessions' terminals."""
    other = agent.start_exec("/bin/cat", tty=True)
    agent.expect("core.exec.started", other)
    for tty in (False, True):
        result = agent.shell("for f in /proc/$$/fd/*; do echo ${f##*/}; done", tty=tty)
        # A shell may keep one descriptor of its own (10 or 255) for its terminal or script.
        numbers = {int(n) for n in result.stdout.split()}
        assert {0, 1, 2} <= numbers and not numbers & set(range(4, 10)), numbers
    agent.send("core.exec.stdin", {"data": b"\x04"}, other)
    assert agent.collect_exec(other).code == 0


def test_signal_dispositions_are_default(agent):
    for tty in (False, True):
        status = agent.shell("grep -E 'Sig(Blk|Ign)' /proc/self/status", tty=tty).stdout.decode()
        values = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines()}
        assert values["SigBlk:"] == 0
        assert values["SigIgn:"] & (1 << (signal.SIGPIPE - 1)) == 0


def test_reused_id_displaces_the_first_session(agent):
    id = agent.start_exec("/bin/sh", "-c", "sleep 1000 & echo $!; wait")
    sleeper = int(agent.expect("core.exec.stdout", id).payload["data"])
    agent.expect("core.exec.started", id)
    agent.start_exec("/bin/sh", "-c", "exit 3", id=id)
    assert agent.collect_exec(id).code == 3
    agent.shell(f"kill -9 {sleeper}")
    assert agent.collect_exec(id).code == -1


def test_input_right_behind_the_request(agent):
    id = agent.new_id()
    import msbproto

    agent.send_bytes(
        msbproto.frame("core.exec.request", {"cmd": "/bin/cat"}, id)
        + msbproto.frame("core.exec.stdin", {"data": b"early"}, id)
        + msbproto.frame("core.exec.stdin", {"data": b""}, id)
    )
    assert agent.collect_exec(id).stdout == b"early"


def test_unknown_ids_are_ignored(agent):
    for type, payload in (
        ("core.exec.stdin", {"data": b"x"}),
        ("core.exec.resize", {"rows": 1, "cols": 1}),
        ("core.exec.signal", {"signal": 9}),
    ):
        agent.send(type, payload, 31337)
    agent.ping()
    assert not [message for message in agent.waiting if message.id == 31337]


def test_many_at_once(agent):
    ids = [agent.start_exec("/bin/sh", "-c", f"echo {n}; exit {n}") for n in range(40)]
    for n, id in enumerate(ids):
        result = agent.collect_exec(id)
        assert (result.code, result.stdout) == (n, b"%d\n" % n)


def test_no_zombies(agent, target):
    agent.shell("for i in 1 2 3 4 5 6 7 8; do (sleep 0.01 &) ; done")
    parent = "1" if target.kind == "vm" else str(target.process.pid)
    script = (
        "while :; do n=0; for s in /proc/[0-9]*/stat; do read -r p c st pp rest < $s 2>/dev/null || continue; "
        f'[ "$st" = Z ] && [ "$pp" = {parent} ] && n=1; done; [ $n = 0 ] && break; done; echo none'
    )
    assert agent.shell(script).stdout == b"none\n"
