"""Frames, errors, activity and TCP: spec/guest-agent.md sections 8, 12 and 13."""

import socket
import subprocess
import threading

import msbproto
import pytest


def test_ping_bytes(agent):
    agent.send_bytes(bytes.fromhex("000000190000000500a3617607617469636f72652e70696e67617041a0"))
    assert agent.on(5).raw.hex() == "000000190000000501a3617607617469636f72652e706f6e67617041a0"


def test_activity(agent):
    def touch():
        id = agent.new_id()
        agent.send("core.touch", {}, id)
        return agent.expect("core.touched", id).payload["activity_seq"]

    first = touch()
    agent.ping()
    agent.send("core.clock.sync", {"unix_time_nanos": 0, "ignored": 1}, flags=7)  # refused: flags
    assert agent.expect("core.error").payload["kind"] == "invalid_flags"
    assert touch() == first + 1
    # request, started, stdout, exited; then the touch itself.
    assert agent.shell("echo hello").stdout == b"hello\n"
    assert touch() == first + 1 + 4 + 1


@pytest.mark.parametrize("flags", [1, 2, 0x80])
def test_invalid_flags(agent, flags):
    agent.send("core.ping", {}, 5, flags=flags)
    message = agent.on(5)
    assert (message.type, message.flags) == ("core.error", 1)
    assert message.payload == {
        "kind": "invalid_flags",
        "message": f"invalid flags for core.ping: got {flags}, expected 0",
        "offending_type": "core.ping",
    }


@pytest.mark.parametrize(
    "type, payload",
    [
        ("core.ping", None),
        ("core.exec.request", {}),
        ("core.exec.request", {"cmd": "x", "rows": 70000}),
        ("core.exec.request", {"cmd": "x", "args": None}),
        ("core.exec.stdin", {"data": "text"}),
        ("core.fs.request", {"op": {"Nope": {}}}),
        ("core.tcp.connect", {"host": "h"}),
    ],
)
def test_invalid_payload(agent, type, payload):
    agent.send(type, payload, 6)
    error = agent.on(6)
    assert error.type == "core.error" and error.flags == 1
    assert error.payload["kind"] == "invalid_payload" and error.payload["offending_type"] == type
    assert error.payload["message"].startswith(f"decode payload for {type}: cbor decode error: ")
    agent.ping()


def test_what_kills_upstream_is_answered(agent):
    """Unknown types and undecodable envelopes: spec/protocol.md section 8.3."""
    agent.send("core.from.the.future", {}, 7)
    error = agent.on(7).payload
    assert error["kind"] == "unsupported_message_type" and error["offending_type"] == "core.from.the.future"
    for body in (b"", b"\xff\xff", b"\xa0", msbproto.encode({"v": 7, "t": "core.ping"})):
        agent.send_bytes(msbproto.raw_frame(body, id=8))
        assert agent.on(8).payload["kind"] == "malformed_message"
    agent.ping()


def test_errors_are_not_for_old_peers(agent):
    agent.send("core.ping", {}, 9, flags=1, generation=4)
    agent.send("core.ping", None, 9, generation=4)
    agent.send("core.unheard.of", {}, 9, generation=4)
    agent.ping()
    assert not [message for message in agent.waiting if message.id == 9]


def test_unexpected_types_are_ignored(agent):
    agent.send("core.bootstrap", {"security_profile": "default"}, 10)
    agent.send("core.init.ack", {}, 10)
    agent.send("core.exec.exited", {"code": 0}, 10)
    agent.ping()
    assert not [message for message in agent.waiting if message.id == 10]


def test_frames_in_pieces_and_batches(agent):
    frames = b"".join(msbproto.frame("core.ping", {}, 100 + n) for n in range(50))
    for at in range(0, len(frames), 7):
        agent.send_bytes(frames[at : at + 7])
    for n in range(50):
        agent.expect("core.pong", 100 + n)
    agent.send_bytes(frames)
    for n in range(50):
        agent.expect("core.pong", 100 + n)


def test_output_of_one_session_does_not_exhaust_memory(agent, target):
    """The host stops reading: pipes stop being read, and nothing is lost or reordered."""
    script = "i=0; while [ $i -lt 100 ]; do head -c 65536 /dev/zero; i=$((i+1)); done; echo end"
    id = agent.start_exec("/bin/sh", "-c", script)
    agent.expect("core.exec.started", id)
    rss = f"grep VmHWM /proc/{1 if target.kind == 'vm' else target.process.pid}/status"
    result = agent.collect_exec(id)
    assert len(result.stdout) == 100 * 65536 + 4 and result.stdout.endswith(b"end\n")
    peak_kib = int(agent.shell(rss).stdout.split()[1])
    assert peak_kib < 64 * 1024


# --- tcp ----------------------------------------------------------------------------------------------



@pytest.fixture
def server(agent, target):
    """Starts a one-connection server in front of a shell script, at the guest's loopback."""
    if target.kind == "host":
        yield host_server
        return
    started = []

    def start(script):
        port = 20000 + len(started)
        id = agent.start_exec("nc", "-ll", "-p", str(port), "-e", "/bin/sh", "-c", script)
        started.append(id)
        agent.shell(f"while ! netstat -ltn | grep -q :{port}; do :; done")
        return port

    yield start
    for id in started:
        agent.send("core.exec.signal", {"signal": 9}, id)
        agent.collect_exec(id)


def host_server(script):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        subprocess.run(["/bin/sh", "-c", script], stdin=connection, stdout=connection)
        connection.close()
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def connect(agent, port, host="127.0.0.1"):
    id = agent.new_id()
    agent.send("core.tcp.connect", {"host": host, "port": port}, id)
    return id


def test_tcp_refused_and_unknown(agent):
    id = connect(agent, 9)
    failed = agent.on(id)
    assert (failed.type, failed.flags) == ("core.tcp.failed", 1)
    assert failed.payload == {"error": "connect 127.0.0.1:9: Connection refused (os error 111)"}
    agent.send("core.tcp.data", {"data": b"x"}, id)
    assert agent.on(id).payload == {"error": f"unknown TCP session: {id}"}
    agent.send("core.tcp.eof", {}, id)
    agent.send("core.tcp.close", {}, id)
    agent.ping()
    assert not [message for message in agent.waiting if message.id == id]


def test_tcp_unknown_name(agent):
    id = connect(agent, 80, host="no-such-name.invalid")
    agent.ping(timeout=30)  # looking it up stalls nobody
    error = agent.on(id).payload["error"]
    assert error.startswith("connect no-such-name.invalid:80: failed to lookup address information: ")


def test_tcp_both_ways(agent, server):
    port = server("cat; echo bye")
    id = connect(agent, port, host="localhost")
    agent.send("core.tcp.data", {"data": b"early "}, id)  # queued until connected
    assert agent.on(id).type == "core.tcp.connected"
    agent.send("core.tcp.data", {"data": b"late"}, id)
    agent.send("core.tcp.eof", {}, id)
    received = b""
    while (message := agent.on(id)).type == "core.tcp.data":
        received += message.payload["data"]
    assert received == b"early latebye\n" and (message.type, message.flags) == ("core.tcp.eof", 0)
    agent.send("core.tcp.close", {}, id)
    agent.ping()
    assert not [message for message in agent.waiting if message.id == id]


def test_tcp_data_after_the_peer_finished(agent, server, target):
    port = server(f"echo first; exec >&-; cat > {target.scratch}/received; : > {target.scratch}/complete")
    agent.shell(f"rm -f {target.scratch}/complete")
    id = connect(agent, port)
    agent.expect("core.tcp.connected", id)
    assert agent.on(id).payload == {"data": b"first\n"}
    agent.send("core.tcp.data", {"data": b"still open"}, id)
    agent.send("core.tcp.eof", {}, id)
    result = agent.shell(f"while [ ! -e {target.scratch}/complete ]; do sleep 0.05; done; cat {target.scratch}/received")
    assert result.stdout == b"still open"
    agent.send("core.tcp.close", {}, id)


def test_tcp_large_stream(agent, server):
    port = server("head -c 3000000 /dev/zero")
    id = connect(agent, port)
    agent.expect("core.tcp.connected", id)
    total = 0
    while (message := agent.on(id)).type == "core.tcp.data":
        assert len(message.payload["data"]) <= 65536
        total += len(message.payload["data"])
    assert total == 3_000_000 and message.type == "core.tcp.eof"
    agent.send("core.tcp.close", {}, id)


def test_tcp_disconnect_closes_silently(agent, server):
    port = server("echo up; cat; echo gone > /dev/null")
    id = connect(agent, port)
    agent.expect("core.tcp.data", id)
    agent.send("core.relay.client.disconnected", {"id_start": 1, "id_end_exclusive": msbproto.ID_RANGE_STEP})
    agent.send("core.tcp.data", {"data": b"x"}, id)
    assert agent.expect("core.tcp.failed", id).payload == {"error": f"unknown TCP session: {id}"}
