"""Sequences of frames and what RFC 9113 has a server make of them.

A case is a name, the bytes behind preface and SETTINGS, and what must come of them:
("connection", CODES): GOAWAY with one of these errors, and the end;
("stream", NUMBER, CODES): RST_STREAM, and the connection goes on;
("status", NUMBER, STATUS): an answer, and the connection goes on;
("nothing",): the connection goes on.
"""

from http2wire import (
    ACK,
    CALM,
    CLOSED,
    COMPRESSION,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    PUSH,
    REFUSED,
    RST,
    SETTINGS,
    SIZE,
    WINDOW,
    WITH_PRIORITY,
    fields,
    frame,
    get,
    literal,
    post,
    reset,
    setting,
    window,
)


def block(*pairs: tuple[bytes, bytes], stream: int = 1, flags: int = END_STREAM | END_HEADERS) -> bytes:
    return frame(HEADERS, flags, stream, literal(*pairs))


def raw(payload: bytes, flags: int = END_STREAM | END_HEADERS) -> bytes:
    """A header block of these very bytes."""
    return frame(HEADERS, flags, 1, payload)


def connection(*codes: int) -> tuple:
    return ("connection", set(codes))


def stream(*codes: int, number: int = 1) -> tuple:
    return ("stream", number, set(codes))


def status(code: int, number: int = 1) -> tuple:
    return ("status", number, code)


NOTHING = ("nothing",)
GOOD = literal(*fields())
WHOLE = END_STREAM | END_HEADERS

FRAMES = [
    ("settings of 5 bytes", frame(SETTINGS, 0, 0, bytes(5)), connection(SIZE)),
    ("settings on a stream", frame(SETTINGS, 0, 1), connection(PROTOCOL)),
    ("acknowledgement with settings", frame(SETTINGS, ACK, 0, bytes(6)), connection(SIZE)),
    ("acknowledgement of nothing", frame(SETTINGS, ACK), NOTHING),
    ("ENABLE_PUSH 2", setting((2, 2)), connection(PROTOCOL)),
    ("ENABLE_PUSH 0", setting((2, 0)), NOTHING),
    ("INITIAL_WINDOW_SIZE too large", setting((4, 1 << 31)), connection(FLOW)),
    ("MAX_FRAME_SIZE too small", setting((5, 16383)), connection(PROTOCOL)),
    ("MAX_FRAME_SIZE too large", setting((5, 1 << 24)), connection(PROTOCOL)),
    ("MAX_FRAME_SIZE at most", setting((5, (1 << 24) - 1)), NOTHING),
    ("an unknown setting", setting((0x7777, 1)), NOTHING),
    ("HEADER_TABLE_SIZE 0", setting((1, 0)), NOTHING),
    ("HEADER_TABLE_SIZE huge", setting((1, 0xFFFFFFFF)), NOTHING),
    ("ENABLE_CONNECT_PROTOCOL 2", setting((8, 2)), connection(PROTOCOL)),
    ("33 settings", setting(*[(4, 65535)] * 33), connection(CALM, PROTOCOL)),
    ("ping of 7 bytes", frame(PING, 0, 0, bytes(7)), connection(SIZE)),
    ("ping of 9 bytes", frame(PING, 0, 0, bytes(9)), connection(SIZE)),
    ("ping of nothing", frame(PING), connection(SIZE)),
    ("ping on a stream", frame(PING, 0, 1, bytes(8)), connection(PROTOCOL)),
    ("acknowledgement of no ping", frame(PING, ACK, 0, bytes(8)), NOTHING),
    ("ping with unknown flags", frame(PING, 0xFE, 0, b"abcdefgh"), NOTHING),
    ("goaway on a stream", frame(GOAWAY, 0, 1, bytes(8)), connection(PROTOCOL)),
    ("goaway of 7 bytes", frame(GOAWAY, 0, 0, bytes(7)), connection(SIZE)),
    ("window update of 3 bytes", frame(WINDOW, 0, 0, bytes(3)), connection(SIZE)),
    ("window update of 5 bytes", frame(WINDOW, 0, 0, bytes(5)), connection(SIZE)),
    ("window update by 0", window(0, 0), connection(PROTOCOL)),
    ("window update by 0 on a stream", post(1) + window(1, 0), connection(PROTOCOL)),
    ("window update on an idle stream", window(1, 1), connection(PROTOCOL)),
    ("window update beyond the limit", window(0, 0x7FFFFFFF), connection(FLOW)),
    ("window update beyond the limit on a stream", post(1) + window(1, 0x7FFFFFFF), stream(FLOW)),
    ("window update with the reserved bit", window(0, 0x80000001), NOTHING),
    # The RFC would end the connection; the library ends the stream.
    ("settings that overflow a window", post(1) + window(1, 0x7FFF0000) + setting((4, 1 << 20)), stream(FLOW)),
    ("reset of 3 bytes", post(1) + frame(RST, 0, 1, bytes(3)), connection(SIZE)),
    ("reset of the connection", reset(0), connection(PROTOCOL)),
    ("reset of an idle stream", reset(1), connection(PROTOCOL)),
    ("reset with an unknown error", post(1) + reset(1, 0xFFFF), NOTHING),
    ("reset twice", post(1) + reset(1) + reset(1), NOTHING),
    ("priority of 4 bytes", frame(PRIORITY, 0, 1, bytes(4)), connection(SIZE)),
    # Priorities are switched off by SETTINGS_NO_RFC7540_PRIORITIES.
    ("priority of the connection", frame(PRIORITY, 0, 0, bytes(5)), NOTHING),
    ("priority of an idle stream", frame(PRIORITY, 0, 9, bytes(5)), NOTHING),
    ("a push from the client", frame(PUSH, END_HEADERS, 1, bytes(4) + GOOD), connection(PROTOCOL)),
    ("continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, GOOD), connection(PROTOCOL)),
    ("continuation after the end", get(1) + frame(CONTINUATION, END_HEADERS, 1, GOOD), connection(PROTOCOL)),
    ("headers on stream 0", frame(HEADERS, WHOLE, 0, GOOD), connection(PROTOCOL)),
    ("headers on stream 2", frame(HEADERS, WHOLE, 2, GOOD), connection(PROTOCOL)),
    ("data on stream 0", frame(DATA, 0, 0, b"x"), connection(PROTOCOL)),
    ("data on an idle stream", frame(DATA, 0, 1, b"x"), connection(PROTOCOL)),
    ("data with padding beyond its end", post(1) + frame(DATA, PADDED, 1, b"\x05abc"), connection(PROTOCOL)),
    ("data without its pad length", post(1) + frame(DATA, PADDED, 1), connection(SIZE, PROTOCOL)),
    ("headers with padding beyond their end", raw(b"\xff" + GOOD, WHOLE | PADDED), connection(PROTOCOL)),
    ("headers without their priority", raw(b"\0\0\0", WHOLE | WITH_PRIORITY), connection(SIZE, PROTOCOL)),
    ("data larger than a frame may be", post(1) + frame(DATA, 0, 1, bytes(16385)), connection(SIZE)),
    ("headers larger than a frame may be", raw(bytes(16385)), connection(SIZE)),
    ("an unknown frame larger than a frame may be", frame(0x99, 0, 0, bytes(16385)), connection(SIZE)),
    ("an unknown frame", frame(0x99, 0xFF, 0, b"hello"), NOTHING),
    ("an unknown frame on an idle stream", frame(0x99, 0xFF, 77, b"hello"), NOTHING),
    ("a ping within a header block", raw(GOOD[:9], 0) + frame(PING, 0, 0, bytes(8)), connection(PROTOCOL)),
    ("data within a header block", raw(GOOD[:9], 0) + frame(DATA, 0, 1, b"x"), connection(PROTOCOL)),
    ("headers within a header block", raw(GOOD[:9], 0) + raw(GOOD), connection(PROTOCOL)),
    ("an unknown frame within a header block", raw(GOOD[:9], 0) + frame(0x99), connection(PROTOCOL)),
    (
        "another stream within a header block",
        raw(GOOD[:9], 0) + frame(CONTINUATION, END_HEADERS, 3, GOOD[9:]),
        connection(PROTOCOL),
    ),
    # It might be late for a stream that was reset: checked and dropped.
    ("a lower stream after a higher one", get(5) + frame(HEADERS, WHOLE, 3, GOOD), NOTHING),
    ("headers on a stream that has ended", get(1) + get(1), connection(CLOSED, PROTOCOL)),
    ("data on a stream that has ended", get(1) + frame(DATA, 0, 1, b"x"), connection(CLOSED)),
    ("data on a reset stream", post(1) + reset(1) + frame(DATA, 0, 1, b"x"), NOTHING),
    ("data beyond the window", post(1, path=b"/x") + frame(DATA, 0, 1, bytes(16384)) * 4 + frame(DATA, 0, 1, b"x"), NOTHING),
    ("101 streams", b"".join(post(1 + 2 * n) for n in range(101)) + reset(1), stream(REFUSED, number=201)),
]

COMPRESSIONS = [
    ("index 0", raw(b"\x80"), connection(COMPRESSION)),
    ("an index beyond the tables", raw(b"\xbe"), connection(COMPRESSION)),
    ("an index that never ends", raw(b"\xff" + b"\xff" * 12), connection(COMPRESSION)),
    ("a name longer than the block", raw(b"\x00\x7f\x01a"), connection(COMPRESSION)),
    ("half a field", raw(GOOD + b"\x00\x03ab"), connection(COMPRESSION)),
    ("Huffman code with a wrong end", raw(b"\x82\x86\x84\x41\x81\x00"), connection(COMPRESSION)),
    ("Huffman code with the end mark", raw(b"\x82\x86\x84\x41\x84\xff\xff\xff\xff"), connection(COMPRESSION)),
    ("a table larger than allowed", raw(b"\x3f\xe2\x1f" + GOOD), connection(COMPRESSION)),
    ("a change of the table too late", raw(GOOD + b"\x20"), connection(COMPRESSION)),
    ("a table of nothing", raw(b"\x20" + GOOD), status(200)),
    ("a table as large as allowed", raw(b"\x3f\xe1\x1f" + GOOD), status(200)),
    ("Huffman code", raw(b"\x82\x86\x41\x81\xf3" + literal((b":path", b"/livez"))), status(200)),
    ("fields of the static table", raw(b"\x82\x86\x41\x01x" + literal((b":path", b"/livez"))), status(200)),
    (
        "fields of the dynamic table",
        raw(b"\x82\x86\x41\x01x\x44\x06/livez") + frame(HEADERS, WHOLE, 3, b"\x82\x86\xbe\xbf"),
        status(200, 3),
    ),
    ("a field never to be indexed", raw(GOOD + b"\x10\x01a\x01b"), status(200)),
]


def without(name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in fields() if pair[0] != name]


def twice(name: bytes) -> list[tuple[bytes, bytes]]:
    return [p for pair in fields() for p in ([pair, pair] if pair[0] == name else [pair])]


def replaced(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(k, value if k == name else v) for k, v in fields()]


def bad_field(name: bytes, value: bytes = b"x") -> bytes:
    return get(1, b"/livez", (name, value))


LENGTH = b"content-length"
MALFORMED = [
    *[(f"no {n.decode()}", block(*without(n)), stream(PROTOCOL)) for n in (b":method", b":path", b":scheme", b":authority")],
    *[(f"{n.decode()} twice", block(*twice(n)), stream(PROTOCOL)) for n in (b":method", b":path", b":scheme", b":authority")],
    *[
        (f"{n.decode()} of nothing", block(*replaced(n, b"")), ("either", 1, {PROTOCOL, 400}))
        for n in (b":method", b":path", b":scheme", b":authority")
    ],
    ("a pseudo field of answers", block(*fields(), (b":status", b"200")), stream(PROTOCOL)),
    ("an unknown pseudo field", block(*fields(), (b":magic", b"1")), stream(PROTOCOL)),
    ("a protocol to connect to", block(*fields(), (b":protocol", b"websocket")), stream(PROTOCOL)),
    ("a pseudo field behind others", block((b"a", b"b"), *fields()), stream(PROTOCOL)),
    ("no fields", block(), stream(PROTOCOL)),
    ("a path without its slash", block(*replaced(b":path", b"livez")), stream(PROTOCOL)),
    ("a path that is a URI", block(*replaced(b":path", b"http://x/livez")), stream(PROTOCOL)),
    ("a path with a space", block(*replaced(b":path", b"/a b")), ("either", 1, {PROTOCOL, 400})),
    ("a path with a fragment", block(*replaced(b":path", b"/livez#a")), ("either", 1, {PROTOCOL, 400})),
    ("a path of bytes", block(*replaced(b":path", b"/\xff")), ("either", 1, {PROTOCOL, 400})),
    ("a path * for GET", block(*replaced(b":path", b"*")), stream(PROTOCOL)),
    ("a method that is none", block(*replaced(b":method", b"G T")), stream(PROTOCOL)),
    ("an unknown scheme", block(*replaced(b":scheme", b"gopher")), status(400)),
    ("user information in the host", block(*replaced(b":authority", b"u@x")), ("either", 1, {PROTOCOL, 400})),
    ("a host beside another", get(1, b"/livez", (b"host", b"y")), status(400)),
    ("a host beside itself", get(1, b"/livez", (b"host", b"x")), status(200)),
    ("a host in place of :authority", block(*without(b":authority"), (b"host", b"x")), status(200)),
    ("two hosts", block(*without(b":authority"), (b"host", b"x"), (b"host", b"x")), stream(PROTOCOL)),
    ("a name in capitals", bad_field(b"Accept"), stream(PROTOCOL)),
    ("a name with a space", bad_field(b"a b"), stream(PROTOCOL)),
    ("a name with a line end", bad_field(b"a\r\nb"), stream(PROTOCOL)),
    ("a name with a colon", bad_field(b"a:b"), stream(PROTOCOL)),
    ("a name of nothing", bad_field(b""), stream(PROTOCOL)),
    ("a name of bytes", bad_field(b"\xc3\xa9"), stream(PROTOCOL)),
    ("a value with NUL", bad_field(b"a", b"b\0c"), stream(PROTOCOL)),
    ("a value with CR", bad_field(b"a", b"b\rc"), stream(PROTOCOL)),
    ("a value with LF", bad_field(b"a", b"b\nc"), stream(PROTOCOL)),
    ("a value that begins with a space", bad_field(b"a", b" b"), stream(PROTOCOL)),
    ("a value that ends with a tab", bad_field(b"a", b"b\t"), stream(PROTOCOL)),
    *[
        (f"the field {n.decode()}", bad_field(n, v), stream(PROTOCOL))
        for n, v in [
            (b"connection", b"close"), (b"keep-alive", b"1"), (b"proxy-connection", b"close"),
            (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"te", b"gzip"),
        ]
    ],
    ("te: trailers", bad_field(b"te", b"trailers"), status(200)),
    ("a length that is none", bad_field(LENGTH, b"x"), stream(PROTOCOL)),
    ("a length below 0", bad_field(LENGTH, b"-1"), stream(PROTOCOL)),
    ("a length with a sign", bad_field(LENGTH, b"+0"), stream(PROTOCOL)),
    ("a length beyond all", bad_field(LENGTH, b"99999999999999999999"), stream(PROTOCOL)),
    ("a length without a body", bad_field(LENGTH, b"5"), stream(PROTOCOL)),
    ("two lengths", post(1, (LENGTH, b"2"), (LENGTH, b"2")), stream(PROTOCOL)),
    ("a body shorter than its length", post(1, (LENGTH, b"3")) + frame(DATA, 1, 1, b"{}"), stream(PROTOCOL)),
    ("a body longer than its length", post(1, (LENGTH, b"1")) + frame(DATA, 1, 1, b"{}"), stream(PROTOCOL)),
    ("trailers that do not end", post(1) + frame(DATA, 0, 1, b"{}") + block((b"a", b"b"), flags=END_HEADERS), stream(PROTOCOL)),
    ("trailers with a pseudo field", post(1) + frame(DATA, 0, 1, b"{}") + block((b":path", b"/")), stream(PROTOCOL)),
    ("trailers with capitals", post(1) + frame(DATA, 0, 1, b"{}") + block((b"A", b"b")), stream(PROTOCOL)),
]

BODY = b'{"user_id":"u","n":1}'
SERVED = [
    ("a request", get(1), status(200)),
    ("a request with the reserved bit", frame(HEADERS, WHOLE, 1 | 1 << 31, GOOD), status(200)),
    ("a request with unknown flags", frame(HEADERS, WHOLE | 0xC2, 1, GOOD), status(200)),
    ("a request with padding", raw(b"\x03" + GOOD + bytes(3), WHOLE | PADDED), status(200)),
    ("a request with a priority", raw(b"\0\0\0\0\x10" + GOOD, WHOLE | WITH_PRIORITY), status(200)),
    ("a request that depends on itself", raw(b"\0\0\0\x01\x10" + GOOD, WHOLE | WITH_PRIORITY), connection(PROTOCOL)),
    ("a request in pieces", raw(GOOD[:1], END_STREAM) + frame(CONTINUATION, 0, 1, GOOD[1:9]) + frame(CONTINUATION, END_HEADERS, 1, GOOD[9:]), status(200)),
    ("a request in pieces of nothing", raw(b"", END_STREAM) + frame(CONTINUATION, 0, 1) + frame(CONTINUATION, END_HEADERS, 1, GOOD), status(200)),
    ("streams that are left out", get(9), status(200, 9)),
    ("a body", post(1) + frame(DATA, 1, 1, BODY), status(200)),
    ("a body with its length", post(1, (LENGTH, b"%d" % len(BODY))) + frame(DATA, 1, 1, BODY), status(200)),
    ("a body in pieces", post(1) + b"".join(frame(DATA, 0, 1, BODY[i : i + 1]) for i in range(len(BODY))) + frame(DATA, 1, 1), status(200)),
    ("a body with padding", post(1) + frame(DATA, PADDED | END_STREAM, 1, b"\x09" + BODY + bytes(9)), status(200)),
    ("a body of padding", post(1) + frame(DATA, PADDED, 1, b"\x03abc") + frame(DATA, 1, 1, BODY), status(200)),
    ("a body with trailers", post(1) + frame(DATA, 0, 1, BODY) + block((b"a", b"b")), status(200)),
    ("an unknown frame within a body", post(1) + frame(0x99, 1, 1, b"x") + frame(DATA, 1, 1, BODY), status(200)),
    ("cookies in crumbs", get(1, b"/livez", (b"cookie", b"a=1"), (b"cookie", b"b=2")), status(200)),
    ("HEAD", get(1, method=b"HEAD"), status(200)),
    ("a path that is not there", get(1, b"/nothing"), status(404)),
    ("dot segments", get(1, b"/x/../livez"), status(400)),
    ("a path with half an escape", get(1, b"/livez%4"), status(400)),
    ("an escaped path stays what it is", get(1, b"/%6Civez"), status(404)),
    ("a method that is not allowed", get(1, method=b"DELETE"), status(405)),
    ("a method in small letters", get(1, method=b"get"), status(405)),
    ("a method longer than any", get(1, method=b"X" * 33), status(501)),
    ("OPTIONS of everything", get(1, b"*", method=b"OPTIONS"), status(204)),
    ("a tunnel", block((b":method", b"CONNECT"), (b":authority", b"x:1")), status(501)),
    ("a path too long", get(1, b"/" + b"a" * 8200), status(414)),
    ("fields too large", get(1, b"/livez", *[(b"a%d" % n, b"x" * 140) for n in range(98)]), status(431)),
    ("fields too many", get(1, b"/livez", *[(b"a%d" % n, b"") for n in range(101)]), status(431)),
    ("a length beyond the limit", post(1, (LENGTH, b"2000000")), status(413)),
    ("an expectation", post(1, (b"expect", b"100-continue")), status(100)),
    ("an unknown expectation", post(1, (b"expect", b"magic")), status(417)),
    ("an upgrade to HTTP/2 within HTTP/2 by settings", setting((3, 0), (4, 1), (6, 10)), NOTHING),
]

GREETINGS = [
    ("no settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + get(1), connection(PROTOCOL)),
    ("a ping before settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(PING, 0, 0, bytes(8)), connection(PROTOCOL)),
    ("an acknowledgement before settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, ACK), connection(PROTOCOL)),
]

CASES = FRAMES + COMPRESSIONS + MALFORMED + SERVED
