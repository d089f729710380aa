"""`msb doctor` (spec/cli.md section 10.2). Fixes are tried with programs of our own in PATH."""

import os
import shutil


def fake_path(place, **programs):
    """A PATH with only the given shell scripts."""
    directory = place.work / "bin"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for name, body in programs.items():
        path = directory / name.replace("_", "-")
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
    return str(directory)


def test_a_ready_host(msb):
    result = msb("doctor", env={"MSB_ACCEL": "tcg"})
    assert (result.code, result.out) == (0, ""), result
    lines = result.err.splitlines()
    assert lines[0] == f"info Platform: Linux {os.uname().machine}"
    assert lines[1] == "info Version: v0.6.18"
    assert lines[2] == f"info MSB_HOME: {msb.home}"
    assert f"   ✓ msb          {msb.binary}" in lines
    for label in ("kernel", "initramfs", "engine"):
        assert any(line.startswith(f"   ✓ {label:12} /") for line in lines), label
    for label in ("CPU virt", "KVM device", "KVM access"):
        assert any(line[5:17].strip() == label for line in lines), label
    assert any(line.startswith("   ! accelerator  tcg") for line in lines)
    assert "warn: sandboxes run under software emulation (TCG)" in lines, "said in plain words"
    assert lines[-1] == "done Host setup is ready."
    assert msb("self", "check", env={"MSB_ACCEL": "tcg"}).code == 0


def test_a_missing_engine_and_its_fix(msb, place):
    engine = shutil.which("qemu-system-x86_64")
    path = fake_path(place, sudo='exec "$@"\n', apt_get=f'echo "apt-get $*" > {place.work}/asked\n'
                                    f'/bin/ln -s {engine} {place.work}/bin/qemu-system-x86_64\n')
    env = {"PATH": path, "MSB_ACCEL": "tcg"}
    result = msb("doctor", env=env)
    assert result.code == 1
    assert "error: the machine cannot be started\n" in result.err
    assert "  → fix: install QEMU\n" in result.err and "apt-get install -y qemu-system-x86\n" in result.err
    assert "  → apply automatically: msb doctor --fix\n" in result.err

    result = msb("doctor", "--fix", env=env)
    assert result.code == 1
    assert result.err.endswith("error: non-interactive terminal; pass --yes to apply fixes\n")
    assert not (place.work / "asked").exists(), "nothing is done unasked"

    result = msb("doctor", "--fix", "-y", env=env)
    assert result.code == 0, result
    assert (place.work / "asked").read_text() == "apt-get install -y qemu-system-x86\n"
    assert result.err.endswith("done Host setup is ready.\n"), "it looks again"


def test_problems_nobody_can_fix(msb, place):
    result = msb("doctor", "--fix", env={"MSB_KERNEL": "/nonexistent", "MSB_ACCEL": "tcg"})
    assert result.code == 1
    assert "/nonexistent" in result.err
    assert "warn: no automatic fixes are available for the problems above.\n" in result.err
