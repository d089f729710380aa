"""Terminals: a real tmux, a real shell in a real sandbox (spec/cli.md sections 1.5, 1.6, 4.3 and 12.9)."""

import os
import pty
import select
import signal
import subprocess

import pytest

from conftest import processes_of
from msbcli import Terminal, children_of, wait_until


@pytest.fixture
def terminal(msb):
    terminal = Terminal(msb)
    yield terminal
    terminal.close()


def run_on_pty(msb, *args, stdout_pty=True, stderr_pty=True):
    """(stdout, stderr) of a command whose streams are terminals or pipes."""
    out_read, out_write = pty.openpty() if stdout_pty else os.pipe()
    err_read, err_write = pty.openpty() if stderr_pty else os.pipe()
    process = msb.popen(*args, stdin=subprocess.DEVNULL, stdout=out_write, stderr=err_write)
    os.close(out_write)
    os.close(err_write)
    data = {out_read: b"", err_read: b""}
    open_fds = [out_read, err_read]
    while open_fds:
        for fd in select.select(open_fds, [], [])[0]:
            try:
                chunk = os.read(fd, 65536)
            except OSError:  # a terminal whose other end is closed
                chunk = b""
            if not chunk:
                open_fds.remove(fd)
            data[fd] += chunk
    process.wait()
    os.close(out_read)
    os.close(err_read)
    return data[out_read], data[err_read]


def test_colors_follow_standard_output_also_for_errors(msb):
    out, err = run_on_pty(msb, "inspect", "nosuch", stderr_pty=False)
    assert err == b"\x1b[31m\x1b[1merror:\x1b[0m sandbox not found: nosuch\n"
    out, err = run_on_pty(msb, "inspect", "nosuch", stdout_pty=False)
    assert err == b"error: sandbox not found: nosuch\r\n"


def test_an_interactive_session(msb, box, terminal):
    terminal.line(f"$MSB exec {box} -- sh")
    terminal.expect_last("/ #")
    assert "Starting" not in terminal.screen(), "the spinner is erased"

    terminal.line("stty size")
    terminal.expect("30 100\n/ #")
    # The new size travels beside the typed bytes, so the guest is asked until it has it.
    terminal.resize(90, 25)
    terminal.line("until stty size | grep -x '25 90'; do usleep 50000; done")
    terminal.expect("\n25 90\n/ #")

    # Ctrl-C is a byte for the guest's terminal: it ends the guest's command, not msb.
    # (The word printed first says that the shell has left its line editor, the line that cat repeats that cat owns the
    # terminal, the prompt that the shell has it back.)
    terminal.line("echo reading; cat")
    terminal.expect("\nreading")
    terminal.line("typed")
    terminal.expect("typed\ntyped")
    terminal.key("C-c")
    terminal.expect_last("/ #")
    terminal.line("echo after=$?")
    terminal.expect("\nafter=130\n/ #")

    # Job control.
    terminal.line("echo again; cat")
    terminal.expect("\nagain")
    terminal.line("before")
    terminal.expect("before\nbefore")
    terminal.key("C-z")
    terminal.expect("Stopped")
    terminal.expect_last("/ #")
    terminal.line("fg")
    terminal.expect("/ # fg\ncat")
    terminal.line("behind")
    terminal.expect("behind\nbehind")
    terminal.key("C-c")
    terminal.expect_last("/ #")
    terminal.line("echo after=$?")
    terminal.expect("\nafter=130\n/ #", count=2)
    terminal.line("exit 5")
    terminal.expect_last("host>")
    terminal.line("echo code=$?")
    terminal.expect("code=5")

    # The host's terminal is as it was.
    terminal.line("stty -a | grep -wo 'icanon\\|echo'")
    terminal.expect("icanon\necho")


def test_detach_keys_leave_with_255_and_the_sandbox_running(msb, box, terminal):
    terminal.line(f"$MSB exec {box} -- sh")
    terminal.expect_last("/ #")
    terminal.key("C-]")
    terminal.expect_last("host>")
    terminal.line("echo code=$?")
    terminal.expect("code=255")
    assert msb("ps", "-q").out == f"{box}\n"


def test_run_has_its_own_detach_keys_and_stops_the_sandbox(msb, disk, terminal):
    terminal.line(f"$MSB run ./{disk.name} -n typed --detach-keys ctrl-p,ctrl-q")
    terminal.expect_last("/ #")
    terminal.key("C-]")
    terminal.line("echo still-$((1+1))-here")
    terminal.expect("still-2-here")
    terminal.key("C-p")
    terminal.key("C-q")
    terminal.expect_last("host>")
    terminal.line("echo code=$?")
    terminal.expect("code=255")
    assert '"status": "Stopped"' in msb("ps", "typed", "--format", "json").out
    msb.ok("rm", "typed")


def test_bad_detach_keys(msb, box, terminal):
    terminal.line(f"$MSB exec {box} -- sh; $MSB run -n {box} --detach-keys ctrl-pp -- sh")
    terminal.expect_last("/ #")
    terminal.line("exit")
    terminal.expect("error: invalid config: invalid detach key: ctrl-pp")


def test_a_killed_session_gives_the_terminal_back(msb, box, terminal):
    terminal.line(f"$MSB exec {box} -- sh; stty -a | grep -wo 'icanon\\|echo'")
    terminal.expect_last("/ #")
    [session] = children_of(terminal.shell_pid())
    assert os.readlink(f"/proc/{session}/exe") == str(msb.binary)
    os.kill(session, signal.SIGTERM)
    terminal.expect("icanon\necho")


def test_interrupting_a_boot_restores_echo_and_leaves_nothing(msb, place, disk, terminal):
    # An engine that waits for a line nobody sends: the boot lasts until it is interrupted, on any machine.
    gate = place.work / "gate"
    os.mkfifo(gate)
    engine = place.work / "waiting-engine"
    engine.write_text(f"#!/bin/sh\nread line < {gate}\n")
    engine.chmod(0o755)
    terminal.line(f"MSB_ACCEL=tcg MSB_QEMU={engine} $MSB run ./{disk.name} -n aborted -- sleep 1000")
    terminal.expect("Starting     aborted")
    terminal.key("C-c")
    terminal.expect_last("host>")
    terminal.line("stty -a | grep -wo 'icanon\\|echo'")
    terminal.expect("icanon\necho")
    wait_until(lambda: "aborted" not in msb("ps", "-q").out.split(), what="the sandbox to end")
    wait_until(lambda: not [p for p in processes_of(place.directory) if b"waiting-engine" in p[1]],
               what="the engine to end")
    msb.ok("rm", "aborted")


def test_no_tty_on_a_terminal_is_captured(msb, box, terminal):
    terminal.line(f"$MSB run -n {box} --no-tty -- sh -c 'test -t 1 || echo no-terminal-here'")
    terminal.expect("no-terminal-here\nhost>")


def test_stream_refuses_a_terminal(msb, box, terminal):
    terminal.line(f"$MSB exec {box} --stream -- cat")
    terminal.expect("error: `--stream` requires piped (non-terminal) stdin")
