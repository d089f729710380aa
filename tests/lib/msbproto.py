"""The agent protocol in Python, written from spec/protocol.md and independent of the C++ codec.

    encode(value) / decode(bytes)       CBOR, the subset the protocol uses plus what decoders accept
    frame(type, payload, id=0)          one frame with the type's canonical flags
    FrameBuffer                         cuts a byte stream into Message tuples
    Client(socket)                      sends frames, waits for messages by id and type
"""

import os
import select
import socket
import struct
import time
from collections import namedtuple

GENERATION = 7
MAX_FRAME_LENGTH = 4_194_304
ID_RANGE_STEP = 33_554_431

# type -> flags (spec/protocol.md section 4); what is not listed has flags 0.
FLAGS = {
    "core.shutdown": 4,
    "core.pong": 1,
    "core.touched": 1,
    "core.error": 1,
    "core.exec.request": 2,
    "core.exec.exited": 1,
    "core.exec.failed": 1,
    "core.fs.request": 2,
    "core.fs.response": 1,
    "core.tcp.connect": 2,
    "core.tcp.closed": 1,
    "core.tcp.failed": 1,
}


class ProtocolError(Exception):
    pass


# --- CBOR (RFC 8949) ---------------------------------------------------------------------------------


def _head(major, argument):
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes([major << 5 | info]) + argument.to_bytes(size, "big")
    raise ProtocolError(f"integer too large: {argument}")


def encode(value):
    if value is None:
        return b"\xf6"
    if value is True:
        return b"\xf5"
    if value is False:
        return b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, (bytes, bytearray)):
        return _head(2, len(value)) + bytes(value)
    if isinstance(value, str):
        encoded = value.encode()
        return _head(3, len(encoded)) + encoded
    if isinstance(value, (list, tuple)):
        return _head(4, len(value)) + b"".join(encode(item) for item in value)
    if isinstance(value, dict):
        return _head(5, len(value)) + b"".join(encode(k) + encode(v) for k, v in value.items())
    raise ProtocolError(f"cannot encode {type(value)}")


class _Decoder:
    MAX_DEPTH = 64

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ProtocolError("unexpected end of CBOR")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def value(self, depth=0):
        if depth > self.MAX_DEPTH:
            raise ProtocolError("CBOR nested too deeply")
        initial = self.take(1)[0]
        major, info = initial >> 5, initial & 31
        if major == 7:
            simple = {20: False, 21: True, 22: None, 23: None}
            if info not in simple:
                raise ProtocolError(f"unsupported simple value {info}")
            return simple[info]
        if info < 24:
            argument = info
        elif info <= 27:
            argument = int.from_bytes(self.take(1 << (info - 24)), "big")
        else:
            raise ProtocolError(f"unsupported length form {info}")
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return bytes(self.take(argument))
        if major == 3:
            return bytes(self.take(argument)).decode()
        if major == 4:
            return [self.value(depth + 1) for _ in range(argument)]
        if major == 5:
            return {self.value(depth + 1): self.value(depth + 1) for _ in range(argument)}
        return self.value(depth + 1)  # a tag: its content


def decode(data):
    return _Decoder(data).value()


# --- frames -------------------------------------------------------------------------------------------

Message = namedtuple("Message", "id flags type payload generation raw")


def raw_frame(body, id=0, flags=0):
    return struct.pack(">IIB", 5 + len(body), id, flags) + body


def envelope(type, payload, generation=GENERATION):
    return encode({"v": generation, "t": type, "p": payload})


def frame(type, payload, id=0, flags=None, generation=GENERATION):
    if flags is None:
        flags = FLAGS.get(type, 0)
    return raw_frame(envelope(type, encode(payload), generation), id, flags)


class FrameBuffer:
    def __init__(self):
        self.buffer = bytearray()

    def feed(self, data):
        self.buffer += data

    def next(self):
        """The next whole message, or None."""
        if len(self.buffer) < 4:
            return None
        (length,) = struct.unpack_from(">I", self.buffer)
        if not 5 <= length <= MAX_FRAME_LENGTH:
            raise ProtocolError(f"bad frame length {length}")
        if len(self.buffer) < 4 + length:
            return None
        raw = bytes(self.buffer[: 4 + length])
        del self.buffer[: 4 + length]
        id, flags = struct.unpack_from(">IB", raw, 4)
        outer = decode(raw[9:])
        return Message(id, flags, outer["t"], decode(outer["p"]), outer["v"], raw)


# --- a client -----------------------------------------------------------------------------------------


class Closed(Exception):
    """The other side closed the connection."""


class Client:
    """One connection. Messages nobody has asked for yet are kept, per arrival order."""

    def __init__(self, sock, timeout=float(os.environ.get("MSB_TEST_TIMEOUT", 60)), first_id=1):
        self.socket = sock
        self.timeout = timeout
        self.frames = FrameBuffer()
        self.waiting = []
        self.next_id = first_id

    def new_id(self):
        self.next_id += 1
        return self.next_id - 1

    def send_bytes(self, data):
        self.socket.sendall(data)

    def send(self, type, payload, id=0, **options):
        self.send_bytes(frame(type, payload, id, **options))

    def _read_more(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no matching message; pending: {[m[:3] for m in self.waiting]}")
        ready, _, _ = select.select([self.socket], [], [], left)
        if not ready:
            return
        data = self.socket.recv(1 << 18)
        if not data:
            raise Closed()
        self.frames.feed(data)
        while (message := self.frames.next()) is not None:
            self.waiting.append(message)

    def receive(self, match=lambda message: True, timeout=None):
        """Removes and returns the first message that matches, waiting for it."""
        deadline = time.monotonic() + (timeout or self.timeout)
        seen = 0
        while True:
            for index in range(seen, len(self.waiting)):
                if match(self.waiting[index]):
                    return self.waiting.pop(index)
            seen = len(self.waiting)
            self._read_more(deadline)

    def expect(self, type, id=None, **options):
        return self.receive(lambda m: m.type == type and id in (None, m.id), **options)

    def on(self, id, **options):
        """The next message of this id, whatever its type."""
        return self.receive(lambda m: m.id == id, **options)

    def wait_closed(self, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        try:
            while True:
                self._read_more(deadline)
        except (Closed, ConnectionResetError):
            return

    # --- requests in one call ---

    def ping(self, **options):
        id = self.new_id()
        self.send("core.ping", {}, id)
        return self.expect("core.pong", id, **options)

    def start_exec(self, cmd, *args, id=None, **fields):
        id = self.new_id() if id is None else id
        self.send("core.exec.request", {"cmd": cmd, "args": list(args), **fields}, id)
        return id

    def collect_exec(self, id, **options):
        """ExecResult of a session that was started; failed is the payload of core.exec.failed."""
        result = ExecResult()
        streams = {"stdout": bytearray(), "stderr": bytearray()}
        while result.code is None and result.failed is None:
            message = self.on(id, **options)
            kind = message.type.removeprefix("core.exec.")
            if kind == "started":
                result.pid = message.payload["pid"]
            elif kind in streams:
                streams[kind] += message.payload["data"]
            elif kind == "stdin.error":
                result.stdin_errors.append(message.payload)
            elif kind == "exited":
                result.code = message.payload["code"]
            elif kind == "failed":
                result.failed = message.payload
            else:
                raise ProtocolError(f"unexpected {message}")
        result.stdout, result.stderr = (bytes(stream) for stream in streams.values())
        return result

    def exec(self, cmd, *args, stdin=None, **fields):
        id = self.start_exec(cmd, *args, **fields)
        if stdin is not None:
            self.send("core.exec.stdin", {"data": stdin}, id)
            self.send("core.exec.stdin", {"data": b""}, id)
        return self.collect_exec(id)

    def shell(self, script, **fields):
        return self.exec("/bin/sh", "-c", script, **fields)

    def fs(self, variant, id=None, **fields):
        """The whole payload of core.fs.response."""
        id = self.new_id() if id is None else id
        self.send("core.fs.request", {"op": {variant: fields}}, id)
        return self.expect("core.fs.response", id).payload

    def fs_read(self, handle, offset=0, len=None, id=None):
        """(chunks, response) of a Read."""
        id = self.new_id() if id is None else id
        self.send("core.fs.request", {"op": {"Read": {"handle": handle, "offset": offset, "len": len}}}, id)
        chunks = []
        while True:
            message = self.on(id)
            if message.type == "core.fs.response":
                return chunks, message.payload
            chunks.append(message.payload["data"])

    def fs_write(self, handle, chunks, offset=0, len=None, id=None):
        id = self.new_id() if id is None else id
        self.send("core.fs.request", {"op": {"Write": {"handle": handle, "offset": offset, "len": len}}}, id)
        for chunk in [*chunks, b""]:
            self.send("core.fs.data", {"data": chunk}, id)
        return self.expect("core.fs.response", id).payload


class ExecResult:
    def __init__(self):
        self.pid = None
        self.stdout = b""
        self.stderr = b""
        self.stdin_errors = []
        self.code = None
        self.failed = None

    def __repr__(self):
        return str(self.__dict__)


def connect_unix(path, timeout=60):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(timeout)
    sock.connect(path)
    return sock
