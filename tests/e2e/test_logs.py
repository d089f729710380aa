"""`msb logs`, mostly on files written here: no machine needed (spec/cli.md sections 6, 12.7 and 12.8)."""

import json
import subprocess

import pytest

LINES = [
    {"t": "2026-04-30T20:32:59.000Z", "s": "system", "d": "--- sandbox started ---\n"},
    {"t": "2026-04-30T20:32:59.690Z", "s": "stdout", "d": "hello\nworld\n", "id": 1},
    {"t": "2026-04-30T20:33:00.690Z", "s": "stderr", "d": "bad\n", "id": 2},
    {"t": "2026-04-30T20:33:01.690Z", "s": "output", "d": "\x1b[31mred\x1b[0m\r\n", "id": 3},
]


@pytest.fixture
def logs(place, request):
    directory = place.home / "sandboxes" / "logged" / "logs"
    directory.mkdir(parents=True)
    (directory / "exec.log").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    yield directory
    import shutil
    shutil.rmtree(directory.parent)


def test_defaults_and_selection(msb, logs):
    assert msb("logs", "logged").out == "hello\nworld\nbad\nred\r\n"
    assert msb("logs", "logged", "--source", "stdout,stderr").out == "hello\nworld\nbad\n"
    assert msb("logs", "logged", "--source", "all").out.startswith("--- sandbox started ---\n")
    assert msb("logs", "logged", "--tail", "2").out == "bad\nred\r\n"
    assert msb("logs", "logged", "--since", "2026-04-30T20:33:00.690Z", "--until", "2026-04-30T20:33:01.690Z").out == "bad\n"
    assert msb("logs", "logged", "--grep", "w.rld").out == "hello\nworld\n"
    assert msb("logs", "logged", "--tail", "1", "--grep", "hello").out == "", "tail comes before grep"
    assert msb("logs", "logged", "--since", "1d").out == ""


def test_forms(msb, logs):
    first = ["logs", "logged", "--source", "stdout"]
    assert msb(*first, "--timestamps").out == "2026-04-30T20:32:59.690Z\thello\n" + " " * 24 + "\tworld\n"
    assert msb(*first, "--show-id").out == "[id:  1] hello\n[id:  1] world\n"
    assert msb(*first, "--json").out == (
        '{"d":"hello\\nworld\\n","e":null,"id":1,"s":"stdout","t":"2026-04-30T20:32:59.690Z"}\n')
    assert msb(*first, "--color-sessions", "--color", "always").out == (
        "\x1b[35m[id:  1]\x1b[0m \x1b[35mhello\x1b[0m\n\x1b[35m[id:  1]\x1b[0m \x1b[35mworld\x1b[0m\n")
    assert msb("logs", "logged", "--source", "output", "--color", "always").out == "\x1b[31mred\x1b[0m\r\n"


def test_boot_error_comes_first(msb, logs):
    (logs / "boot-error.json").write_text('{"t":"2026-11-22T00:00:00.000Z","stage":"mount","errno":2,"message":"m"}')
    result = msb("logs", "logged", "--tail", "1")
    assert result.err == ('error: failed to start "logged"\n  → mount: m\n'
                          "  → the host path for one of the mounts does not exist\n"
                          "  → run `msb logs --source system logged` for full diagnostics\n\n")
    assert result.out == "red\r\n"
    line = json.loads(msb("logs", "logged", "--json").out.split("\n")[0])
    assert line == {"t": "2026-11-22T00:00:00.000Z", "s": "boot-error",
                    "d": '{"t":"2026-11-22T00:00:00.000Z","stage":"mount","errno":2,"message":"m"}'}


def test_bad_arguments(msb, logs):
    assert msb("logs", "logged", "--since", "5x").err == (
        'error: could not parse time "5x" (expected RFC 3339 or `5m` etc.)\n')
    assert msb("logs", "logged", "--grep", "(").err == "error: invalid --grep regex\n"


def test_damaged_lines_do_not_hide_the_rest(msb, logs):
    with open(logs / "exec.log", "a") as file:
        file.write('not json\n{"t":"zz","s":"stdout","d":"q"}\n')
        file.write(json.dumps({"t": "2026-05-01T00:00:00.000Z", "s": "stdout", "d": "after\n", "id": 9}) + "\n")
    assert msb("logs", "logged").out.endswith("after\n")


@pytest.mark.parametrize("tail", [[], ["--tail", "1"]])
def test_follow_shows_what_is_written_later(msb, logs, tail):
    process = msb.popen("logs", "logged", "-f", "--source", "stdout", *tail, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"hello\n"
        assert process.stdout.readline() == b"world\n"
        for i in range(3):
            with open(logs / "exec.log", "a") as file:
                file.write(json.dumps({"t": "2026-05-01T00:00:00.000Z", "s": "stdout", "d": f"new {i}\n", "id": 9}) + "\n")
            assert process.stdout.readline() == f"new {i}\n".encode()
    finally:
        process.kill()
        process.communicate()


def test_logs_of_a_real_sandbox(msb, box):
    msb.ok("exec", box, "--", "sh", "-c", "echo out; echo err >&2")
    result = msb("logs", box, "--source", "stderr")
    assert result.out == "err\n"
    assert "--- sandbox started ---" in msb("logs", box, "--source", "system").out
