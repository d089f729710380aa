"""Bad input through the real program (spec/cli.md sections 11 and 12.1, 12.2)."""

import os

import pytest

# Rows of section 11 as this build answers them: (arguments, first line after "error: ", exit code). Commands and sources
# of later issues have their own test below.
ROWS = [
    (["lst"], "unrecognized subcommand 'lst'", 2),
    (["run", "alpine", "extra"], "unexpected argument 'extra' found", 2),
    (["run"], "missing required sandbox field `image`; provide an image argument or set `image` in --conf", 1),
    (["run", "--from-snapshot", "x", "alpine"],
     "the argument '--from-snapshot <PATH_OR_NAME>' cannot be used with '[IMAGE]'", 2),
    (["run", "alpine", "-t", "--no-tty"], "the argument '--tty' cannot be used with '--no-tty'", 2),
    (["run", "-c", "300", "alpine"], "invalid value '300' for '--cpus <CPUS>': 300 is not in 0..=255", 2),
    (["run", "-m", "1T", "alpine"], "invalid size (expected e.g. 512M, 1G): invalid digit found in string", 1),
    (["run", "-m", "abcG", "alpine"], "invalid size: invalid float literal", 1),
    (["run", "-v", "foo", "alpine"], "volume must be in format source:/guest[:options]", 1),
    (["run", "-v", "a:/b:zz", "alpine"], 'mount option "zz" must be a flag or key=value', 1),
    (["run", "-v", "a:/b,ro", "alpine"], "volume options must use source:guest:options syntax, for example a:/b:ro", 1),
    (["create", "x", "-v", "/tmp:/x:uid=1"], "mount options `uid` and `gid` must be specified together", 1),
    (["run", "--mount-named", "x:/y:kind=disk", "a"], "mount-named kind=disk requires size=...", 1),
    (["run", "--init", "foo", "alpine"], "--init must be an absolute path or `auto`, got: foo", 1),
    (["run", "--pull", "x", "alpine"], "invalid pull policy: x (expected: always, if-missing, never)", 1),
    (["run", "--max-duration", "1.5h", "alpine"], "invalid digit found in string", 1),
    (["run", "-e", "NOPE", "alpine"], "environment variable 'NOPE' not set", 1),
    (["create", "x", "-e", "MSB_X=1"],
     'invalid config: environment variable "MSB_X" uses the reserved MSB_ prefix', 1),
    (["run", "--root-disk", "flat:", "alpine"], "--root-disk: flat: requires a size or option after ':'", 1),
    (["run", "-p", "70000:80", "alpine"], "invalid host port: 70000", 1),
    (["run", "--no-net", "--net", "public", "a"], "the argument '--no-net' cannot be used with '--net <PROFILE>'", 2),
    (["run", "--net", "all,public", "a"], "--net `all` cannot be combined with public, private, or host", 1),
    (["run", "--net-rule", "alow@public", "a"],
     "`alow` is not a recognized action. Expected `allow` or `deny`. Did you mean `allow`?", 1),
    (["run", "--net-rule", "allow@a.b:443", "a"],
     "`443` is a port, not a protocol; did you mean `a.b:tcp:443`? port numbers don't belong in the target", 1),
    (["run", "--secret", "FOO", "alpine"], "secret must be in format ENV@HOST[,HOST...]", 1),
    (["run", "--script", "a=1", "--script-raw", "a=2", "x"], "script name 'a' specified more than once", 1),
    (["run", "--copy-dir", "/etc/passwd:/x", "a"], "--copy-dir: /etc/passwd is not a directory", 1),
    (["run", "--conf", "/nonexist", "a"],
     "failed to read sandbox configuration /nonexist: No such file or directory (os error 2)", 1),
    (["create", "x", "-n", "a b"],
     "invalid config: sandbox name must start with an alphanumeric and contain only alphanumeric, dots, hyphens, and "
     "underscores: a b", 1),
    (["create", "./no"], "invalid config: rootfs bind path does not exist: ./no", 1),
    (["create", "nope:1", "--pull", "never"], "image error: image not cached: docker.io/library/nope:1", 1),
    (["start"], "the following required arguments were not provided:", 2),
    (["exec", "x", "--rlimit", "nofile=2:1", "--", "ls"], "soft limit cannot exceed hard limit", 1),
    (["copy", "a", "b"], "msb copy requires at least one sandbox endpoint (SANDBOX:/path)", 1),
    (["cp", "x:y", "./z"],
     "ambiguous copy endpoint `x:y`; use SANDBOX:/absolute/path for sandbox paths or prefix local paths with ./", 1),
    # beyond the table
    (["cp", ":/a", "./b"], "invalid sandbox endpoint `:/a`: invalid config: sandbox name must not be empty", 1),
    (["run", "./no.raw"], "invalid config: disk image does not exist: ./no.raw", 1),
    (["run", "-c", "0", "./no.raw"], "invalid config: cpus must be greater than 0", 1),
    (["run", "--max-cpus", "0", "./no.raw"], "invalid config: max_cpus must be greater than 0", 1),
    (["run", "-m", "1G", "--max-memory", "512M", "./no.raw"],
     "invalid config: max_memory 512 MiB must be greater than or equal to memory 1024 MiB", 1),
    (["logs", "x"], "sandbox not found: x", 1),
    (["inspect", "x"], "sandbox not found: x", 1),
    (["ps", "x"], "sandbox not found: x", 1),
    (["run", "-p", "80:80", "./no.raw"], "`--port` is not supported by this build yet", 1),
    (["volume", "create", "d"], "`msb volume` is not supported by this build yet", 1),
    (["ssh"], "`msb ssh` is not supported by this build yet", 1),
    (["__schema-baseline"], "__schema-baseline requires --json", 1),
]


@pytest.mark.parametrize("args, text, code", ROWS, ids=[" ".join(row[0]) for row in ROWS])
def test_row(msb, args, text, code):
    result = msb(*args)
    assert result.err.split("\n")[0] == f"error: {text}", result
    assert (result.code, result.out) == (code, "")


def test_start_without_names_says_which(msb):
    assert msb("start").err.split("\n")[1] == "  <NAMES>..."


def test_backend_choice(msb):
    result = msb("ls", env={"MSB_BACKEND": "foo"})
    assert result.err == "error: invalid config: MSB_BACKEND must be 'local' or 'cloud', got \"foo\"\n"
    assert result.code == 1
    assert msb("completion", "bash", env={"MSB_BACKEND": "foo"}).code == 0, "needs no backend"


def test_a_fresh_home_is_empty_not_an_error(msb):
    for command, notice in [("ls", "No sandboxes found.\n"), ("ps", "No running sandboxes.\n")]:
        result = msb(command)
        assert (result.code, result.out, result.err) == (0, "", notice)
        assert msb(command, "--format", "json").out == "[]\n"
        assert msb(command, "--format", "json", "-q").out == "[]\n", "JSON wins over -q"
        result = msb(command, "-q")
        assert (result.out, result.err) == ("", "")
    assert msb("ps", "-a").err == "No sandboxes found.\n"


def test_context(msb):
    assert msb("context").out == "FIELD      VALUE\nBackend    local\nSource     default\n"
    assert msb("ctx", "--format", "json").out == '{\n  "kind": "local",\n  "source": "default"\n}\n'
    assert "MSB_BACKEND" in msb("context", env={"MSB_BACKEND": "local"}).out


def test_help_version_and_tree(msb):
    assert msb("--version").out == "msb 0.6.18\n" == msb("-V").out
    for args in [[], ["-h"], ["--help"], ["help"], ["--info", "-h"]]:
        result = msb(*args)
        assert (result.code, result.err) == (0, "")
        assert "\nSandboxes:\n" in result.out and "\nOptions:\n" in result.out
    result = msb("self")
    assert (result.code, result.out) == (2, "") and "Usage: msb self" in result.err
    tree = msb("ls", "--tree", "--bogus").out
    assert tree.startswith("msb ls\n├── --running ") and tree.endswith("Only names\n\n")


def test_malformed_config_stops_commands_that_need_a_backend(msb, place):
    (place.home / "config.json").write_text("{")
    try:
        result = msb("ls")
        assert result.code == 1
        assert result.err.startswith(f"error: invalid config: failed to parse SDK config at {place.home}/config.json: ")
        result = msb("doctor", env={"MSB_ACCEL": "tcg"})
        assert result.code == 1 and "   ✗ config " in result.err
    finally:
        (place.home / "config.json").unlink()


def test_a_damaged_database_is_an_error_and_is_left_alone(msb, place):
    database = place.home / "db" / "msb.db"
    msb.ok("ls")
    saved = {path: path.read_bytes() for path in database.parent.iterdir()}
    for path in saved:
        path.unlink()
    database.write_bytes(b"this is no database" * 100)
    try:
        result = msb("ls")
        assert result.code == 1 and result.err.startswith("error: ") and "database" in result.err, result
        assert database.read_bytes().startswith(b"this is no database")
    finally:
        database.unlink()
        for path, content in saved.items():
            path.write_bytes(content)


def test_a_home_that_cannot_be_written(msb, place):
    blocked = place.directory / "file"
    blocked.write_text("")
    result = msb("ls", env={"MSB_HOME": str(blocked)})
    assert result.code == 1 and result.err.startswith("error: "), result
    blocked.unlink()


def test_a_home_whose_sockets_would_not_fit(msb, place):
    disk = place.disk("long.raw")
    home = place.directory / ("x" * 80)
    home.mkdir()
    result = msb("create", "./long.raw", "-n", "b", env={"MSB_HOME": str(home)})
    assert result.code == 1
    assert result.err.startswith("error: invalid config: sandbox runtime socket path is too long: "), result
    assert msb("ls", "-q", env={"MSB_HOME": str(home)}).out == ""
    disk.unlink()


def test_missing_parts_are_named(msb, place):
    disk = place.disk("parts.raw")
    for variable, word in [("MSB_QEMU", "engine"), ("MSB_KERNEL", "kernel"), ("MSB_INITRAMFS", "initramfs")]:
        result = msb("run", "./parts.raw", "-n", "parts", "--", "ls", env={variable: "/nonexistent/thing"})
        assert result.code == 1
        assert "/nonexistent/thing" in result.err and word in result.err, result
        msb("rm", "-f", "parts")
    disk.unlink()


def test_standard_output_that_is_closed(msb):
    read, write = os.pipe()
    os.close(read)
    process = msb.popen("--help", stdout=write, stderr=-1)
    os.close(write)
    _, err = process.communicate()
    assert process.returncode != 0 and b"terminate" not in err
