"""Whole lives of real machines: spec/sandbox-process.md sections 6 to 10, 12, 17 and 18; checks 5, 11 to 15, 20, 22."""

import json
import os
import signal
import socket
import struct

import msbproto
import pytest
from sandbox_launcher import handshake, wait_until


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def check_end(sandbox, reason, exit_code, status=0):
    assert sandbox.wait() == status
    run, row = sandbox.run_row(), sandbox.row()
    assert (run["status"], run["termination_reason"], run["exit_code"]) == ("Terminated", reason, exit_code)
    assert (row["status"], row["active_config"], row["network_slot"]) == ("Stopped", None, None)
    assert not os.path.exists(sandbox.socket_dir)
    assert not os.path.lexists(sandbox.agent_link) and not os.path.lexists(sandbox.control_link)
    assert os.path.exists(sandbox.lock_path)
    assert sandbox.exec_log()[-1]["d"] == "--- sandbox stopped ---\n"


def status_field(pid, name):
    with open(f"/proc/{pid}/status") as status:
        return next(line.split()[1] for line in status if line.startswith(name + ":"))


def test_a_whole_life(machine):
    sandbox, client = machine(max_vcpus=2, max_memory=768)
    assert sandbox.pid_line == f'{{"pid":{sandbox.pid}}}\n'
    assert (client.id_start, client.id_end) == (1, 33554431)
    assert client.ready.type == "core.ready" and client.ready.flags == 0

    result = client.shell("echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.code) == (b"out\n", b"err\n", 7)
    assert client.shell(r"printf '\377\376hi'").stdout == b"\xff\xfehi"
    log = sandbox.exec_log()
    assert (log[0]["s"], log[0]["d"]) == ("system", "--- sandbox started ---\n")
    assert {(line["s"], line["d"], line.get("id")) for line in log[1:]} == {
        ("stdout", "out\n", 1), ("stderr", "err\n", 1), ("stdout", "\ufffd\ufffdhi", 2)}

    # Confinement, and an engine that cannot outlive us.
    assert status_field(sandbox.pid, "Seccomp") == "2"
    assert status_field(sandbox.pid, "NoNewPrivs") == "1"
    assert int(status_field(sandbox.pid, "CapEff"), 16) & (1 << 21) == 0  # CAP_SYS_ADMIN
    assert sandbox.run_row()["status"] == "Running"

    # Control socket.
    ask = lambda **request: json.loads(sandbox.control(json.dumps(request).encode() + b"\n"))
    assert ask(op="capabilities") == {"ok": True, "capabilities": {"cpu_resize": True, "memory_resize": True,
                                                                   "secrets_update": False}}
    assert ask(op="memory_target", total_mib=99999)["memory"]["target_mib"] == 768
    assert ask(op="cpu_target", online=2)["cpu"]["requested_online"] == 2
    wait_until(lambda: ask(op="cpu_state")["cpu"]["actual_online"] == 2, 30, "the second processor")
    assert client.shell("cat /sys/devices/system/cpu/online").stdout == b"0-1\n"
    wait_until(lambda: ask(op="memory_state")["memory"]["current_mib"] == 768, 30, "the balloon to shrink")
    assert ask(op="cpu_target", online=1)["cpu"]["enforced"] == 1

    # Heartbeat file.
    beat = wait_until(lambda: os.path.exists(f"{sandbox.runtime_dir}/heartbeat.json")
                      and json.load(open(f"{sandbox.runtime_dir}/heartbeat.json")), 30, "a heartbeat")
    assert list(beat) == ["heartbeat_seq", "activity_seq", "timestamp", "last_activity", "active_exec_sessions",
                          "active_fs_streams", "active_tcp_streams", "activity_counters"]

    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)
    assert sandbox.stderr == b"", "everything goes to runtime.log"
    assert "guest ready" in sandbox.log("runtime.log")
    assert os.path.getsize(f"{sandbox.log_dir}/kernel.log") > 0


def test_drain_signal(machine):
    sandbox, _ = machine()
    sandbox.signal(signal.SIGUSR1)
    check_end(sandbox, "Completed", 0)


def test_shutdown_by_a_client_that_leaves_at_once(machine):
    sandbox, client = machine()
    client.send("core.shutdown", None, 0)
    client.socket.close()
    check_end(sandbox, "ShutdownRequested", 0)


def test_guest_that_powers_off(machine):
    sandbox, client = machine()
    client.start_exec("/bin/sh", "-c", "reboot -f")
    check_end(sandbox, "Completed", 0)


def test_frozen_guest_gets_the_flush_window_only(machine):
    sandbox, client = machine(env={"MSB_SHUTDOWN_FLUSH_TIMEOUT_MS": "500"})
    engine = sandbox.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    client.send("core.shutdown", None, 0)
    check_end(sandbox, "ShutdownRequested", 0)
    assert gone(engine)


def test_watchdog(machine):
    sandbox, client = machine()
    os.write(sandbox.watchdog, b"\x05\x00")
    assert client.ping()
    sandbox.close_watchdog()
    check_end(sandbox, "Signal", 0)


def test_watchdog_detach(machine):
    sandbox, client = machine(env={"MSB_SHUTDOWN_FLUSH_TIMEOUT_MS": "bogus"})
    os.write(sandbox.watchdog, b"\x05\x00\x01")
    sandbox.close_watchdog()
    assert client.shell("exit 3").code == 3
    assert "ignoring invalid MSB_SHUTDOWN_FLUSH_TIMEOUT_MS override" in sandbox.log("runtime.log")
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)


def test_idle_timeout_counts_no_running_session(machine):
    sandbox, client = machine(config={"lifecycle": {"idle_timeout_secs": 2, "max_duration_secs": None}})
    # Longer than the timeout: the session keeps the sandbox alive.
    assert client.shell("sleep 4; echo done").stdout == b"done\n"
    check_end(sandbox, "IdleTimeout", 0)


def test_max_duration(machine):
    sandbox, client = machine(config={"lifecycle": {"idle_timeout_secs": None, "max_duration_secs": 12}})
    client.start_exec("/bin/sleep", "1000")
    check_end(sandbox, "MaxDurationExceeded", 0)


def test_max_duration_zero_fires_at_once(machine):
    sandbox, _ = machine(connect=False, config={"lifecycle": {"idle_timeout_secs": None, "max_duration_secs": 0}})
    assert sandbox.wait() == 0
    assert sandbox.run_row()["termination_reason"] == "MaxDurationExceeded"


@pytest.mark.parametrize("script, reason", [("echo started", "Completed"), ("exit 3", "Failed")])
def test_startup_command(machine, script, reason):
    startup = {"cmd": "/bin/sh", "args": ["-c", script], "env": ["A=B"], "cwd": None, "user": None}
    sandbox, _ = machine(connect=False, config={"startup": startup})
    check_end(sandbox, reason, 0)
    if script.startswith("echo"):
        assert ("stdout", "started\n", 1) in [(line["s"], line["d"], line.get("id")) for line in sandbox.exec_log()]


def test_startup_command_that_cannot_start(machine):
    startup = {"cmd": "/nonexistent", "args": [], "env": []}
    sandbox, _ = machine(connect=False, config={"startup": startup})
    check_end(sandbox, "Failed", 0)


def test_sigkill_takes_the_engine_along(machine, home):
    sandbox, client = machine()
    engine = sandbox.engine_pid()
    sandbox.signal(signal.SIGKILL)
    assert sandbox.wait() == -signal.SIGKILL
    wait_until(lambda: gone(engine), 10, "the engine to die")
    assert sandbox.run_row()["status"] == "Running", "the next reader reconciles"
    wait_until(lambda: try_lock(sandbox), 10, "the lifecycle lock to be free")


def try_lock(sandbox):
    try:
        os.close(sandbox.lock())
        return True
    except BlockingIOError:
        return False


def test_sigint_is_a_plain_death(machine):
    sandbox, _ = machine()
    engine = sandbox.engine_pid()
    sandbox.signal(signal.SIGINT)
    assert sandbox.wait() == -signal.SIGINT
    wait_until(lambda: gone(engine), 10, "the engine to die")


def test_killed_engine(machine):
    sandbox, _ = machine()
    os.kill(sandbox.engine_pid(), signal.SIGKILL)
    check_end(sandbox, "Failed", 1, status=1)


def test_guest_panic(machine):
    sandbox, client = machine(memory=192)
    client.start_exec("/bin/sh", "-c", "echo 2 > /proc/sys/vm/panic_on_oom; tail /dev/zero")
    check_end(sandbox, "Failed", 1, status=1)
    assert "panic" in sandbox.log("kernel.log")


def test_root_that_is_no_file_system(home, program):
    disk = f"{home.path}/noise.raw"
    with open(disk, "wb") as file:
        file.write(os.urandom(1 << 20))
    sandbox = home.sandbox("demo")
    rootfs = {"disk": disk, "disk_format": "raw", "disk_readonly": False}
    sandbox.spawn(program, sandbox.config(rootfs=rootfs))
    assert sandbox.wait() == 1
    error = sandbox.boot_error()
    assert error["stage"] == "build_vm"
    assert error["message"].startswith("VM enter: the guest ended before its agent was ready: agentd: ")
    assert sandbox.run_row()["status"] == "Terminated"


def test_ephemeral_sandbox_leaves_nothing(machine, home):
    sandbox, client = machine(ephemeral=True)
    client.send("core.shutdown", None, 0)
    assert sandbox.wait() == 0
    assert sandbox.row() is None
    assert home.query("SELECT * FROM run") == []
    assert not os.path.exists(sandbox.directory) and not os.path.exists(sandbox.socket_dir)


def test_placed_machines_have_their_processors(machine, home):
    sandbox, client = machine(config={"cpu_placement": "auto"}, vcpus=2)
    wait_until(lambda: home.query("SELECT * FROM cpu_allocation")[0]["state"] == "active", 30, "the threads to be bound")
    [allocation] = home.query("SELECT * FROM cpu_allocation")
    rows = home.query("SELECT * FROM cpu_allocation_cpu ORDER BY vcpu_index")
    shared = len(os.sched_getaffinity(0)) < 2
    assert allocation["enforcement"] == f"thread-affinity-{'shared' if shared else 'exclusive'}"
    assert (allocation["requested_policy"], allocation["resolved_policy"]) == ("auto", "auto")
    assert [(row["vcpu_index"], row["role"]) for row in rows] == [(0, "assigned"), (1, "assigned")]
    lease = f"{home.path}/run/cpu-leases/{allocation['lease_name']}"
    assert os.stat(lease).st_mode & 0o777 == 0o600
    engine = sandbox.engine_pid()
    bound = [os.sched_getaffinity(int(thread)) for thread in os.listdir(f"/proc/{engine}/task")]
    for row in rows:
        assert {row["logical_cpu"]} in bound
    assert client.shell("nproc").stdout == b"2\n"
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)
    for table in ("cpu_allocation", "cpu_allocation_cpu", "memory_allocation_node"):
        assert home.query(f"SELECT * FROM {table}") == []
    assert not os.path.exists(lease)


def test_sweep_repairs_other_sandboxes(machine, home):
    dead, alive = home.sandbox("dead"), home.sandbox("left", ephemeral=True)
    import sqlite3
    with sqlite3.connect(f"{home.path}/db/msb.db") as database:
        database.execute("UPDATE sandbox SET status = 'Running' WHERE id = ?", (dead.id,))
        database.execute("UPDATE sandbox SET status = 'Stopped' WHERE id = ?", (alive.id,))
        database.execute("INSERT INTO run (sandbox_id, pid, status, started_at) VALUES (?, 2000000000, 'Running', ?)",
                         (dead.id, "2026-01-01 00:00:00"))
    os.makedirs(alive.directory)
    sandbox, _ = machine()
    wait_until(lambda: dead.row()["status"] == "Crashed", 30, "the crashed sandbox to be marked")
    wait_until(lambda: alive.row() is None and not os.path.exists(alive.directory), 30, "the leftover to go")
    assert dead.run_row()["termination_reason"] == "InternalError"
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)


def test_scripts_reach_the_guest(home, machine):
    directory = f"{home.path}/sandboxes/demo/runtime/scripts"
    os.makedirs(directory)
    with open(f"{directory}/greet", "w") as file:
        file.write("#!/bin/sh\necho hello $1\n")
    os.chmod(f"{directory}/greet", 0o755)
    os.symlink("/etc/shadow", f"{directory}/trap")
    sandbox, client = machine()
    assert client.exec("greet", "you").stdout == b"hello you\n"
    assert client.exec("/bin/ls", "/.msb/scripts").stdout == b"greet\n", "links are not followed out of the directory"
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)


def another_client(sandbox):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sandbox.agent_sock)
    return handshake(connection)


def test_garbage_clients_and_clients_that_die(machine):
    sandbox, client = machine()
    for garbage in (b"\xff" * 4096, b"\x00" * 4096, os.urandom(4096), b"GET / HTTP/1.1\r\n\r\n"):
        bad = another_client(sandbox)
        bad.socket.sendall(garbage)
        bad.wait_closed()
    # A client killed in the middle of an exec: its processes die with it.
    victim = another_client(sandbox)
    victim.start_exec("/bin/sleep", "4242")
    victim.receive(lambda message: message.type == "core.exec.started")
    victim.socket.close()
    wait_until(lambda: b"4242" not in client.shell("ps").stdout.replace(b"sh -c", b""), 30, "the orphan to die")
    assert client.shell("exit 5").code == 5
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)


def test_client_that_does_not_read_stalls_nobody(machine):
    """The agent is asked to stop the producer: what waits stays in the guest, bounded, and comes when it is read."""
    sandbox, client = machine()
    slow = another_client(sandbox)
    id = slow.start_exec("/bin/sh", "-c", "exec yes")  # it never ends: nothing but flow control stops it
    slow.receive(lambda message: message.type == "core.exec.started")
    path = f"{sandbox.runtime_dir}/heartbeat.json"
    produced = lambda: json.load(open(path))["activity_counters"]["exec_output_bytes"]

    def stopped():
        """True when the output has not grown for three heartbeats."""
        before, first = produced(), json.load(open(path))["heartbeat_seq"]
        wait_until(lambda: json.load(open(path))["heartbeat_seq"] >= first + 3, 60, "heartbeats")
        return produced() == before

    wait_until(lambda: os.path.exists(path) and produced() > 1 << 20, 60, "a backlog")
    wait_until(stopped, 120, "the producer to be stopped")
    for _ in range(5):
        assert client.ping(timeout=30)
        assert client.shell("exit 4").code == 4
    # It reads after all: nothing is missing, and the producer goes on.
    goal, received = produced() + (1 << 20), bytearray()
    while len(received) < goal:
        received += slow.expect("core.exec.stdout", id).payload["data"]
    assert received == (b"y\n" * (len(received) // 2 + 1))[: len(received)]
    slow.send("core.exec.signal", {"signal": 9}, id)
    assert slow.collect_exec(id).code == -1
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)


def test_descriptors_of_the_launcher_stay_open(machine, home):
    """A disk lock that the launcher left inheritable lives as long as the sandbox process."""
    import fcntl
    path = f"{home.path}/image.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.dup2(fd, 55)
    os.close(fd)
    sandbox = home.sandbox("demo")
    try:
        import conftest
        import subprocess
        original = subprocess.Popen
        subprocess.Popen = lambda *args, pass_fds=(), **options: original(*args, pass_fds=[*pass_fds, 55], **options)
        sandbox.spawn(conftest.PROGRAM, sandbox.config())
    finally:
        subprocess.Popen = original
        os.close(55)
    sandbox.connect()
    other = os.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    sandbox.signal(signal.SIGTERM)
    assert sandbox.wait() == 0
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


# --- metrics slot -------------------------------------------------------------------------------------------------------


class Registry:
    """One reserved slot of a metrics registry, as a launcher makes it (spec/metrics.md section 3)."""

    def __init__(self, generation=77):
        self.name = f"/msb-test-{os.getpid()}"
        self.path = f"/dev/shm{self.name}"
        header = b"MSBMET01" + struct.pack("<IIIIII", 3, 256, 512, 1, 2, 0) + struct.pack("<qQ", 0, generation)
        slot = struct.pack("<IIQQiiiI", 1, 0, generation, 2, 1, 0, 0, 0)
        with open(self.path, "wb") as file:
            file.write(header.ljust(256, b"\0") + slot.ljust(512, b"\0"))

    def read(self):
        with open(self.path, "rb") as file:
            slot = file.read()[256:]
        names = ("state", "_", "generation", "sequence", "sandbox", "run", "pid", "_", "started", "sampled", "flags")
        return dict(zip(names, struct.unpack_from("<IIQQiiiIqqI", slot)), resident=struct.unpack_from("<Q", slot, 0x68)[0])


@pytest.fixture
def registry():
    registry = Registry()
    yield registry
    os.unlink(registry.path)


def metrics(registry, generation=77):
    return {"metrics": {"sample_interval_ms": 100, "disabled": False,
                        "slot": {"shm_name": registry.name, "slot": 0, "generation": generation}}}


def test_metrics_slot_is_activated_sampled_and_retired(machine, registry):
    sandbox, client = machine(config=metrics(registry))
    slot = wait_until(lambda: registry.read()["flags"] & 9 == 9 and registry.read(), 30, "a sample with CPU time")
    assert (slot["state"], slot["generation"]) == (2, 77)
    assert (slot["pid"], slot["run"]) == (sandbox.pid, sandbox.run_row()["id"])
    assert slot["resident"] > 10 << 20
    sandbox.signal(signal.SIGTERM)
    check_end(sandbox, "Completed", 0)
    assert (registry.read()["state"], registry.read()["generation"]) == (3, 78)


def test_metrics_slot_of_a_failed_boot_is_free(home, program, registry):
    sandbox = home.sandbox("demo")
    sandbox.spawn(program, sandbox.config(mounts=["x"], **metrics(registry)))
    assert sandbox.wait() == 1
    assert registry.read()["state"] == 0


def test_metrics_slot_of_another_generation_is_left_alone(machine, registry):
    sandbox, client = machine(config=metrics(registry, generation=5))
    assert client.ping()
    assert (registry.read()["state"], registry.read()["generation"]) == (1, 77)
    assert "generation mismatch: expected 5, observed 77" in sandbox.log("runtime.log")
