"""`msb exec` (spec/cli.md sections 4.3 and 7)."""

import subprocess

from msbcli import wait_until


def test_standard_input_is_read_to_its_end(msb, box):
    data = bytes(range(256)) * 4096
    result = msb("exec", box, "--", "sha256sum", stdin=data)
    import hashlib
    assert result.out.split()[0] == hashlib.sha256(data).hexdigest()
    assert msb("exec", box, "--", "cat").out == ""


def test_environment_directory_user_and_limits(msb, box):
    result = msb("exec", box, "-e", "A=1", "-e", "FROM_HOST", "-w", "/usr", "-u", "nobody", "--rlimit", "nofile=55", "--",
                 "sh", "-c", "echo $A $FROM_HOST $FROM_CONFIG; pwd; id -un; ulimit -n", env={"FROM_HOST": "h"})
    assert result.out.splitlines() == ["1 h yes", "/usr", "nobody", "55"], result


def test_output_of_both_streams_is_complete(msb, box):
    result = msb("exec", box, "--", "sh", "-c", "yes 0123456789abcde | head -c 8388608; echo e >&2")
    assert len(result.out) == 8388608
    assert result.err == "e\n"


def test_tty_gives_the_guest_a_terminal(msb, box):
    result = msb("exec", box, "-t", "--", "sh", "-c", "test -t 1 && stty size && echo $TERM")
    assert result.out == "24 80\r\nxterm\r\n", result


def test_tty_input_ends(msb, box):
    """A terminal passes no end of file on; msb sends its EOF character, also behind an unfinished line."""
    assert msb("exec", box, "-t", "--", "cat", stdin=b"one\n", timeout=60).out == "one\r\none\r\n"
    assert msb("exec", box, "-t", "--", "cat", stdin=b"part", timeout=60).out == "partpart"


def test_timeout(msb, box):
    result = msb("exec", box, "--timeout", "1s", "--", "sleep", "1000")
    assert (result.code, result.err) == (1, "error: exec timed out after 1s\n")


def test_stream_passes_bytes_both_ways_as_they_come(msb, box):
    process = msb.popen("exec", box, "--stream", "--", "sh", "-c", "while read l; do echo got $l; echo e-$l >&2; done; exit 9",
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for word in ("one", "two"):  # the answer to the first line comes before the second is sent
        process.stdin.write(f"{word}\n".encode())
        process.stdin.flush()
        assert process.stdout.readline() == f"got {word}\n".encode()
        assert process.stderr.readline() == f"e-{word}\n".encode()
    process.stdin.close()
    assert process.wait() == 9
    process.stdout.close()
    process.stderr.close()


def test_stream_ends_when_nobody_reads_its_output(msb, box):
    process = msb.popen("exec", box, "--stream", "--", "sh", "-c", "echo $$ > /tmp/pid; exec yes",
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"y\n"
    process.stdout.close()
    assert process.wait() == 0
    process.stderr.close()
    pid = msb("exec", box, "--", "cat", "/tmp/pid").out.strip()
    wait_until(lambda: msb("exec", box, "--", "test", "-d", f"/proc/{pid}").code != 0, what="the guest process to end")


def test_stream_failures(msb, box):
    result = msb("exec", box, "--stream", "--", "nosuch")
    assert result.code == 1
    assert result.err.startswith('error: exec failed to start: spawn "nosuch": '), result
    result = msb("exec", box, "--stream", "--timeout", "1s", "--", "sleep", "1000")
    assert (result.code, result.err) == (1, "error: exec timed out after 1s\n")


def test_arguments_are_checked_before_the_sandbox_is_looked_up(msb):
    for args, text in [(["--rlimit", "nofile=2:1"], "soft limit cannot exceed hard limit"),
                       (["--timeout", "x"], "invalid digit found in string"),
                       (["-e", "NOPE"], "environment variable 'NOPE' not set"), ([], "sandbox not found: nosuch")]:
        result = msb("exec", "nosuch", *args, "--", "ls")
        assert (result.code, result.err) == (1, f"error: {text}\n")


def test_a_stopped_sandbox_is_started_for_the_command(msb, disk):
    msb.ok("create", f"./{disk.name}", "-n", "asleep")
    msb.ok("stop", "asleep")
    result = msb("exec", "asleep", "--", "echo", "awake")
    assert (result.code, result.out) == (0, "awake\n"), result
    assert '"status": "Stopped"' in msb("ps", "asleep", "--format", "json").out
    msb.ok("rm", "asleep")


def test_many_at_once(msb, box):
    processes = [msb.popen("exec", box, "--", "sh", "-c", f"echo {i}; exit {i}", stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE) for i in range(16)]
    for i, process in enumerate(processes):
        out, _ = process.communicate()
        assert (process.returncode, out) == (i, f"{i}\n".encode())
