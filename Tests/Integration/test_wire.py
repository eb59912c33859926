"""Hostile bytes on raw sockets: each a clear 4xx, or a close; never a 5xx, never the end of the daemon."""

import json
import random
import socket
import time

import contract
import harness

END = b"\r\n\r\n"


def get(
    target: bytes = b"/livez", *fields: bytes, version: bytes = b"HTTP/1.1", method: bytes = b"GET"
) -> bytes:
    """A request with Host and these fields."""
    return b"\r\n".join([method + b" " + target + b" " + version, b"Host: x", *fields]) + END


def post(body: bytes, *fields: bytes) -> bytes:
    """POST /recommend with a Content-Length."""
    return (
        get(
            b"/recommend",
            b"Content-Type: application/json",
            b"Content-Length: %d" % len(body),
            *fields,
            method=b"POST",
        )
        + body
    )


def chunked(body: bytes, *fields: bytes) -> bytes:
    """POST /recommend whose chunked body is these very bytes."""
    return (
        get(
            b"/recommend",
            b"Content-Type: application/json",
            b"Transfer-Encoding: chunked",
            *fields,
            method=b"POST",
        )
        + body
    )


def framed(*fields: bytes, body: bytes = b"{}") -> bytes:
    return get(b"/recommend", b"Content-Type: application/json", *fields, method=b"POST") + body


# Bodies that are not what POST /recommend takes: 400 each.
BODIES = [
    b"[",
    b"]",
    b"{",
    b"}",
    b"{}}",
    b"{}{}",
    b"[]x",
    b"nul",
    b"NULL",
    b"True",
    b"NaN",
    b'{"now":NaN}',
    b'{"now":Infinity}',
    b'{"now":-Infinity}',
    b'{"now":1e999}',
    b'{"now":-1e999}',
    b'{"now":01}',
    b'{"now":+1}',
    b'{"now":.5}',
    b'{"now":1.}',
    b'{"now":0x10}',
    b'{"now":1e}',
    b'{"now":--1}',
    b'{"n":1e400}',
    b'{"n":99999999999999999999}',
    b'{"n":1,"n":2}',
    b'{"n":1,"\\u006e":2}',
    b'{"n":1,}',
    b"{,}",
    b'{"n" 1}',
    b"{n:1}",
    b"{'n':1}",
    b'{"n":1 "fields":[]}',
    b'{"fields":["a",]}',
    b'{"fields":[,]}',
    b'{"user_id":"\xff"}',
    b'{"user_id":"\xc0\x80"}',
    b'{"user_id":"\xed\xa0\x80"}',
    b'{"user_id":"\xf5\x80\x80\x80"}',
    b'{"user_id":"\xe2\x82"}',
    b'{"user_id":"\\ud800"}',
    b'{"user_id":"\\udc00x"}',
    b'{"user_id":"\\u12"}',
    b'{"user_id":"\\x41"}',
    b'{"user_id":"a\nb"}',
    b'{"user_id":"a\x00b"}',
    b'{"user_id":"',
    b'{"user_id":"a',
    b"\xef\xbb\xbf{}",
    b"\x00",
    b"{}\x00",
    b"/**/{}",
    b"{}//",
    b"\xfe\xff\x00{\x00}",
    b"[" * 33 + b"]" * 33,
    b"[" * 100_000,
    b'{"user":' * 50_000,
    b'{"filter":' + b'{"not":' * 40 + b"1",
    b"[" + b"0," * 200_000 + b"0]",
    b'"' + b"a" * 900_000 + b'"',
    b"-",
    b'"',
    b" ",
    b"\t\r\n",
    b"1" * 500_000,
]

# (name, bytes, acceptable statuses; None is a close without an answer)
WIRE = [
    ("no request line", b"\r\n\r\n\r\n", {400, None}),
    ("a bare LF ends a line", b"GET /livez HTTP/1.1\nHost: x\n\n", {400}),
    ("a lone CR in a field", get(b"/livez", b"A: b\rc"), {400}),
    ("a CR before the line end", b"GET /livez HTTP/1.1\r\r\nHost: x" + END, {400}),
    ("no version", b"GET /livez\r\nHost: x" + END, {400}),
    ("HTTP/0.9", b"GET /\r\n", {400}),
    ("HTTP/2.0", get(version=b"HTTP/2.0"), {505}),
    ("HTTP/1.2", get(version=b"HTTP/1.2"), {505}),
    ("HTTP/11", get(version=b"HTTP/11"), {400}),
    ("http/1.1", get(version=b"http/1.1"), {400}),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50), {400}),
    ("a tab after the method", b"GET\t/livez HTTP/1.1\r\nHost: x" + END, {400}),
    ("two spaces", b"GET  /livez HTTP/1.1\r\nHost: x" + END, {400}),
    ("a space at the end", b"GET /livez HTTP/1.1 \r\nHost: x" + END, {400}),
    ("a control byte in the target", get(b"/li\x01vez"), {400}),
    ("a byte above 127 in the target", get(b"/li\xffvez"), {400}),
    ("a fragment", get(b"/livez#x"), {400}),
    ("no slash", get(b"livez"), {400}),
    ("a dot segment", get(b"/./livez"), {400}),
    ("two dots", get(b"/similar/../livez"), {400}),
    ("two dots at the end", get(b"/users/.."), {400}),
    ("a backslash", get(b"/\\livez"), {400}),
    ("half an escape", get(b"/livez%2"), {400}),
    ("an escape that is none", get(b"/livez%zz"), {400}),
    ("an asterisk", get(b"*"), {400}),
    ("CONNECT", get(b"x:80", method=b"CONNECT"), {400, 405, 501}),
    ("a method of 40 letters", get(method=b"G" * 40), {400, 405, 501}),
    ("a colon in the method", get(method=b"G:T"), {400}),
    ("no Host", b"GET /livez HTTP/1.1" + END, {400}),
    ("two Hosts", get(b"/livez", b"Host: y"), {400}),
    ("a Host with a space", b"GET /livez HTTP/1.1\r\nHost: a b" + END, {400}),
    ("a Host with a slash", b"GET /livez HTTP/1.1\r\nHost: a/b" + END, {400}),
    ("a space before the colon", get(b"/livez", b"A : b"), {400}),
    ("no colon", get(b"/livez", b"Ab"), {400}),
    ("an empty field name", get(b"/livez", b": b"), {400}),
    ("a folded field", get(b"/livez", b"A: b\r\n c"), {400}),
    ("a fold at once", b"GET /livez HTTP/1.1\r\n Host: x" + END, {400}),
    ("NUL in a field", get(b"/livez", b"A: b\x00c"), {400}),
    ("NUL in a name", get(b"/livez", b"A\x00: b"), {400}),
    ("a bracket in a name", get(b"/livez", b"A(b): c"), {400}),
    ("a request line of 9 KB", get(b"/" + b"x" * 9000), {414}),
    ("a request line without end", b"GET /" + b"x" * 100_000, {414}),
    ("fields of 17 KB", get(b"/livez", b"A: " + b"x" * 17_000), {431}),
    ("101 fields", get(b"/livez", *[b"A: b"] * 100), {431}),
    ("fields without end", b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 100_000, {431}),
    ("CL and TE", framed(b"Content-Length: 2", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), {400}),
    ("TE and CL", framed(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), {400}),
    ("two CLs that differ", framed(b"Content-Length: 2", b"Content-Length: 3"), {400}),
    ("two CLs alike", framed(b"Content-Length: 2", b"Content-Length: 2"), {400}),
    ("a list of CLs", framed(b"Content-Length: 2, 2"), {400}),
    ("CL +2", framed(b"Content-Length: +2"), {400}),
    ("CL -2", framed(b"Content-Length: -2"), {400}),
    ("CL 0x2", framed(b"Content-Length: 0x2"), {400}),
    ("CL 2.0", framed(b"Content-Length: 2.0"), {400}),
    ("CL with a space", framed(b"Content-Length: 1 2"), {400}),
    ("an empty CL", framed(b"Content-Length:"), {400}),
    ("CL beyond 64 bits", framed(b"Content-Length: 99999999999999999999"), {400, 413}),
    ("CL of 2^63", framed(b"Content-Length: 9223372036854775808"), {400, 413}),
    ("CL of 2 MB", framed(b"Content-Length: 2000000"), {413}),
    ("a body of 2 MB", post(b" " * 2_000_000), {413}),
    (
        "TE twice",
        framed(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        {400},
    ),
    ("TE identity", framed(b"Transfer-Encoding: identity"), {400, 501}),
    ("TE gzip, chunked", framed(b"Transfer-Encoding: gzip, chunked"), {400, 501}),
    ("TE chunked, gzip", framed(b"Transfer-Encoding: chunked, gzip"), {400, 501}),
    ("TE xchunked", framed(b"Transfer-Encoding: xchunked"), {400, 501}),
    ("TE with a vertical tab", framed(b"Transfer-Encoding: \x0bchunked"), {400}),
    ("TE in HTTP/1.0", b"POST /recommend HTTP/1.0\r\nTransfer-Encoding: chunked" + END + b"0\r\n\r\n", {400}),
    ("chunk size x", chunked(b"x\r\n"), {400}),
    ("chunk size empty", chunked(b"\r\n{}\r\n0\r\n\r\n"), {400}),
    ("chunk size -1", chunked(b"-1\r\n"), {400}),
    ("chunk size +2", chunked(b"+2\r\n{}\r\n0\r\n\r\n"), {400}),
    ("chunk size 0x2", chunked(b"0x2\r\n{}\r\n0\r\n\r\n"), {400}),
    ("chunk size with a space before", chunked(b" 2\r\n{}\r\n0\r\n\r\n"), {400}),
    ("chunk size with 17 digits", chunked(b"00000000000000002\r\n{}\r\n0\r\n\r\n"), {400}),
    ("chunk size of 2^64", chunked(b"10000000000000000\r\n"), {400, 413}),
    ("chunk size of 2^63", chunked(b"8000000000000000\r\n"), {413}),
    ("chunk size of 2 MB", chunked(b"200000\r\n"), {413}),
    ("a chunk longer than it says", chunked(b"1\r\n{}\r\n0\r\n\r\n"), {400}),
    ("LF after the chunk size", chunked(b"2\n{}\r\n0\r\n\r\n"), {400}),
    ("LF after a chunk", chunked(b"2\r\n{}\n0\r\n\r\n"), {400}),
    ("a CR in a chunk extension", chunked(b"2;a\rb\r\n{}\r\n0\r\n\r\n"), {400}),
    ("extensions of 5 KB", chunked(b"2;" + b"x" * 5000 + b"\r\n{}\r\n0\r\n\r\n"), {400}),
    ("a bad trailer", chunked(b"2\r\n{}\r\n0\r\nA b\r\n\r\n"), {400}),
    ("trailers of 17 KB", chunked(b"2\r\n{}\r\n0\r\nA: " + b"x" * 17_000), {431}),
    ("101 trailers", chunked(b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 101), {431}),
    ("2 MB in one-byte chunks", chunked(b"1\r\n \r\n" * 1_100_000), {413}),
    ("Expect of a miracle", framed(b"Expect: miracle", b"Content-Length: 2"), {417}),
]

# What begins well and stops: with the sending side closed, the daemon closes too.
HALF = [
    b"",
    b"G",
    b"GET",
    b"GET /livez",
    b"GET /livez HTTP/1.1",
    b"GET /livez HTTP/1.1\r",
    b"GET /livez HTTP/1.1\r\n",
    b"GET /livez HTTP/1.1\r\nHost",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r",
    framed(b"Content-Length: 10"),
    chunked(b"2"),
    chunked(b"2\r\n{"),
    chunked(b"2\r\n{}\r\n"),
    chunked(b"2\r\n{}\r\n0\r\n"),
    chunked(b"2\r\n{}\r\n0\r\nA: b"),
]


class Wire(harness.Case):
    def test_the_table_is_long_enough(self) -> None:
        self.assertGreaterEqual(len(WIRE), 80)

    def test_hostile_bytes_are_refused(self) -> None:
        for name, data, expected in WIRE:
            with self.subTest(name):
                answer = self.daemon.raw(data)
                status = answer.status if answer else None
                self.assertIn(status, expected)
                if answer:
                    kinds = {
                        400: "bad-request",
                        405: "method-not-allowed",
                        413: "content-too-large",
                        414: "target-too-long",
                        417: "expectation-failed",
                        431: "headers-too-large",
                        501: "not-implemented",
                        505: "http-version",
                    }
                    contract.check_problem(answer, kinds[status], status)
                    if status != 405:
                        self.assertEqual(answer.headers.get("connection"), "close")
                self.assertEqual(self.daemon.get("/livez").status, 200)

    def test_hostile_bodies_are_refused(self) -> None:
        for body in BODIES:
            with self.subTest(body=body[:40]):
                answer = self.daemon.raw(post(body))
                self.assertIsNotNone(answer)
                self.assertEqual(answer.status, 400, answer.body[:200])
                self.assertIn(answer.kind, {"malformed-json", "wrong-type", "out-of-range", "unknown-field"})
                # A body that is not what was asked for is no reason to part.
                self.assertNotIn("connection", answer.headers)
                self.assertEqual(self.daemon.get("/livez").status, 200)

    def test_requests_that_stop_half_way_end_with_a_close(self) -> None:
        for data in HALF:
            with self.subTest(data=data[-40:]):
                answer = self.daemon.raw(data, ends=True)
                self.assertTrue(answer is None or answer.status == 400)

    def test_nothing_of_the_request_is_in_the_answer_to_bad_http(self) -> None:
        answer = self.daemon.raw(get(b"/livez", b"Secret-marker : 1"))
        self.assertNotIn(b"ecret", answer.body + json.dumps(answer.headers).encode())

    def test_every_split_of_a_request_is_the_same_request(self) -> None:
        data = chunked(b'3;x=y\r\n{"n\r\n4\r\n":3}\r\n0\r\nT: v\r\n\r\n')
        for cut in range(1, len(data), 1 if harness.FULL else 7):
            with socket.create_connection((self.daemon.host, self.daemon.port), timeout=10) as peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peer.sendall(data[:cut])
                time.sleep(0.001)
                peer.sendall(data[cut:])
                answer = harness.read_answer(peer)
            self.assertEqual(answer.status, 200, cut)
            self.assertEqual(len(answer.json["items"]), 3)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        data = b"".join(
            get(b"/livez", b"X-Request-Id: r%d" % i) if i % 2 else post(b'{"n":1}', b"X-Request-Id: r%d" % i)
            for i in range(20)
        )
        with socket.create_connection((self.daemon.host, self.daemon.port), timeout=10) as peer:
            peer.sendall(data + get(b"/livez", b"Connection: close", b"X-Request-Id: last"))
            received = b""
            while more := peer.recv(65536):
                received += more
        ids = [
            line.split(b": ")[1]
            for line in received.split(b"\r\n")
            if line.lower().startswith(b"x-request-id")
        ]
        self.assertEqual(ids, [b"r%d" % i for i in range(20)] + [b"last"])

    def test_100_continue_comes_before_the_body_and_only_where_there_will_be_one(self) -> None:
        with socket.create_connection((self.daemon.host, self.daemon.port), timeout=10) as peer:
            peer.sendall(post(b"{}", b"Expect: 100-continue")[:-2])
            self.assertEqual(peer.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            peer.sendall(b"{}")
            self.assertEqual(harness.read_answer(peer).status, 200)
        answer = self.daemon.raw(framed(b"Expect: 100-continue", b"Content-Length: 2000000", body=b""))
        self.assertEqual(answer.status, 413)

    def test_a_client_that_only_stops_sending_gets_its_answer(self) -> None:
        for body in [b"{}", b'{"user_id":"demo-scifi-1","n":3}']:
            for _ in range(20):
                answer = self.daemon.raw(post(body), ends=True)
                self.assertIsNotNone(answer)
                self.assertEqual(answer.status, 200, answer.body)
                contract.check_answer("/recommend", "POST", answer)

    def test_http_1_0_and_absolute_targets_are_served(self) -> None:
        self.assertEqual(self.daemon.raw(b"GET /livez HTTP/1.0" + END).status, 200)
        self.assertEqual(self.daemon.raw(get(b"http://elsewhere/livez?x=y")).status, 200)
        self.assertEqual(self.daemon.raw(b"\r\n" + get()).status, 200)

    def test_random_damage_to_a_request_never_gets_a_5xx(self) -> None:
        seed = 20_261_121
        dice = random.Random(seed)
        whole = post(
            json.dumps({"user_id": "demo-scifi-1", "n": 3, "filter": {"field": "year", "gte": 1990}}).encode()
        )
        for round_ in range(100 if harness.SLOW else 400):
            data = bytearray(whole)
            for _ in range(dice.randint(1, 3)):
                position = dice.randrange(len(data))
                match dice.randrange(3):
                    case 0:
                        data[position] = dice.randrange(256)
                    case 1:
                        del data[position : position + dice.randint(1, 8)]
                    case _:
                        data[position:position] = dice.randbytes(dice.randint(1, 4))
            # One in four never says that it has ended, and is left hanging by us.
            answer = self.daemon.raw(bytes(data), ends=round_ % 4 > 0, seconds=0.3 if round_ % 4 == 0 else 10)
            if answer is not None:
                self.assertIn(
                    answer.status,
                    {200, 400, 404, 405, 408, 413, 415, 417, 422, 501, 505},
                    f"seed {seed}, round {round_}",
                )
