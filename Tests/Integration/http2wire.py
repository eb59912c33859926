"""HTTP/2 frames by hand, legal or not, and what a server answers to them."""

import socket
import struct
import time
from dataclasses import dataclass, field

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL, INTERNAL, FLOW, _, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, _, CALM = range(12)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block without indexing and Huffman coding: any bytes pass."""

    def text(value: bytes) -> bytes:
        if len(value) < 127:
            return bytes([len(value)]) + value
        rest, digits = len(value) - 127, b"\x7f"
        while rest >= 128:
            digits += bytes([rest % 128 | 128])
            rest //= 128
        return digits + bytes([rest]) + value

    return b"".join(b"\0" + text(name) + text(value) for name, value in fields)


def fields(
    path: bytes = b"/livez", *more: tuple[bytes, bytes], method: bytes = b"GET"
) -> list[tuple[bytes, bytes]]:
    return [(b":method", method), (b":path", path), (b":scheme", b"http"), (b":authority", b"x"), *more]


def get(stream: int, path: bytes = b"/livez", *more: tuple[bytes, bytes], method: bytes = b"GET") -> bytes:
    """A whole request in one frame."""
    return frame(
        HEADERS, END_STREAM | END_HEADERS, stream, literal(*fields(path, *more, method=method))
    )


def post(stream: int, *more: tuple[bytes, bytes], path: bytes = b"/recommend") -> bytes:
    """The head of a request whose body follows."""
    block = literal(*fields(path, (b"content-type", b"application/json"), *more, method=b"POST"))
    return frame(HEADERS, END_HEADERS, stream, block)


def setting(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW, 0, stream, struct.pack(">I", increment))


def reset(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST, 0, stream, struct.pack(">I", code))


HELLO = PREFACE + frame(SETTINGS)
# Of a client that reads all it gets.
EAGER = PREFACE + setting((4, 1 << 30)) + window(0, 1 << 30)


@dataclass
class Stream:
    """What came on one stream."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    body: bytes = b""
    has_ended: bool = False
    reset: int | None = None


class Client:
    """A raw connection: sends bytes as they are, keeps what comes."""

    def __init__(self, port: int, hello: bytes = HELLO, host: str = "127.0.0.1", buffer: int = 0) -> None:
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.connect((host, port))
        self.pending = b""
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.streams: dict[int, Stream] = {}
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.goaway: tuple[int, int] | None = None
        self.acknowledged: list[bytes] = []
        self.is_closed = False
        if hello:
            self.send(hello)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """False once the server takes no more."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def stream(self, number: int) -> Stream:
        return self.streams.setdefault(number, Stream())

    def receive(self) -> bool:
        """Waits for more bytes; False at the end."""
        try:
            more = self.socket.recv(1 << 16)
        except ConnectionResetError:
            more = b""
        if not more:
            self.is_closed = True
            return False
        self.pending += more
        while len(self.pending) >= 9:
            length = int.from_bytes(self.pending[:3], "big")
            if len(self.pending) < 9 + length:
                break
            kind, flags, number = struct.unpack(">BBI", self.pending[3:9])
            self.take(kind, flags, number & 0x7FFFFFFF, self.pending[9 : 9 + length])
            self.pending = self.pending[9 + length :]
        return True

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        self.frames.append((kind, flags, number, payload))
        if kind == HEADERS:
            assert flags & END_HEADERS, "the server splits its header blocks"
            stream = self.stream(number)
            stream.headers = self.decoder.decode(payload)
            stream.statuses += [int(v) for k, v in stream.headers if k == ":status"]
            stream.has_ended = bool(flags & END_STREAM)
        elif kind == DATA:
            self.stream(number).body += payload
            self.stream(number).has_ended = bool(flags & END_STREAM)
        elif kind == RST:
            self.stream(number).reset = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaway = struct.unpack(">II", payload[:8])
        elif kind == PING and flags & ACK:
            self.acknowledged.append(payload)
        elif kind == PING:
            self.send(frame(PING, ACK, 0, payload))

    def until(self, condition, seconds: float = 20) -> bool:
        """Reads until the condition holds, or the end."""
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.socket.settimeout(left)
            try:
                if not self.receive():
                    return bool(condition())
            except TimeoutError:
                return bool(condition())
        return True

    def answer(self, number: int, seconds: float = 20) -> Stream:
        """The whole answer on a stream, or how it was lost."""
        stream = self.stream(number)
        self.until(lambda: stream.has_ended or stream.reset is not None or self.is_closed, seconds)
        return stream
