"""Failures between the startup line and the machine: spec/sandbox-process.md sections 10, 11 and 18, checks 6, 7, 24."""

import os

import pytest


def failed_boot(home, program, expected_stage, expected_message, errno=None, vcpus=1, env=None, **changes):
    sandbox = home.sandbox("demo")
    sandbox.spawn(program, sandbox.config(**changes), vcpus=vcpus, env=env)
    assert sandbox.pid_line == f'{{"pid":{sandbox.pid}}}\n'
    assert sandbox.wait() == 1
    error = sandbox.boot_error()
    assert (error["stage"], error["errno"]) == (expected_stage, errno)
    assert error["message"] == expected_message if isinstance(expected_message, str) else expected_message(error["message"])
    assert list(error) == ["t", "stage", "errno", "message"]
    assert "sandbox error: " in sandbox.log("runtime.log")
    assert not os.path.exists(sandbox.socket_dir)
    assert not os.path.lexists(sandbox.agent_link)
    assert os.path.exists(sandbox.lock_path)
    return sandbox


def check_rows(sandbox):
    run = sandbox.run_row()
    assert (run["status"], run["termination_reason"], run["exit_code"]) == ("Terminated", "InternalError", None)
    assert run["terminated_at"] and run["pid"] == sandbox.pid
    assert sandbox.row()["status"] == "Starting", "the sandbox row is the launcher's"


@pytest.mark.parametrize("mount, stage, errno, message", [
    ("t:/tmp:ro,rw", "other", None, '--mount "t:/tmp:ro,rw": mount option `ro`/`rw` specified more than once'),
    ("data_1:/nonexistent", "mount", 2, "mount data_1: No such file or directory (os error 2)"),
    ("data_1:/etc/hostname", "mount", 20, "mount data_1: Not a directory (os error 20)"),
    ("data_1:/proc/self/cwd", "mount", 40, "mount data_1: Too many levels of symbolic links (os error 40)"),
    ("data_1:/tmp/../tmp", "mount", 22, "mount data_1: Invalid argument (os error 22)"),
])
def test_mounts(home, program, mount, stage, errno, message):
    check_rows(failed_boot(home, program, stage, message, errno, mounts=[mount]))


def test_shared_directories_are_refused_clearly(home, program):
    check_rows(failed_boot(home, program, "mount", lambda text: "not available in this version" in text, mounts=["t:/tmp"]))


def test_directory_root_is_refused_clearly(home, program):
    rootfs = {"path": "/usr", "disk_readonly": False}
    failed_boot(home, program, "image", lambda text: text.startswith("rootfs: ") and "not available" in text, rootfs=rootfs)


@pytest.mark.parametrize("rootfs, stage, errno, message", [
    ({"disk": "/nonexistent.raw", "disk_readonly": False}, "image", 2, "rootfs: No such file or directory (os error 2)"),
    ({"disk": "/dev/null", "disk_format": "floppy", "disk_readonly": False}, "image", None,
     "disk format: I/O error: unknown disk image format: floppy"),
    ({"path": "/nonexistent", "disk_readonly": False}, "image", 2, "rootfs: No such file or directory (os error 2)"),
])
def test_roots(home, program, rootfs, stage, errno, message):
    check_rows(failed_boot(home, program, stage, message, errno, rootfs=rootfs))


def test_image_that_is_not_what_it_claims(home, program):
    disk = f"{home.path}/fake.qcow2"
    with open(disk, "wb") as file:
        file.write(b"no image at all" * 1000)
    rootfs = {"disk": disk, "disk_format": "qcow2", "disk_readonly": False}
    failed_boot(home, program, "image", lambda text: text.startswith("rootfs: "), rootfs=rootfs)


def test_missing_extra_disk(home, program):
    failed_boot(home, program, "other", "disk d: host path not found: /nonexistent", disks=["d:/nonexistent:raw"])


def test_no_cpus(home, program):
    failed_boot(home, program, "build_vm", "build VM: configuration error: invalid vCPU count: 0", vcpus=0)


def test_missing_kernel(home, program):
    failed_boot(home, program, "build_vm", lambda text: text.startswith("build VM: ") and "/nonexistent" in text,
                env={"MSB_KERNEL": "/nonexistent"})


def test_missing_engine(home, program):
    failed_boot(home, program, "build_vm", lambda text: text.startswith("build VM: "), env={"MSB_QEMU": "/nonexistent"})


def test_engine_that_dies_at_once(home, program):
    # Not an emulator: prints something and ends.
    engine = f"{home.path}/engine"
    with open(engine, "w") as file:
        file.write('#!/bin/sh\n[ "$1" = --version ] && { echo "QEMU emulator version 7.2.0"; exit 0; }\n'
                   'echo "cannot set up guest memory" >&2\nexit 1\n')
    os.chmod(engine, 0o755)
    sandbox = home.sandbox("demo")
    sandbox.spawn(program, sandbox.config(), env={"MSB_QEMU": engine})
    assert sandbox.wait() == 1
    error = sandbox.boot_error()
    assert error["stage"] == "build_vm"
    assert error["message"].startswith(("VM enter: ", "build VM: "))
    assert sandbox.run_row()["status"] == "Terminated"
    assert not os.path.exists(sandbox.socket_dir)


def test_database_missing(home, program):
    failed_boot(home, program, "config", lambda text: text.startswith("insert run: ") and "no such table: run" in text,
                db_path=f"{home.path}/db/other.db")


def test_database_unreachable(home, program):
    failed_boot(home, program, "config", lambda text: text.startswith("database connect: "), db_path="/nonexistent/x.db")


def test_database_corrupt(home, program):
    bad = f"{home.path}/bad.db"
    with open(bad, "wb") as file:
        file.write(b"not a database" * 500)
    failed_boot(home, program, "config", lambda text: text.startswith(("insert run: ", "database connect: ")),
                db_path=bad)


def test_vsock_is_refused(home, program):
    failed_boot(home, program, "other", "host vsock routes are disabled for multi-tenant deployments",
                deployment_profile="multi_tenant", vsock=[{"host_socket": "/x", "port": 5}])


def test_foreign_file_at_the_legacy_link(home, program):
    sandbox = home.sandbox("demo")
    os.makedirs(os.path.dirname(sandbox.agent_link))
    with open(sandbox.agent_link, "w") as file:
        file.write("mine")
    sandbox.spawn(program, sandbox.config())
    assert sandbox.wait() == 1
    assert sandbox.boot_error()["message"] == f"io error: legacy runtime endpoint already exists at {sandbox.agent_link}"
    assert open(sandbox.agent_link).read() == "mine"
    assert not os.path.exists(sandbox.socket_dir)


def test_log_directory_that_cannot_be_made(home, program):
    sandbox = home.sandbox("demo")
    sandbox.spawn(program, sandbox.config(log_dir="/proc/nothing/logs"))
    assert sandbox.wait() == 1
    assert b"sandbox error: " in sandbox.stderr
    assert home.query("SELECT * FROM run") == []


def test_long_socket_path(home, program):
    path = f"{home.path}/" + "x" * 110
    failed_boot(home, program, "other", "io error: path must be shorter than SUN_LEN", agent_sock=path)


def test_stale_heartbeat_goes_and_boot_error_stays(home, program):
    sandbox = home.sandbox("demo")
    os.makedirs(sandbox.runtime_dir)
    os.makedirs(sandbox.log_dir)
    for name in ("heartbeat.json", "heartbeat.tmp"):
        open(f"{sandbox.runtime_dir}/{name}", "w").close()
    open(f"{sandbox.log_dir}/boot-error.json", "w").close()
    sandbox.spawn(program, sandbox.config(mounts=["x"]))
    assert sandbox.wait() == 1
    assert os.listdir(sandbox.runtime_dir) == ["scripts"]


def test_strict_placement_is_not_ignored(home, program):
    profile = {"numa": {"mode": "strict_single"}, "memory": {"mode": "inherit"}}
    failed_boot(home, program, "other", "managed NUMA placement requires auto, spread, or compact CPU placement",
                placement_profile_name="gold", placement_profile=profile)
