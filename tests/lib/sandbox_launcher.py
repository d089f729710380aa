"""Starts `msb sandbox` the way an upstream launcher does: launch document on descriptor 96, watchdog pipe 97, startup
pipe 98, lifecycle lock 99 (spec/sandbox-process.md sections 2, 3 and 6).

    home = Home(seed_program)                    a temporary MSB_HOME of fewer than 55 bytes with a database
    sandbox = home.sandbox("demo")               a row in status Starting and the paths that belong to it
    sandbox.spawn(program, config changes...)    the process; sandbox.pid_line is its startup line
    client = sandbox.connect()                   msbproto.Client after a handshake, waiting for the guest
    home.close()                                 kills what still runs (by pid), waits for what follows it (the engine),
                                                 and removes the directory
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import time

import msbproto

READY_TIMEOUT = 180


def wait_until(condition, timeout=60, what="condition"):
    """Polls; for states another process reaches without telling us."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out waiting for {what}")
        time.sleep(0.02)


def processes_holding(path):
    """Processes with the path in their command line: nothing may be left behind."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read()
            except OSError:
                continue  # it ended while we looked
            if path.encode() in words:
                found.append(int(entry))
    return found


class Home:
    def __init__(self, seed_program):
        self.path = tempfile.mkdtemp(prefix="msbrt-", dir="/tmp")
        self.seed_program = seed_program
        self.sandboxes = []

    def sandbox(self, name, ephemeral=False):
        words = [self.seed_program, self.path, name] + (["ephemeral"] if ephemeral else [])
        id = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        sandbox = Sandbox(self, name, id)
        self.sandboxes.append(sandbox)
        return sandbox

    def query(self, sql, *values):
        with sqlite3.connect(f"{self.path}/db/msb.db", timeout=30) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql, values).fetchall()]

    def close(self):
        for sandbox in self.sandboxes:
            sandbox.destroy()
        # Only then: a process that is still about may write into a directory that is being removed.
        wait_until(lambda: not processes_holding(self.path), 60, "leftover processes to go")
        shutil.rmtree(self.path)


class Sandbox:
    def __init__(self, home, name, id):
        self.home, self.name, self.id = home, name, id
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.run_dir = f"{home.path}/run"
        self.directory = f"{home.path}/sandboxes/{name}"
        self.log_dir = f"{self.directory}/logs"
        self.runtime_dir = f"{self.directory}/runtime"
        self.socket_dir = f"{self.run_dir}/sandboxes/{digest[:24]}"
        self.agent_sock = f"{self.socket_dir}/agent.sock"
        self.control_sock = f"{self.socket_dir}/control.sock"
        self.agent_link = f"{self.run_dir}/agent/{digest[:32]}.sock"
        self.control_link = f"{self.run_dir}/agent/{digest[:32]}.control.sock"
        self.lock_path = f"{self.run_dir}/locks/{digest[:32]}.lock"
        self.process = None
        self.watchdog = None
        self.status = None
        self.stderr = None

    def config(self, **changes):
        config = {
            "db_path": f"{self.home.path}/db/msb.db", "db_connect_timeout_secs": 30,
            "log_dir": self.log_dir, "runtime_dir": self.runtime_dir,
            "sandboxes_dir": f"{self.home.path}/sandboxes", "run_dir": self.run_dir,
            "cpu_lease_dir": f"{self.run_dir}/cpu-leases",
            "writeback_lease_dir": f"{self.run_dir}/writeback-leases",
            "cpu_placement": "inherit", "agent_sock": self.agent_sock, "libkrunfw_path": "/nonexistent",
            "thp": "madvise", "block_writeback_limit_bytes": None, "block_writeback_pool_bytes": None,
            "startup": None, "lifecycle": {"max_duration_secs": None, "idle_timeout_secs": None},
            "metrics": {"sample_interval_ms": 1000, "disabled": True},
            "rootfs": {"path": None, "follow_root_symlinks": False, "disk": None, "disk_format": None,
                       "disk_readonly": False, "upper": None},
            "mounts": [], "file_mounts": [], "disks": [], "init_path": None,
            "bootstrap": {"hostname": self.name, "security_profile": "default"},
            "exec_path": None, "exec_args": [],
            "network": {"config": {"enabled": False}, "outbound_proxy": None},
            "deployment_profile": "single_tenant", "sandbox_slot": 1, "vsock": [],
        }
        config.update(changes)
        return config

    def lock(self):
        os.makedirs(os.path.dirname(self.lock_path), exist_ok=True)
        fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def spawn(self, program, config=None, vcpus=1, memory=512, max_vcpus=None, max_memory=None, env=None,
              watchdog=True, extra=(), wait_line=True, document=None, stderr=subprocess.PIPE):
        """Attached form of section 2: watchdog, startup line on descriptor 98."""
        document = json.dumps(config or self.config()).encode() if document is None else document
        config_file = tempfile.TemporaryFile()
        config_file.write(document)
        config_file.seek(0)
        lock = self.lock()
        startup_read, startup_write = os.pipe()
        watch_read, watch_write = os.pipe()
        words = [program, "sandbox", "--debug", "--name", self.name, "--sandbox-id", str(self.id)]
        fds = [(config_file.fileno(), 96), (startup_write, 98), (lock, 99)]
        if watchdog:
            words += ["--parent-watch-fd", "97"]
            fds.append((watch_read, 97))
        words += ["--startup-fd", "98", "--vcpus", str(vcpus), "--memory-mib", str(memory)]
        if max_vcpus:
            words += ["--max-vcpus", str(max_vcpus)]
        if max_memory:
            words += ["--max-memory-mib", str(max_memory)]
        words += ["--config-fd", "96", "--lifecycle-lock-fd", "99", *extra]

        numbers = [number for _, number in fds]
        for source, number in fds:
            os.dup2(source, number)
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, pass_fds=numbers,
            env={**os.environ, **(env or {})})
        for fd in (startup_write, watch_read, lock, *numbers):
            os.close(fd)
        config_file.close()
        self.watchdog = watch_write
        self.startup = os.fdopen(startup_read)
        self.pid_line = self.startup.readline() if wait_line else None
        return self

    @property
    def pid(self):
        return self.process.pid

    def wait(self, timeout=60):
        """The exit status: negative for a signal."""
        _, self.stderr = self.process.communicate(timeout=timeout)
        return self.process.returncode

    def signal(self, number):
        os.kill(self.process.pid, number)

    def engine_pid(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            return int(children.read().split()[0])

    def connect(self, timeout=READY_TIMEOUT):
        """A client whose handshake is done. Raises when the process ends instead."""
        deadline = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"sandbox exited {self.process.returncode} before its relay was ready")
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self.agent_sock)
                return handshake(connection, min(10, max(1, deadline - time.monotonic())))
            except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError, TimeoutError, EOFError):
                connection.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def control(self, request):
        """One exchange on the control socket; bytes in, bytes out."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(self.control_sock)
            connection.sendall(request)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer

    def run_row(self):
        return self.home.query("SELECT * FROM run WHERE sandbox_id = ? ORDER BY id DESC", self.id)[0]

    def row(self):
        rows = self.home.query("SELECT * FROM sandbox WHERE id = ?", self.id)
        return rows[0] if rows else None

    def boot_error(self):
        with open(f"{self.log_dir}/boot-error.json") as file:
            return json.load(file)

    def log(self, name):
        with open(f"{self.log_dir}/{name}", encoding="utf-8", errors="replace") as file:
            return file.read()

    def exec_log(self):
        return [json.loads(line) for line in self.log("exec.log").splitlines()]

    def close_watchdog(self):
        os.close(self.watchdog)
        self.watchdog = None

    def destroy(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
        if self.watchdog is not None:
            self.close_watchdog()
        if self.process:
            self.startup.close()


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError("end of stream")
        data += part
    return data


def handshake(connection, timeout=10):
    """Reads the range and core.ready; the client allocates ids from its range."""
    connection.settimeout(timeout)
    start, end = struct.unpack(">II", read_exactly(connection, 8))
    (length,) = struct.unpack(">I", read_exactly(connection, 4))
    frames = msbproto.FrameBuffer()
    frames.feed(struct.pack(">I", length) + read_exactly(connection, length))
    connection.settimeout(None)
    client = msbproto.Client(connection, first_id=start)
    client.id_start, client.id_end = start, end
    client.ready = frames.next()
    return client
