"""The two places the same cases run: a process of this machine and a VM."""

import os
import shutil
import socket
import subprocess
import tempfile

import images
import msbproto
import msbvm

HOST_BINARY = os.environ.get("MSB_AGENTD_HOST", os.path.join(msbvm.BUILD, "tests/agentd_host"))


class HostAgent:
    """`directory` holds the case files, `scratch` is empty and writable by everybody."""

    kind = "host"

    def __init__(self, *options):
        self.root = tempfile.mkdtemp(prefix="msb-agentd-")
        os.chmod(self.root, 0o755)
        self.directory = os.path.join(self.root, "t")
        self.scratch = os.path.join(self.root, "scratch")
        self.heartbeat = os.path.join(self.root, "heartbeat")
        for path in (self.scratch, self.heartbeat):
            os.mkdir(path)
        images.write_cases(self.directory)
        files = []
        for name, content in (("passwd", images.PASSWD), ("group", images.GROUP)):
            files.append(os.path.join(self.root, name))
            with open(files[-1], "w") as file:
                file.write(content)
        mine, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [HOST_BINARY, str(theirs.fileno()), *files, self.heartbeat, *options],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.client = msbproto.Client(mine)
        self.client.expect("core.ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.socket.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            shutil.rmtree(self.root)


class SharedVm:
    """The default-profile VM on a probed raw ext4 root that most cases share."""

    kind = "vm"
    directory = "/t"
    scratch = "/scratch"

    def __init__(self, store):
        self.root = store.copy(store.root_ext4())
        self.volume = store.copy(store.ext4("volume.ext4", size="16M"))
        self.archive = store.ext4("archive.ext4", size="8M")
        self.vm = msbvm.Vm(
            [
                msbvm.Disk(self.root),
                msbvm.Disk(self.archive, readonly=True, serial="archive_01"),
                msbvm.Disk(self.volume, serial="data_bd47413b"),
            ],
            cpus=1,
            max_cpus=2,
        )
        self.bootstrap = {
            "block_root": {"kind": "disk-image", "device": "/dev/vda"},
            "disk_mounts": [
                {"id": "data_bd47413b", "guest_path": "/data"},
                {
                    "id": "archive_01",
                    "guest_path": "/data/archive",
                    "fstype": "ext4",
                    "flags": {"readonly": True},
                },
            ],
            "tmpfs_mounts": [
                {"path": "/tmp", "size_mib": 16},
                {"path": "/scratch", "mode": 0o1777, "flags": {"nosuid": True, "noexec": True}},
            ],
            "hostname": "worker-01",
            "host_alias": "host.microsandbox.internal",
            "rlimits": [{"resource": "NOFILE", "soft": 2048, "hard": 4096}],
            "default_env": [{"key": "COLOR", "value": "blue"}, {"key": "COLOR", "value": "red"}],
            "security_profile": "default",
            "entropy": os.urandom(64),
            "runtime_files": [
                {"path": "scripts/hello", "mode": 0o755, "content": b"#!/bin/sh\necho hello $1\n"},
                {"path": "tls/ca.pem", "mode": 0o644, "content": b"-----TEST CA-----\n"},
            ],
        }

    def __enter__(self):
        self.vm.__enter__()
        self.ready = self.vm.boot(self.bootstrap)
        self.client = self.vm.agent
        return self

    def __exit__(self, *exception):
        """Also a test: a stop in the middle of writing leaves every disk clean."""
        try:
            writer = "while :; do echo x >> /data/log; echo x >> /root/log; done"
            self.client.start_exec("/bin/sh", "-c", f"echo started; {writer}")
            self.client.expect("core.exec.stdout")
            self.vm.shutdown()
            assert self.vm.process.returncode == 0
            images.assert_clean(self.root)
            images.assert_clean(self.volume)
        finally:
            self.vm.__exit__(*exception)
