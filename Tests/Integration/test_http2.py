"""HTTP/2 by prior knowledge: frames legal and not, floods, windows, time, the end, and other people's clients."""

import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import harness
import http2cases
import http2wire
from http2wire import (
    CALM,
    CONTINUATION,
    DATA,
    END_STREAM,
    HEADERS,
    NO_ERROR,
    PING,
    PRIORITY,
    SETTINGS,
    Client,
    fields,
    frame,
    get,
    literal,
    post,
    reset,
    setting,
    window,
)

PROBE = 1001
MARK = b"the end!"


def outcome(port: int, sent: bytes, expected: tuple, hello: bytes = http2wire.HELLO) -> Client:
    """What came of these bytes, once a request and a ping behind them were answered or the server has closed."""
    client = Client(port, hello)
    client.send(sent + get(PROBE) + frame(PING, 0, 0, MARK))
    probe = client.stream(PROBE)
    client.until(
        lambda: client.is_closed or MARK in client.acknowledged and (probe.has_ended or probe.reset is not None)
    )
    if expected[0] in ("stream", "status", "either"):
        stream = client.stream(expected[1])
        client.until(lambda: client.is_closed or stream.statuses or stream.reset is not None)
    client.socket.close()
    return client


def agrees(client: Client, expected: tuple) -> bool:
    goes_on = client.stream(PROBE).statuses == [200] and client.goaway is None
    match expected:
        case ("connection", codes):
            return client.goaway is not None and client.goaway[1] in codes and client.is_closed
        case ("stream", number, codes):
            return goes_on and client.stream(number).reset in codes
        case ("status", number, status):
            return goes_on and status in client.stream(number).statuses
        case ("either", number, codes):
            stream = client.stream(number)
            return goes_on and (stream.reset in codes or bool(codes & {*stream.statuses}))
        case _:
            return goes_on


class Frames(harness.Case):
    def test_every_sequence_ends_as_the_rfc_says(self) -> None:
        self.assertGreaterEqual(len(http2cases.CASES), 150)
        self.assertEqual(len({name for name, *_ in http2cases.CASES}), len(http2cases.CASES))
        for name, sent, expected in http2cases.CASES:
            with self.subTest(name):
                client = outcome(self.daemon.port, sent, expected)
                self.assertTrue(
                    agrees(client, expected), f"{expected}: {client.goaway} {client.streams} {client.is_closed}"
                )

    def test_a_greeting_is_whole_or_none(self) -> None:
        for name, sent, expected in http2cases.GREETINGS:
            with self.subTest(name):
                self.assertTrue(agrees(outcome(self.daemon.port, sent, expected, b""), expected))
        for start in [b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", b"PRI * HTTP/2.1\r\n\r\n", b"PRI / HTTP/2.0\r\n\r\n"]:
            answer = self.daemon.raw(start + frame(SETTINGS))
            self.assertIn(answer.status, [400, 505])
        self.assertEqual(
            self.daemon.raw(
                b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
            ).status,
            200,
        )

    def test_every_split_of_the_first_bytes_is_the_same_request(self) -> None:
        sent = http2wire.HELLO + get(1)
        for cut in [*range(1, 40), len(sent) - 1]:
            with Client(self.daemon.port, b"") as client:
                client.send(sent[:cut])
                time.sleep(0.002)
                client.send(sent[cut:])
                self.assertEqual(client.answer(1).statuses, [200], cut)


def floods() -> dict[str, bytes]:
    """14 ways to keep a server busy without getting on; each is one turn of many."""
    streams = range(1, 4000, 2)
    entry = literal(*fields()) + b"\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4000
    return {
        "ping": frame(PING, 0, 0, bytes(8)) * 4000,
        "settings": setting((4, 65535)) * 4000,
        "empty settings": frame(SETTINGS) * 4000,
        "priority": b"".join(frame(PRIORITY, 0, n, b"\0\0\0\0\x10") for n in streams) * 2,
        "window update": window(0, 1) * 4000,
        "unknown frames": frame(0x99, 0xFF, 5, b"x") * 4000,
        "empty data": post(1) + frame(DATA, 0, 1) * 4000,
        "padding": post(1) + frame(DATA, 8, 1, b"\xff" + bytes(255)) * 4000,
        "rapid reset": b"".join(get(n, b"/metrics") + reset(n) for n in streams),
        "made to reset": b"".join(get(n, b"/metrics") + window(n, 0x7FFFFFFF) for n in streams),
        "continuation": frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, literal((b"a", b"b")) * 100) * 4000,
        "empty continuation": frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1) * 4000,
        "header bomb": frame(HEADERS, 5, 1, entry)
        + b"".join(frame(HEADERS, 5, n, literal(*fields()) + b"\xbe" * 16000) for n in range(3, 99, 2)),
        "windows of 0": setting((4, 0)) + b"".join(get(n, b"/openapi.yaml") for n in streams),
    }


class Floods(harness.Case):
    def memory(self, daemon: harness.Daemon) -> int:
        text = Path(f"/proc/{daemon.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) * 1024

    def test_floods_end_or_are_bounded_and_others_are_served(self) -> None:
        daemon = self.start("--write-timeout-ms", "3000")
        self.assertGreaterEqual(len(floods()), 14)
        with Client(daemon.port) as other:
            self.assertEqual(other.answer(self.ask(other, 1)).statuses, [200])
            base = self.memory(daemon)
            for turn, (name, sent) in enumerate(floods().items()):
                with self.subTest(name), Client(daemon.port) as client:
                    sender = threading.Thread(target=client.send, args=(sent,))
                    sender.start()
                    self.assertEqual(other.answer(self.ask(other, 3 + 2 * turn)).statuses, [200])
                    client.until(lambda: client.is_closed, 20)
                    sender.join()
                    self.assertTrue(client.is_closed, client.goaway)
                    if client.goaway:  # It may be lost where the server closes while it is still sent to.
                        self.assertEqual(client.goaway[1], CALM)
                    if not harness.SLOW:
                        self.assertLess(self.memory(daemon) - base, 32 << 20)
        text = daemon.get("/metrics").body.decode()
        endings = dict(re.findall(r'recserver_http2_endings_total\{reason="(\w+)"\} (\d+)', text))
        self.assertGreaterEqual(int(endings["frames"]) + int(endings["resets"]), 10, endings)
        self.assertGreaterEqual(int(endings["headers"]), 1, endings)

    def ask(self, client: Client, number: int) -> int:
        client.send(get(number))
        return number


class Windows(harness.Case):
    def test_an_answer_follows_the_readers_windows(self) -> None:
        whole = self.daemon.get("/openapi.yaml").body
        with Client(self.daemon.port, http2wire.HELLO + setting((4, 0))) as client:
            client.send(get(1, b"/openapi.yaml") + get(3))
            stream = client.stream(1)
            got = 0
            for step in [1, 9, 90, 900, 9000, 90000, 900000]:
                client.send(window(1, step) + window(0, step))
                got = min(got + step, len(whole))
                self.assertTrue(client.until(lambda: len(stream.body) >= got), (step, len(stream.body)))
                client.send(frame(PING, 0, 0, b"%08d" % step))
                client.until(lambda: b"%08d" % step in client.acknowledged)
                self.assertEqual(len(stream.body), got)
            self.assertEqual(stream.body, whole)
            self.assertTrue(client.until(lambda: stream.has_ended))
            self.assertEqual(client.stream(3).statuses, [200])
            self.assertEqual(client.stream(3).body, b"")
            client.send(setting((4, 100)))
            self.assertEqual(client.answer(3).body, b"ok\n")

    def test_a_large_body_is_let_in_as_it_is_taken(self) -> None:
        body = b'{"user_id":"u","n":1,"exclude":[' + b",".join([b'"%0100d"' % n for n in range(9000)]) + b"]}"
        with Client(self.daemon.port) as client:
            client.send(post(1))
            sent, allowed = 0, 65536
            while sent < len(body):
                piece = body[sent : min(sent + 16384, allowed)]
                sent += len(piece)
                client.send(frame(DATA, END_STREAM if sent == len(body) else 0, 1, piece))
                while sent == allowed and sent < len(body):
                    self.assertTrue(client.receive())
                    opened = sum(int.from_bytes(p, "big") for k, _, n, p in client.frames if k == 8 and n == 1)
                    allowed = 65536 + opened
            self.assertIn(client.answer(1).statuses[0], [200, 400])

    def test_a_body_too_large_gets_its_answer_and_the_connection_goes_on(self) -> None:
        with Client(self.daemon.port) as client:
            client.send(post(1))
            for _ in range(4):
                client.send(frame(DATA, 0, 1, b" " * 16000))
            client.until(lambda: any(k == 8 and n == 1 for k, _, n, _ in client.frames))
            client.send(post(3, (b"content-length", b"9999999")) + get(5))
            self.assertEqual(client.answer(3).statuses, [413])
            self.assertIn(b"content-too-large", client.answer(3).body)
            self.assertEqual(client.answer(5).statuses, [200])
            self.assertTrue(client.until(lambda: client.stream(3).reset is not None))
            self.assertEqual(client.stream(3).reset, NO_ERROR)


class Times(harness.Case):
    def test_who_is_late_is_cut_and_idle_connections_end_politely(self) -> None:
        daemon = self.start(
            "--header-timeout-ms", "400", "--body-timeout-ms", "400", "--write-timeout-ms", "400",
            "--idle-timeout-ms", "700",
        )
        with Client(daemon.port) as half:  # A header block that does not end.
            half.send(get(1) + frame(HEADERS, 0, 3, literal(*fields())[:9]))
            self.assertTrue(half.until(lambda: half.is_closed))
            self.assertEqual(half.goaway[1], CALM)
            self.assertEqual(half.stream(1).statuses, [200])
        with Client(daemon.port) as late:
            late.send(post(1) + frame(DATA, 0, 1, b"{"))
            self.assertEqual(late.answer(1).statuses, [408])
            late.send(get(3))
            self.assertEqual(late.answer(3).statuses, [200])
        with Client(daemon.port, http2wire.HELLO + setting((4, 1))) as slow:
            slow.send(get(1))
            self.assertEqual(slow.answer(1).reset, 8)
            slow.send(get(3, method=b"HEAD"))
            self.assertEqual(slow.answer(3).statuses, [200])
            slow.until(lambda: slow.is_closed)
            self.assertEqual(slow.goaway, (3, NO_ERROR))
        with Client(daemon.port) as silent:
            self.assertTrue(silent.until(lambda: silent.is_closed))
            self.assertEqual(silent.goaway, (0, NO_ERROR))


class Ends(harness.Case):
    def test_a_drain_loses_no_request(self) -> None:
        """Eight connections ask on and on; at the end each has all its answers up to the last stream named."""
        daemon = self.start("--deadline-ms", "10000")
        lost: list[str] = []
        served = []

        def ask(number: int) -> None:
            with Client(daemon.port, http2wire.EAGER) as client:
                last = -1
                while client.goaway is None or client.goaway[0] == 0x7FFFFFFF:
                    for _ in range(5):
                        last += 2
                        client.send(get(last, b"/similar/film-00001"))
                    if not client.until(lambda: client.stream(last).has_ended or client.goaway is not None):
                        break
                    if client.goaway:
                        client.until(lambda: client.goaway[0] != 0x7FFFFFFF or client.stream(last).has_ended)
                client.until(lambda: client.is_closed)
                named = client.goaway[0] if client.goaway else -1
                for stream in range(1, min(named, last) + 1, 2):
                    if client.stream(stream).statuses != [200] or not client.stream(stream).has_ended:
                        lost.append(f"{number}: {stream} of {named}: {client.stream(stream)}")
                if not client.goaway or client.goaway[1] != NO_ERROR:
                    lost.append(f"{number}: {client.goaway}")
                served.append(len(client.streams))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        daemon.process.send_signal(signal.SIGTERM)
        daemon.is_ending = True
        for thread in threads:
            thread.join()
        self.assertEqual(lost, [])
        self.assertGreater(min(served), 5)

    def test_who_leaves_in_the_middle_leaves_nothing_behind(self) -> None:
        for n in range(20):
            with Client(self.daemon.port) as client:
                client.send(post(1) + b"".join(get(i, b"/similar/film-00001") for i in range(3, 40, 2)))
                client.send(frame(DATA, 0, 1, b"x" * n))
        self.assertEqual(self.daemon.get("/livez").status, 200)


class Clients(harness.Case):
    """Programs of other people; each is in deploy/setup's list for tests."""

    def output(self, *command: str) -> str:
        if not shutil.which(command[0]):
            self.skipTest(f"no {command[0]}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=harness.patience())
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def url(self, path: str) -> str:
        return f"http://{self.daemon.host}:{self.daemon.port}{path}"

    def test_curl_gets_the_same_over_both_versions(self) -> None:
        body = '{"user_id":"user-001","n":3,"now":1777000000}'
        for path, more in [("/similar/film-00001", []), ("/recommend", ["-d", body]), ("/nothing", [])]:
            answers = [
                self.output(
                    "curl", "-s", version, "-w", "\n%{http_version} %{http_code} %{content_type}",
                    "-H", "Content-Type: application/json", *more, self.url(path),
                )
                for version in ("--http2-prior-knowledge", "--http1.1")
            ]
            new, old = [re.sub(r'"(recommendation_id|request_id|instance|trace_id)":"[^"]*"', "", a) for a in answers]
            self.assertIn("\n2 ", new)
            names = [sorted(re.findall(r'"(\w+)":', a)) for a in (new, old)]
            self.assertEqual(names[0], names[1])
            self.assertEqual(new.rsplit("\n2 ", 1)[1], old.rsplit("\n1.1 ", 1)[1])

    def test_nghttp_finds_nothing_to_complain_about(self) -> None:
        text = self.output("nghttp", "-nv", "--no-dep", *[self.url("/livez")] * 2, self.url("/openapi.yaml"))
        self.assertEqual(len(re.findall(r":status: 200", text)), 3, text)
        self.assertNotRegex(text, r"INVALID|recv RST_STREAM|recv GOAWAY|ERROR\(0x0[1-9a-f]")

    def test_h2load_with_hundreds_of_streams_gets_every_answer(self) -> None:
        text = self.output("h2load", "-n", "4000", "-c", "8", "-m", "100", self.url("/livez"))
        self.assertIn("4000 succeeded, 0 failed, 0 errored, 0 timeout", text)

    def test_the_h2_package_agrees_with_every_frame(self) -> None:
        import h2.config
        import h2.connection
        import h2.events

        peer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        peer.initiate_connection()
        with Client(self.daemon.port, b"") as client:
            asked, ended, data = set(), set(), {}
            for n in range(30):
                stream = peer.get_next_available_stream_id()
                asked.add(stream)
                path = ["/livez", "/openapi.yaml", "/nothing", "/metrics"][n % 4]
                peer.send_headers(
                    stream,
                    [(":method", "GET"), (":path", path), (":scheme", "http"), (":authority", "x"), ("x-n", str(n))],
                    end_stream=True,
                )
            while ended != asked:
                client.send(peer.data_to_send())
                received = client.socket.recv(65536)
                self.assertTrue(received)
                for event in peer.receive_data(received):
                    if isinstance(event, h2.events.DataReceived):
                        data[event.stream_id] = data.get(event.stream_id, b"") + event.data
                        peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        ended.add(event.stream_id)
                    self.assertNotIsInstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated))
            self.assertEqual(data[3], self.daemon.get("/openapi.yaml").body)
