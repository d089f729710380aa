"""start, stop, restart, ping, touch, remove, list, status, inspect (spec/cli.md sections 5, 6 and 12)."""

import json
import re
import subprocess

import pytest

from conftest import processes_of


@pytest.fixture(scope="module")
def pair(place):
    place.disk("one.raw")
    place.disk("two.raw")
    msb = place.msb
    msb.ok("create", "./one.raw", "-n", "one", "--label", "team=a", "--label", "x", "-c", "1", "--max-cpus", "2")
    msb.ok("create", "./two.raw", "-n", "two", "--label", "team=a", "-m", "256")
    yield ["one", "two"]
    msb("rm", "-f", "one", "two")


def test_lifecycle_lines(msb, pair):
    def lines(result):
        return [re.sub(r" \(\d[^)]*\)$", " (T)", line) for line in result.err.splitlines()]

    result = msb.ok("ping", "one", "two", "--touch")
    assert lines(result) == ["   ✓ Reachable    one (T)", "   ✓ Reachable    two (T)"]
    assert result.out == ""
    assert msb.ok("touch", "one").err == "   ✓ Touched      one\n"
    assert [line[:21] for line in lines(msb.ok("stop", "one"))] == ["   ✓ Stopped      one"]
    assert lines(msb.ok("stop", "one"))[0].startswith("   ✓ Stopped      one"), "stopping twice is fine"
    assert [line[:21] for line in lines(msb.ok("start", "one"))] == ["   ✓ Started      one"]
    assert [line[:21] for line in lines(msb.ok("restart", "one"))] == ["   ✓ Stopped      one", "   ✓ Started      one"]
    assert msb.ok("stop", "-q", "two").err == ""
    assert msb.ok("start", "-q", "two").err == ""


def test_states_that_forbid_an_operation(msb, pair):
    result = msb("start", "one")
    assert (result.code, result.err) == (1, "error: sandbox still running: cannot start sandbox 'one': already running\n")
    result = msb("rm", "one")
    assert (result.code, result.err) == (
        1, "error: sandbox still running: cannot remove sandbox 'one': still running\n")
    msb.ok("stop", "two", "-t", "0")
    result = msb("ping", "two")
    assert (result.code, result.err) == (1, "error: sandbox 'two' is not running (status: Stopped); cannot ping\n")
    result = msb("touch", "two")
    assert result.err == "error: sandbox 'two' is not running (status: Stopped); cannot touch\n"
    msb.ok("start", "two")


def test_unknown_names_one_line_each(msb, pair):
    result = msb("rm", "a", "b")
    assert (result.code, result.err) == (1, "error: sandbox not found: a\nerror: sandbox not found: b\n")
    assert (msb("rm", "-q", "a", "b").code, msb("rm", "-q", "a").err) == (1, "")
    assert msb("stop", "-q", "a").err == "error: sandbox not found: a\n", "stop -q still prints"
    assert msb("restart", "-q", "a").err == ""
    result = msb("touch", "nosuch", "one")
    assert (result.code, result.err) == (1, "error: sandbox not found: nosuch\n   ✓ Touched      one\n")


def test_labels_select(msb, pair):
    assert msb("touch", "--label", "team=a").err == "   ✓ Touched      two\n   ✓ Touched      one\n", "newest first"
    assert msb("touch", "one", "--label", "team=a").err == "   ✓ Touched      one\n   ✓ Touched      two\n"
    assert msb("touch", "--label", "team=a", "--label", "x").err == "   ✓ Touched      one\n"
    result = msb("touch", "--label", "team")
    assert (result.code, result.err) == (0, "warn: no sandboxes matched the given labels\n")
    assert msb("touch", "-q", "--label", "team").err == ""
    assert msb("ls", "-q", "--label", "x").out == "one\n"


def test_tables(msb, pair):
    rows = msb("ls").out.splitlines()
    assert re.fullmatch(r"NAME    IMAGE        STATUS     CREATED", rows[0]), rows
    assert re.fullmatch(r"two     ./two\.raw    running    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", rows[1]), rows
    rows = msb("ps").out.splitlines()
    assert rows[0] == "NAME    IMAGE        COMMAND    CPUS     MEM                  STATUS     PORTS"
    assert rows[1] == "one     ./one.raw    -          1 / 2    512 MiB / 512 MiB    running    -"
    assert rows[2] == "two     ./two.raw    -          1 / 1    256 MiB / 256 MiB    running    -"
    assert msb("ls", "--stopped", "-q").out == ""
    assert msb("ls", "--running", "--stopped", "-q").out == "two\none\n", "running wins"


def test_json(msb, pair):
    listed = json.loads(msb("ls", "--format", "json").out)
    assert [list(entry) for entry in listed] == [["created_at", "image", "name", "status"]] * 2
    assert listed[0]["status"] == "Running" and listed[0]["created_at"].endswith("+00:00")
    one = json.loads(msb("ps", "one", "--format", "json").out)
    assert list(one) == sorted(one) and one == {
        "command": "-", "cpus": 1, "image": "./one.raw", "max_cpus": 2, "max_memory_mib": 512, "memory_mib": 512,
        "name": "one", "ports": [], "status": "Running", "thp": "madvise"}
    document = json.loads(msb("inspect", "one", "--format", "json").out)
    assert list(document) == ["active_config", "config", "created_at", "name", "pending_changes", "status", "updated_at"]
    assert document["config"]["labels"] == {"team": "a", "x": ""}
    assert document["active_config"]["resources"]["max_cpus"] == 2
    assert document["pending_changes"] == []


def test_inspect(msb, pair):
    text = msb("inspect", "one").out
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "T", text) == (
        "Name:           one\nStatus:         running\nCreated:        T\nUpdated:        T\nImage:          ./one.raw\n\n"
        "Resources\n  CPUs:         1\n  Max CPUs:     2\n  CPU Placement:inherit\n  Memory:       512 MiB\n"
        "  Max Memory:   512 MiB\n  THP:          madvise\nSecurity:       default\n"
        "Deployment Profile:single-tenant\nShell:          /bin/sh\n\nLabels\n  team=a\n  x=\n")


def test_two_starts_at_once_run_one_machine(msb, place, pair):
    msb.ok("stop", "one")
    starts = [msb.popen("start", "one", stderr=subprocess.PIPE) for _ in range(2)]
    errors = [process.communicate()[1].decode() for process in starts]
    codes = sorted(process.returncode for process in starts)
    assert codes in ([0, 1], [0, 0]), errors
    assert msb("exec", "one", "--", "true").code == 0
    running = [command for _, command in processes_of(place.directory) if b" sandbox " in command and b"--name one " in command]
    assert len(running) == 1, (errors, running)


def test_force_remove(msb, pair):
    msb.ok("rm", "-f", "two")
    assert msb.names() == ["one"]
    assert not (msb.home / "sandboxes" / "two").exists()
