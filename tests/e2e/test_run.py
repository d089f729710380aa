"""`msb run`: streams, exit codes, disk formats, names (spec/cli.md sections 1.4 and 4)."""

import re
import subprocess

import pytest

ACCEPTANCE = ["/bin/sh", "-c", "uname -r; echo out; echo err >&2; exit 7"]


def check_acceptance(result):
    lines = result.out.splitlines()
    assert len(lines) == 2 and lines[0].startswith("6.12.") and lines[1] == "out", result
    assert result.err == "err\n", result
    assert result.code == 7, result


def test_raw_disk_prints_each_stream_on_its_own_and_keeps_the_exit_code(msb, disk):
    check_acceptance(msb("run", f"./{disk.name}", "--", *ACCEPTANCE))
    assert msb.names() == [], "an unnamed run leaves nothing"
    assert list((msb.home / "sandboxes").iterdir()) == []


@pytest.mark.parametrize("format", ["qcow2", "vmdk"])
def test_other_disk_formats(msb, disk, format):
    image = disk.with_suffix(f".{format}")
    subprocess.run(["qemu-img", "convert", "-O", format, disk, image], check=True, capture_output=True)
    check_acceptance(msb("run", f"./{image.name}", "--", *ACCEPTANCE))


def test_spawn_failures_and_signals_have_their_codes(msb, box):
    result = msb("run", "-n", box, "--", "nosuch-program")
    assert result.code == 127
    assert result.err.startswith('error: failed to exec "nosuch-program"\n  → not found: '), result
    assert "(ENOENT)\n  → is `nosuch-program` on PATH inside the sandbox?" in result.err
    result = msb("run", "-n", box, "--", "/etc/passwd")
    assert result.code == 126
    assert "  → permission denied: " in result.err
    assert msb("run", "-n", box, "--", "sh", "-c", "kill -9 $$").code == 255
    assert msb("run", "-n", box, "--", "sh", "-c", "exit 300").code == 300 & 0xff


def test_reuse_warns_about_ignored_flags_and_keeps_a_running_sandbox_running(msb, box):
    result = msb("run", "-n", box, "-m", "1G", "-e", "X=1", "--", "sh", "-c", "echo $FROM_CONFIG$X")
    assert result.out == "yes\n"
    assert result.err == f"warn: sandbox '{box}' already exists; creation flags ignored (use --replace to recreate)\n"
    assert msb("ps", "-q").out == f"{box}\n"
    result = msb("run", "-n", box, "-d", "--", "ls")
    assert result.out == f"{box}\n"
    assert result.err == (f"warn: command after -- is not applied when reusing existing sandbox '{box}' in --detach mode "
                          f"(use `msb exec {box} -- ...`)\n")


def test_create_on_a_taken_name_fails(msb, box):
    result = msb("create", "./box.raw", "-n", box)
    assert result.code == 1
    assert result.err == (f"error: sandbox already exists: sandbox '{box}' already exists; remove it, start the stopped "
                          "sandbox, or recreate with .replace()\n")


def test_named_run_persists_stopped_and_is_started_again(msb, disk):
    assert msb("run", f"./{disk.name}", "-n", "keep", "--", "sh", "-c", "echo 1 > /root/mark").code == 0
    assert msb("ps", "keep").out.split("\n")[1].split()[-2] == "stopped"
    result = msb("run", "-n", "keep", "--", "cat", "/root/mark")
    assert result.out == "1\n" and result.code == 0, result
    assert '"status": "Stopped"' in msb("ps", "keep", "--format", "json").out
    replaced = msb("run", f"./{disk.name}", "-n", "keep", "--replace", "-m", "256", "--", "sh", "-c",
                   "grep MemTotal /proc/meminfo")
    assert int(replaced.out.split()[1]) < 256 * 1024, replaced
    msb.ok("rm", "keep")


def test_detached_run_prints_its_name_and_ends_with_its_command(msb, disk, place):
    result = msb.ok("run", "-d", f"./{disk.name}", "--", "sh", "-c", "echo started; cat /root/nosuch; read x < /dev/zero")
    assert re.fullmatch(r"msb-[0-9a-f]{8}\n", result.out), result
    name = result.out.strip()
    assert name in msb.names()
    msb.ok("rm", "-f", name)
    assert name not in msb.names()


def test_create_prints_only_a_generated_name(msb, disk):
    result = msb.ok("create", "-q", f"./{disk.name}")
    assert re.fullmatch(r"msb-[0-9a-f]{8}\n", result.out) and result.err == ""
    msb.ok("rm", "-f", result.out.strip())


def test_no_command_and_no_terminal_is_a_warning(msb, box):
    result = msb("run", "-n", box)
    assert (result.code, result.out) == (0, "")
    assert result.err == "warn: no command provided and stdin is not a terminal\n"


def test_entrypoint_comes_before_the_command(msb, disk):
    result = msb("run", f"./{disk.name}", "--entrypoint", "/bin/echo", "--", "a", "b")
    assert (result.code, result.out) == (0, "a b\n"), result


def test_mounts_scripts_limits_and_identity_reach_the_guest(msb, disk, place):
    extra = place.work / "extra.raw"
    subprocess.run(["truncate", "-s", "8M", extra], check=True)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", extra], check=True)
    result = msb("run", f"./{disk.name}", "--mount-disk", "./extra.raw:/extra:ro", "--tmpfs", "/scratch:16M:noexec",
                 "--script", "hello=echo script $1", "-H", "guest-host", "-w", "/scratch", "-c", "2",
                 "--rlimit", "nofile=77", "--", "sh", "-c",
                 "hostname; pwd; grep -c ^processor /proc/cpuinfo; ulimit -n; hello world; "
                 "grep -E ' /(extra|scratch) ' /proc/mounts | cut -d' ' -f2,4")
    lines = result.out.splitlines()
    assert lines[:5] == ["guest-host", "/scratch", "2", "77", "script world"], result
    assert any(line.startswith("/extra ro") for line in lines[5:]), result
    assert any(line.startswith("/scratch rw") and "noexec" in line and "size=16384k" in line for line in lines[5:]), result
    extra.unlink()


def test_timeout_kills_the_command_and_the_sandbox_still_stops(msb, disk):
    result = msb("run", f"./{disk.name}", "--timeout", "2s", "--", "sleep", "1000")
    assert result.code == 1
    assert result.err == "error: exec timed out after 2s\n"
    assert not [name for name in msb.names() if name.startswith("msb-")]


def test_bad_command_limits_show_only_after_boot_and_the_sandbox_stops(msb, disk):
    result = msb("run", f"./{disk.name}", "-n", "late", "--rlimit", "nofile=2:1", "--", "ls")
    assert (result.code, result.err) == (1, "error: soft limit cannot exceed hard limit\n")
    assert '"status": "Stopped"' in msb("ps", "late", "--format", "json").out
    msb.ok("rm", "late")


def test_a_client_that_is_killed_takes_its_sandbox_along(msb, disk):
    client = msb.popen("run", f"./{disk.name}", "-n", "orphan", "--", "sleep", "1000", stdin=subprocess.DEVNULL)
    from msbcli import wait_until
    wait_until(lambda: "orphan" in msb("ps", "-q").out.split(), what="the sandbox to run")
    client.kill()
    client.wait()
    wait_until(lambda: "orphan" not in msb("ps", "-q").out.split(), what="the sandbox to end")
    msb.ok("rm", "orphan")


@pytest.mark.parametrize("content", ["empty", "garbage"])
def test_a_disk_without_a_file_system_is_a_boot_failure(msb, place, content):
    path = place.work / "bad.raw"
    path.write_bytes(b"\0" * (1 << 20) if content == "empty" else b"garbage!" * (1 << 17))
    result = msb("run", "./bad.raw", "-n", "bad", "--", "ls")
    assert result.code == 1
    lines = result.err.splitlines()
    assert lines[0] == 'error: failed to start "bad"', result
    assert lines[-1] == "  → run `msb logs --source system bad` for full diagnostics"
    assert msb("ps", "-a", "-q").out.split() == ["bad"] or "bad" in msb("ps", "-a", "-q").out.split()
    logs = msb("logs", "bad")
    assert logs.err.startswith('error: failed to start "bad"\n'), logs
    msb.ok("rm", "bad")
    path.unlink()


@pytest.mark.parametrize("fault, text", [("disk", "agentd: "), ("initramfs", "Kernel panic"), ("kernel", "kernel")])
def test_an_unnamed_run_whose_guest_does_not_come_up_says_why(msb, place, disk, fault, text):
    garbage = place.work / "garbage.raw"
    garbage.write_bytes(b"garbage!" * (1 << 17))
    env = {} if fault == "disk" else {f"MSB_{fault.upper()}": str(garbage)}
    result = msb("run", "./garbage.raw" if fault == "disk" else f"./{disk.name}", "--", "ls", env=env)
    assert result.code == 1
    lines = result.err.splitlines()
    name = re.fullmatch(r'error: failed to start "(msb-[0-9a-f]{8})"', lines[0])[1]
    assert lines[1].startswith("  → build_vm: ") and text in lines[1], result
    # What the last line names is there, until the sweep of a later start takes it.
    assert lines[-1] == f"  → run `msb logs --source system {name}` for full diagnostics"
    assert msb("logs", "--source", "system", name).err.startswith(lines[0]), result
    assert name not in msb("ps", "-q").out.split(), "it does not run"
    msb.ok("rm", name)
    garbage.unlink()
