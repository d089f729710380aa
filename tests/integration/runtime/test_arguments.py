"""What is refused before anything is written: spec/sandbox-process.md conformance checks 1, 2, 3, 5, 8, 23, 25."""

import json
import os
import subprocess
import tempfile

import pytest


def run(program, *words, stdin=b"", **options):
    return subprocess.run([program, "sandbox", *words], input=stdin, capture_output=True, timeout=60, **options)


def named(*words):
    return ("--name", "demo", "--sandbox-id", "1", *words)


@pytest.fixture
def document(home):
    sandbox = home.sandbox("demo")
    return lambda **changes: json.dumps(sandbox.config(**changes)).encode()


def with_file(content):
    file = tempfile.NamedTemporaryFile(prefix="runtime-config-")
    file.write(content)
    file.flush()
    return file


def test_wrong_descriptor_numbers(program, document):
    with with_file(document()) as file:
        source = ("--config-file", file.name)
        for flag, expected in (("parent-watch-fd", 97), ("startup-fd", 98), ("lifecycle-lock-fd", 99)):
            for number, text in ((5, f"invalid --{flag}: expected {expected}, got 5"),
                                 (-1, f"invalid --{flag}: fd must be non-negative, got -1"),
                                 (expected, f"invalid --{flag} {expected}: Bad file descriptor (os error 9)")):
                done = run(program, *named(f"--{flag}", str(number), *source))
                assert (done.returncode, done.stderr.decode().strip(), done.stdout) == (2, text, b"")


def test_startup_descriptor_must_be_a_pipe(program, document):
    with with_file(document()) as file:
        os.dup2(file.fileno(), 98)
        try:
            done = run(program, *named("--startup-fd", "98", "--config-file", file.name), pass_fds=[98])
        finally:
            os.close(98)
        assert done.returncode == 2
        assert done.stderr == b"invalid --startup-fd 98: fd is not a pipe\n"


@pytest.mark.parametrize("words, text", [
    ((), "missing --config-fd or --config-file for `msb sandbox`"),
    (("--config-fd", "-3"), "invalid --config-fd: must be non-negative, got -3"),
    (("--config-fd", "77"), "failed to read --config-fd 77: Bad file descriptor (os error 9)"),
    (("--config-file", "/nonexistent"), "failed to read --config-file /nonexistent: No such file or directory (os error 2)"),
])
def test_no_usable_config(program, words, text):
    done = run(program, *named(*words))
    assert (done.returncode, done.stderr.decode().strip()) == (2, text)


def test_config_is_read_from_any_descriptor(program, document):
    # Standard input is a pipe; both sources given: the descriptor wins. The broken disk string ends it before any write.
    done = run(program, *named("--config-fd", "0", "--config-file", "/nonexistent"), stdin=document(disks=["id:/h:raw:rw"]))
    assert done.returncode == 2
    assert done.stderr.decode().strip() == 'invalid --disk entry with unknown format "rw": "id:/h:raw:rw"'


@pytest.mark.parametrize("content, text", [
    (b"", "invalid launch config: EOF while parsing a value at line 1 column 0"),
    (b"{}", "invalid launch config: missing field `"),
    (b"\xff\xfe{", "invalid launch config: "),
    (b"[" * 100000, "invalid launch config: "),
    (b'{"db_path":5', "invalid launch config: "),
], ids=["empty", "no fields", "not UTF-8", "deep nesting", "cut off"])
def test_broken_documents(program, content, text):
    done = run(program, *named("--config-fd", "0"), stdin=content)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(text)
    assert done.stdout == b""


def test_values_refused_before_start(program, document):
    for changes, text in (
            ({"placement_profile_name": "gold"}, "placement profile `gold` is not defined in runtime.placement_profiles"),
            ({"rootfs": {"disk_readonly": False, "upper": "/x", "upper_format": "floppy"}},
             "upper disk format: I/O error: unknown disk image format: floppy")):
        done = run(program, *named("--config-fd", "0"), stdin=document(**changes))
        assert (done.returncode, done.stderr.decode().strip(), done.stdout) == (2, text, b"")


def test_argument_mistakes_exit_2(program):
    for words in (("--vcpus", "300"), ("--bogus",), ("--log-level", "loud")):
        done = run(program, *named(*words))
        assert done.returncode == 2 and done.stderr


def test_waits_for_the_lock_before_it_says_anything(home, program):
    sandbox = home.sandbox("demo")
    lock = sandbox.lock()
    document = json.dumps(sandbox.config(mounts=["broken"])).encode()
    process = subprocess.Popen([program, "sandbox", *named("--config-fd", "0")], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        process.stdin.write(document)
        process.stdin.close()
        # It sleeps in flock(2): that is the whole proof that it waits.
        import sandbox_launcher
        sandbox_launcher.wait_until(
            lambda: open(f"/proc/{process.pid}/wchan").read() in ("locks_lock_inode_wait", "flock_lock_inode_wait", "0")
            and "flock" in kernel_call(process.pid), 30, "the lock to be waited for")
        os.close(lock)
        assert json.loads(process.stdout.readline()) == {"pid": process.pid}
        process.stdout.close()
        process.stderr.close()
        assert process.wait(30) == 1
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def kernel_call(pid):
    number = open(f"/proc/{pid}/syscall").read().split()[0]
    return {"73": "flock"}.get(number, number)
