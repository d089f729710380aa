"""What only a booted guest can show: spec/guest-agent.md sections 2 to 7 and 15."""

import os
import subprocess

import images
import msbproto
import msbvm
import pytest

pytestmark = pytest.mark.vm

MINIMAL = "000000380000000000a361760761746e636f72652e626f6f7473747261706170581aa17073656375726974795f70726f66696c656764656661756c74"
RESOLVED_ROOT = "0000003b0000000000a3617607617472636f72652e696e69742e7265736f6c76656461705819a16c64656661756c745f75736572a263756964006367696400"
RESOLVED_ALICE = "0000003f0000000000a3617607617472636f72652e696e69742e7265736f6c7665646170581da16c64656661756c745f75736572a2637569641903e8636769641903e8"
ACK = "0000001d0000000000a361760761746d636f72652e696e69742e61636b617041a0"
SHUTDOWN = "0000001d0000000004a361760761746d636f72652e73687574646f776e617041f6"


def mounts(agent):
    """{path: (source, type, options)} in the order of /proc/mounts, the first mount of a path."""
    table = {}
    for line in agent.shell("cat /proc/mounts").stdout.decode().splitlines():
        source, path, type, options = line.split()[:4]
        table.setdefault(path, (source, type, options))
    return table


# --- the shared VM: raw ext4 root, probed ---------------------------------------------------------------


@pytest.fixture(scope="session")
def shared(target):
    if target.kind != "vm":
        pytest.fail("needs the VM")
    return target


@pytest.fixture
def guest(shared):
    shared.client.ping()
    return shared.client


vm_only = pytest.mark.parametrize("target", ["vm"], indirect=True)


@vm_only
def test_ready(shared):
    ready = shared.ready
    assert ready["agent_version"] == "0.6.18"
    assert 0 < ready["boot_time_ns"] < ready["ready_time_ns"] and 0 < ready["init_time_ns"]
    assert shared.vm.resolved.raw.hex() == RESOLVED_ROOT
    assert (shared.vm.ready.id, shared.vm.ready.flags, shared.vm.ready.generation) == (0, 0, 7)


@vm_only
def test_mounts(guest):
    table = mounts(guest)
    order = ["/", "/.msb", "/dev", "/proc", "/sys", "/sys/fs/cgroup", "/dev/pts", "/dev/shm"]
    assert list(table)[: len(order)] == order
    assert table["/"][:2] == ("/dev/vda", "ext4")
    assert table["/proc"][2] == "rw,nosuid,nodev,noexec,relatime"
    assert table["/dev/pts"][2] == "rw,nosuid,noexec,relatime,mode=600,ptmxmode=000"
    assert table["/tmp"] == ("tmpfs", "tmpfs", "rw,relatime,size=16384k")
    assert table["/scratch"] == ("tmpfs", "tmpfs", "rw,nosuid,noexec,relatime")
    assert table["/data"][:2] == ("/dev/vdc", "ext4")
    source, type, options = table["/data/archive"]
    assert (source, type) == ("/dev/vdb", "ext4") and options.startswith("ro,relatime,norecovery")
    modes = guest.shell("stat -c %a /tmp /var/tmp /run/microsandbox; readlink /dev/fd").stdout
    assert modes == b"1777\n1777\n755\n/proc/self/fd\n"


@vm_only
def test_identity(guest):
    hosts = (
        "127.0.0.1\tlocalhost worker-01\n::1\tlocalhost ip6-localhost ip6-loopback worker-01\n"
        "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
    assert guest.shell("cat /etc/hosts").stdout.decode() == hosts
    assert guest.shell("hostname; cat /etc/hostname").stdout == b"worker-01\nworker-01\n"
    addresses = guest.shell("ip -o addr show lo").stdout
    assert b"127.0.0.1/8" in addresses and b"::1/128" in addresses
    assert guest.shell("ping -c1 -W5 127.0.0.1 >/dev/null && echo up").stdout == b"up\n"


@vm_only
def test_default_environment_and_limits(guest):
    env = guest.shell("echo $COLOR $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS").stdout.split()
    assert env == [b"red", b"/etc/ssl/certs/ca-certificates.crt", b"/.msb/tls/ca.pem"]
    assert guest.shell("ulimit -Sn; ulimit -Hn").stdout == b"2048\n4096\n"


@vm_only
def test_runtime_files_and_scripts(guest):
    assert guest.exec("hello", "you").stdout == b"hello you\n"
    profile = guest.shell("cat /etc/profile").stdout.decode()
    assert profile.count("# >>> microsandbox scripts path >>>") == 1
    assert guest.shell("PATH=/x; . /etc/profile; echo $PATH").stdout == b"/.msb/scripts:/x\n"
    bundle = guest.shell("cat /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/microsandbox-ca.crt")
    assert bundle.stdout == b"-----TEST CA-----\n" * 2


@vm_only
def test_clock_sync(guest):
    guest.send("core.clock.sync", {"unix_time_nanos": 2_000_000_000 * 10**9})
    assert abs(int(guest.shell("date +%s").stdout) - 2_000_000_000) < 60
    now = guest.shell("date +%s").stdout
    guest.send("core.clock.sync", {"unix_time_nanos": 1_795_000_000 * 10**9})
    assert abs(int(guest.shell("date +%s").stdout) - 1_795_000_000) < 60, now


@vm_only
def test_heartbeat(shared, guest):
    runtime = shared.vm.runtime
    id = guest.start_exec("/bin/cat")
    guest.expect("core.exec.started", id)
    previous = None
    while True:
        beat = runtime.expect("runtime.heartbeat").payload
        assert previous is None or beat["heartbeat_seq"] == previous["heartbeat_seq"] + 1
        previous = beat
        if beat["active_exec_sessions"] == 1:
            break
    assert beat["activity_counters"]["host_messages"] > 0 and beat["activity_seq"] > 0
    guest.send("core.exec.stdin", {"data": b""}, id)
    guest.collect_exec(id)
    while runtime.expect("runtime.heartbeat").payload["active_exec_sessions"] != 0:
        pass


@vm_only
def test_cpus_online_and_offline(shared, guest):
    runtime = shared.vm.runtime

    def request(count):
        runtime.send("runtime.cpu.target", {"online": count})
        return runtime.expect("runtime.cpu.state").payload["online"], int(guest.shell("nproc").stdout)

    assert guest.shell("nproc").stdout == b"1\n"
    assert request(2) == (2, 2)
    assert request(2) == (2, 2)
    assert request(1) == (1, 1)
    assert request(99) == (2, 2)
    assert request(0) == (1, 1)


@vm_only
def test_flow_pauses_one_client_only(shared, guest):
    """runtime.flow: docs/guest-agent.md."""
    runtime = shared.vm.runtime
    start = 3 * msbproto.ID_RANGE_STEP + 1
    client = {"id_start": start, "id_end_exclusive": start + msbproto.ID_RANGE_STEP - 1}

    def flow(paused):
        runtime.send("runtime.flow", {**client, "paused": paused})
        runtime.send("runtime.cpu.target", {"online": 1})  # answered in order: a barrier
        runtime.expect("runtime.cpu.state")

    flow(True)
    guest.start_exec("/bin/sh", "-c", "head -c 300000 /dev/zero; echo end", id=start)
    guest.expect("core.exec.started", start)
    assert guest.shell("echo other").stdout == b"other\n"
    assert not [message for message in guest.waiting if message.id == start]
    flow(False)
    assert len(guest.collect_exec(start).stdout) == 300004

    flow(True)
    guest.start_exec("/bin/sh", "-c", "cat /dev/zero", id=start + 1)
    guest.send("core.exec.signal", {"signal": 9}, start + 1)
    guest.send("core.relay.client.disconnected", client)
    assert guest.collect_exec(start + 1).code == -1


@vm_only
def test_default_profile_keeps_every_capability(guest):
    status = guest.shell("grep -E 'CapEff|NoNewPrivs' /proc/self/status").stdout.split()
    assert status == [b"CapEff:", b"000001ffffffffff", b"NoNewPrivs:", b"0"]


# --- other roots ------------------------------------------------------------------------------------------


def test_layered_root_restricted_with_default_user(store):
    """EROFS below, ext4 above; the upper is clean after a stop although something writes to it."""
    upper = store.copy(store.ext4("upper.ext4", size="32M"))
    disks = [msbvm.Disk(store.root_erofs(), readonly=True), msbvm.Disk(upper)]
    upper_field = {"kind": "device", "device": "/dev/vdb", "fstype": "ext4"}
    with msbvm.Vm(disks) as vm:
        vm.boot(
            {
                "block_root": {"kind": "oci-erofs", "lower": "/dev/vda", "upper": upper_field},
                "tmpfs_mounts": [{"path": "/mnt/t"}],
                "user": "alice",
                "default_cwd": "/home/alice",
                "security_profile": "restricted",
            }
        )
        assert vm.resolved.raw.hex() == RESOLVED_ALICE
        agent = vm.agent
        table = mounts(agent)
        assert table["/"][:2] == ("overlay", "overlay")
        assert table["/"][2].startswith(
            "rw,relatime,lowerdir=/.msb/rootfs/lower,upperdir=/.msb/rootfs/upperfs/upper,"
            "workdir=/.msb/rootfs/upperfs/work"
        )
        assert table["/mnt/t"][2] == "rw,nosuid,nodev,relatime,mode=755"
        assert agent.shell("id -un; pwd; echo $HOME").stdout == b"alice\n/home/alice\n/home/alice\n"
        for tty in (False, True):
            status = agent.shell("grep -E 'Cap(Prm|Eff|Bnd)|NoNew' /proc/self/status", user="root", tty=tty)
            values = status.stdout.split()[1::2]
            assert values == [b"000001ffffdfffff"] * 3 + [b"1"]
        assert b"denied" in agent.shell("mount -t tmpfs t /mnt", user="root").stderr
        agent.start_exec("/bin/sh", "-c", "echo on; while :; do echo x >> /root/log; done", user="root")
        agent.expect("core.exec.stdout")
        agent.send_bytes(bytes.fromhex(SHUTDOWN))
        vm.wait_exit(20)
    images.assert_clean(upper)
    listing = subprocess.run(["debugfs", "-R", "ls /", upper], capture_output=True, text=True)
    assert {"upper", "work"} <= set(listing.stdout.split())


def test_layered_root_on_tmpfs(store):
    with msbvm.Vm([msbvm.Disk(store.root_erofs(), readonly=True)], runtime=False) as vm:
        upper = {"kind": "tmpfs", "size_mib": 8}
        vm.boot({"block_root": {"kind": "oci-erofs", "lower": "/dev/vda", "upper": upper}})
        assert vm.agent.shell("echo new > /etc/new && cat /etc/new").stdout == b"new\n"
        full = vm.agent.shell("dd if=/dev/zero of=/fill bs=1M count=12")
        assert full.code != 0 and b"No space left" in full.stderr
        # No runtime port: the beats go to a file, as upstream's do.
        beat = vm.agent.shell("while [ ! -e /.msb/heartbeat.json ]; do sleep 0.1; done; cat /.msb/heartbeat.json")
        assert beat.stdout.startswith(b'{"heartbeat_seq":') and beat.stdout.endswith(b"}}")
        vm.shutdown()


@pytest.mark.parametrize("manners", ["polite", "deaf"])
def test_qcow2_root_with_another_init(store, manners):
    disk = store.copy(store.root_qcow2())
    with msbvm.Vm([msbvm.Disk(disk, format="qcow2")]) as vm:
        vm.boot(
            {
                "block_root": {"kind": "disk-image", "device": "/dev/vda", "fstype": "ext4"},
                "default_env": [{"key": "COLOR", "value": "red"}],
                "handoff_init": {
                    "cmd": "/bin/test-init",
                    "args": ["a b", manners],
                    "cwd": "/usr",
                    "env": [{"key": "EXTRA", "value": "1"}],
                },
            }
        )
        agent = vm.agent
        wait = "while [ ! -s /tmp/init-env ]; do sleep 0.05; done; "
        arguments = agent.shell(wait + "cat /tmp/init-args /tmp/init-cwd").stdout.decode()
        assert arguments == f"/bin/test-init|a b|{manners}|/usr\n"
        env = agent.shell("cat /tmp/init-env").stdout.split(b"\n")
        assert b"COLOR=red" in env and b"EXTRA=1" in env
        assert agent.shell("cat /proc/1/comm").stdout == b"test-init\n"
        # Started by the agent, which is no longer PID 1 and leads a session of its own.
        parent = agent.shell("cut -d' ' -f4 /proc/$$/stat").stdout.decode().strip()
        assert parent != "1"
        assert agent.shell(f"cut -d' ' -f1,6 /proc/{parent}/stat").stdout.decode().split() == [parent, parent]
        assert agent.shell("ls /run/microsandbox").stdout == b"agentd.log\n"
        # A polite init restarts the machine when asked to power off (signal 38); a deaf one makes the
        # agent do everything itself, after the 5 s of the spec.
        vm.shutdown()
    raw = disk + ".raw"
    store.run("qemu-img", "convert", "-O", "raw", disk, raw)
    images.assert_clean(raw)


def test_minimal_boot_with_everything_queued(store):
    """No root at all, and requests behind the ack before the guest even runs."""
    with msbvm.Vm() as vm:
        vm.agent.send_bytes(
            bytes.fromhex(MINIMAL)
            + bytes.fromhex(ACK)
            + msbproto.frame("core.ping", {}, 5)
            + msbproto.frame("core.touch", {}, 6)
            + msbproto.frame("core.touch", {}, 7)
        )
        assert vm.agent.expect("core.init.resolved").raw.hex() == RESOLVED_ROOT
        ready = vm.agent.receive()
        assert ready.type == "core.ready"
        assert vm.agent.receive().id == 5
        assert [vm.agent.receive().payload for _ in range(2)] == [{"activity_seq": 1}, {"activity_seq": 2}]
        vm.shutdown()
        assert vm.process.returncode == 0


@pytest.mark.parametrize("command", ["reboot -f", "kill -9 -1; reboot -f"])
def test_guest_reboot_ends_the_vm(store, command):
    disk = store.copy(store.root_ext4())
    with msbvm.Vm([msbvm.Disk(disk)]) as vm:
        vm.boot({"block_root": {"kind": "disk-image", "device": "/dev/vda"}})
        vm.agent.start_exec("/bin/sh", "-c", command)
        vm.wait_exit(20)


# --- boots that fail ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bootstrap, line",
    [
        (
            {"security_profile": "strict"},
            "agentd: bootstrap receive failed: config error: decode guest bootstrap payload: ",
        ),
        (
            {"hostname": ""},
            "agentd: bootstrap validation failed: config error: bootstrap hostname must be non-empty",
        ),
        (
            {"block_root": {"kind": "disk-image", "device": "/dev/vda", "fstype": "ext4"}},
            "agentd: init failed: init error: failed to mount /dev/vda at /newroot as ext4: EINVAL: Invalid argument",
        ),
        (
            {"block_root": {"kind": "disk-image", "device": "/dev/vda"}},
            "agentd: init failed: init error: failed to mount /dev/vda at /newroot: no supported filesystem found",
        ),
        ({"user": "bob"}, "agentd: init failed: exec session error: guest user not found: bob"),
        (
            {"handoff_init": {"cmd": "auto"}},
            "agentd: handoff failed: init error: auto: no init binary found, checked: /sbin/init, "
            "/lib/systemd/systemd, /usr/lib/systemd/systemd",
        ),
        (
            {"disk_mounts": [{"id": "gone_1", "guest_path": "/d"}]},
            "agentd: init failed: init error: disk mount: no block device found for id 'gone_1' "
            "(checked /dev/disk/by-id/virtio-gone_1 and /sys/block/*/serial)",
        ),
    ],
    ids=["profile", "hostname", "wrong-fstype", "no-fstype", "user", "handoff", "disk"],
)
def test_failed_boot(store, bootstrap, line):
    junk = store.path("junk.raw")
    if not os.path.exists(junk):
        with open(junk, "wb") as file:
            file.write(os.urandom(1 << 20))
    with msbvm.Vm([msbvm.Disk(junk)], memory=128) as vm:
        vm.agent.send("core.bootstrap", {"security_profile": "default", **bootstrap})
        vm.agent.send("core.init.ack", {})
        console = vm.wait_exit(60)
        assert line in console
        try:
            message = vm.agent.expect("core.ready", timeout=5)
            raise AssertionError(f"a failed boot reported {message}")
        except (msbproto.Closed, ConnectionResetError):
            pass
