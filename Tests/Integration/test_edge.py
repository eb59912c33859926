"""Where the daemon listens and for whom: Unix sockets, inherited ones, proxies, other origins, compression."""

import gzip
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import unittest
import zlib
from pathlib import Path
from typing import Any

import contract
import harness
from harness import BINARY, DEMO, SCRATCH, Answer, Daemon

EVENT = {"user_id": "u1", "item_id": "film-00001", "action": "watch", "timestamp": harness.NOW}
LONG = {"n": 100, "now": harness.NOW, "deadline_ms": 10_000}
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(source: str, command: int = 0x21, additions: bytes = b"") -> bytes:
    """A PROXY header of version 2 for a connection from `source`."""
    is_v6 = ":" in source
    packed = socket.inet_pton(socket.AF_INET6 if is_v6 else socket.AF_INET, source)
    body = packed + bytes(len(packed)) + struct.pack(">HH", 12345, 80) + additions
    return SIGNATURE + bytes([command, 0x21 if is_v6 else 0x11]) + struct.pack(">H", len(body)) + body


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


class Edge(harness.Case):
    def metric(self, daemon: Daemon, name: str) -> float:
        lines = daemon.get("/metrics").body.decode().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))

    def curl(self, *arguments: str) -> bytes:
        done = subprocess.run(
            ["curl", "-sS", "--fail", "-m", "30", *arguments], capture_output=True, timeout=harness.patience()
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    # Unix sockets and systemd

    def test_unix_socket_serves_local_peers_and_leaves_nothing(self) -> None:
        path = SCRATCH / "edge.sock"
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(path))
        stale.close()
        daemon = self.start(
            "--unix-socket", str(path), "--loops", "2", "--state-dir", str(SCRATCH / "edge-state"), "--rate-per-address", "1000"
        )
        self.assertEqual(path.stat().st_mode & 0o7777, 0o660)
        for _ in range(4):
            self.assertEqual(self.curl("--unix-socket", str(path), "http://localhost/livez"), b"ok\n")
        posted = self.curl(
            "--unix-socket", str(path), "-H", "Content-Type: application/json", "-d", json.dumps([EVENT]), "http://localhost/events"
        )
        self.assertEqual(json.loads(posted)["stored"], 1)
        # A second daemon does not take the name of one that listens.
        second = harness.run("serve", "--bundle", str(DEMO), "--port", "0", "--unix-socket", str(path))
        self.assertEqual(second.returncode, 1, second.stderr)
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(path.exists())

    def test_sockets_of_systemd_take_the_place_of_those_set(self) -> None:
        http, admin = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
        port, admin_port = http.getsockname()[1], admin.getsockname()[1]
        # As systemd does: descriptors from 3 on, and the pid of the process that is to take them.
        launcher = (
            "import fcntl, os, sys\n"
            "first, second = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])\n"
            "os.dup2(first, 3); os.dup2(second, 4)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='http:admin')\n"
            "os.execv(sys.argv[3], sys.argv[3:])\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", launcher, str(http.fileno()), str(admin.fileno()), BINARY, "serve", "--bundle", str(DEMO)]
            + ["--port", "1", "--index-cache", str(SCRATCH / "indexes")],
            pass_fds=[http.fileno(), admin.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=harness.clean_environment(),
        )
        try:
            # The kernel has the connection before the process listens.
            with socket.create_connection(("127.0.0.1", port), timeout=harness.patience()) as early:
                early.sendall(get("/livez"))
                lines = [process.stdout.readline().decode() for _ in range(2)]
                self.assertIn(f"listening on http://127.0.0.1:{port}", lines[0])
                self.assertIn(f"admin listening on http://127.0.0.1:{admin_port}", lines[1])
                self.assertEqual(harness.read_answer(early).status, 200)
            self.curl("--retry", "20", "--retry-delay", "1", f"http://127.0.0.1:{admin_port}/bundles")
        finally:
            process.terminate()
            self.assertEqual(process.wait(harness.patience()), 0)
            process.stdout.close()
        # They are not the daemon's to close: who connects now waits for the next one.
        socket.create_connection(("127.0.0.1", port)).close()
        http.close()
        admin.close()

    def test_systemd_socket_activate(self) -> None:
        tool = shutil.which("systemd-socket-activate")
        if tool is None:
            self.skipTest("systemd-socket-activate is not installed")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        process = subprocess.Popen(
            [tool, "-l", f"127.0.0.1:{port}", "--fdname=http", BINARY, "serve", "--bundle", str(DEMO)]
            + ["--index-cache", str(SCRATCH / "indexes")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=harness.clean_environment(),
        )
        try:
            answer = self.curl("--retry", "50", "--retry-connrefused", "--retry-delay", "1", f"http://127.0.0.1:{port}/livez")
            self.assertEqual(answer, b"ok\n")
        finally:
            process.terminate()
            self.assertEqual(process.wait(harness.patience()), 0)

    def test_wrong_settings_end_the_start(self) -> None:
        for flags, word in [
            (["--trusted-proxies", "10.0.0.1/8"], "trusted_proxies"),
            (["--proxy-protocol", "required"], "trusted_proxies"),
            (["--cors-origins", "shop.example"], "cors_origins"),
            (["--port", "-1"], "unix_socket"),
        ]:
            ended = harness.run("serve", "--bundle", str(DEMO), *flags)
            self.assertEqual((ended.returncode, word in ended.stderr), (2, True), ended.stderr)
        long = harness.run("serve", "--bundle", str(DEMO), "--port", "0", "--unix-socket", "/tmp/" + "a" * 120)
        self.assertEqual(long.returncode, 1, long.stderr)

    # Proxies

    def test_proxy_header_names_the_client(self) -> None:
        state, log = SCRATCH / "edge-proxy-state", SCRATCH / "edge-access.log"
        daemon = self.start(
            *("--proxy-protocol", "required", "--trusted-proxies", "127.0.0.1", "--state-dir", str(state)),
            *("--rate-per-address", "1", "--access-log", str(log), "--admin-port", "0"),
            wait=False,
        )
        self.assertIn("admin", daemon.process.stdout.readline().decode())

        def ask(header: bytes, request: bytes = get("/similar/film-00001")) -> Answer | None:
            return daemon.raw(header + request)

        limit = harness.time.monotonic() + harness.patience()
        while ask(proxy_header("203.0.113.1"), get("/readyz")).status != 200:
            self.assertLess(harness.time.monotonic(), limit)
        self.assertEqual(ask(proxy_header("203.0.113.9")).status, 200)
        self.assertEqual(ask(proxy_header("203.0.113.9")).status, 429)
        self.assertEqual(ask(proxy_header("2001:db8::9", additions=b"\x20\0\1a")).status, 200)
        # What the proxy says itself, and an address of this machine, give no rights of this machine.
        body = json.dumps([EVENT]).encode()
        post = b"POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        for header in [proxy_header("127.0.0.2"), proxy_header("203.0.113.9", command=0x20)]:
            contract.check_problem(ask(header, post % len(body) + body), "forbidden", 403)
        for wrong in [b"", b"PROXY TCP4 203.0.113.9 127.0.0.1 1 80\r\n", SIGNATURE + b"\x31\x11\0\x0c" + bytes(12)]:
            self.assertIsNone(ask(wrong))
        done = subprocess.run(
            ["curl", "-sS", "-m", "10", "--haproxy-protocol", f"http://{daemon.host}:{daemon.port}/livez"], capture_output=True
        )
        self.assertNotEqual(done.returncode, 0)
        text = ask(proxy_header("203.0.113.1"), get("/metrics", "Connection: close")).body.decode()
        self.assertIn("recserver_proxy_headers_refused_total 4\n", text)

    def test_forwarded_addresses_count_from_listed_proxies_alone(self) -> None:
        flags = ["--rate-per-address", "1", "--state-dir", str(SCRATCH / "edge-forwarded-state")]
        daemon = self.start(*flags, "--trusted-proxies", "127.0.0.0/8,10.0.0.0/8")
        path = "/similar/film-00001"

        def ask(daemon: Daemon, *values: str) -> int:
            return daemon.raw(get(path, *(f"X-Forwarded-For: {value}" for value in values))).status

        self.assertEqual(ask(daemon, "198.51.100.1, 203.0.113.1, 10.0.0.1"), 200)
        self.assertEqual(ask(daemon, "198.51.100.2", "203.0.113.1"), 429)
        self.assertEqual(ask(daemon, "203.0.113.1, 203.0.113.2"), 200)
        self.assertEqual(ask(daemon, "203.0.113.3, unknown"), 200)
        self.assertEqual(ask(daemon, "203.0.113.4, 203.0.113.5:80"), 429)
        answer = daemon.send("POST", "/events", [EVENT], X_Forwarded_For="127.0.0.9")
        contract.check_problem(answer, "forbidden", 403)
        open_to_all = self.start("--rate-per-address", "1")
        self.assertEqual(ask(open_to_all, "203.0.113.1"), 200)
        self.assertEqual(ask(open_to_all, "203.0.113.2"), 429)

    def test_connections_of_an_address_are_limited_and_idle_ones_make_place(self) -> None:
        path = SCRATCH / "edge-limit.sock"
        daemon = self.start("--connections-per-address", "3", "--unix-socket", str(path))
        held = [socket.create_connection((daemon.host, daemon.port)) for _ in range(3)]
        try:
            for peer in held:
                peer.sendall(get("/livez"))
                self.assertEqual(harness.read_answer(peer).status, 200)
            contract.check_problem(daemon.raw(b""), "overloaded", 503)
            self.assertEqual(self.curl("--unix-socket", str(path), "http://localhost/livez"), b"ok\n")
        finally:
            for peer in held:
                peer.close()
        few = self.start("--connections-max", "3")
        held = [socket.create_connection((few.host, few.port)) for _ in range(3)]
        try:
            for peer in held:
                peer.sendall(get("/livez"))
                self.assertEqual(harness.read_answer(peer).status, 200)
            # One second: then they count as idle.
            harness.time.sleep(1.1)
            self.assertEqual(few.get("/livez").status, 200)
            self.assertIsNone(harness.read_answer(held[0]))
            self.assertEqual(self.metric(few, "recserver_connections_displaced_total"), 1)
        finally:
            for peer in held:
                peer.close()

    # Other origins

    def test_options_tell_the_methods_of_every_path(self) -> None:
        for path, item in contract.document()["paths"].items():
            concrete = path.replace("{item_id}", "film-00001").replace("{user_id}", "u").replace("{event_id}", "e")
            answer = self.daemon.request("OPTIONS", concrete)
            self.assertEqual((answer.status, answer.body), (204, b""), path)
            allowed = set(answer.headers["allow"].split(", "))
            named = {method.upper() for method in item if method in ("get", "post", "put", "patch", "delete")}
            self.assertEqual(allowed - {"HEAD", "OPTIONS"}, named, path)
            self.assertEqual("HEAD" in allowed, "GET" in named)
            self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertIn("PATCH", self.daemon.request("OPTIONS", "*").headers["allow"])
        contract.check_problem(self.daemon.request("OPTIONS", "/nowhere"), "not-found", 404)
        refused = self.daemon.request("TRACE", "/livez")
        self.assertEqual((refused.status, refused.headers["allow"]), (405, "GET, HEAD, OPTIONS"))

    def test_pages_of_listed_origins_may_read(self) -> None:
        daemon = self.start("--cors-origins", "https://shop.example", "--state-dir", str(SCRATCH / "edge-cors-state"))
        mine = {"Origin": "https://shop.example"}
        asked = daemon.request("OPTIONS", "/recommend", headers=mine | {"Access-Control-Request-Method": "POST"})
        self.assertEqual(asked.status, 204)
        self.assertEqual(asked.headers["access-control-allow-origin"], "https://shop.example")
        self.assertEqual(asked.headers["access-control-allow-methods"], "POST, OPTIONS")
        self.assertIn("X-Api-Key", asked.headers["access-control-allow-headers"])
        for path, status in [("/similar/film-00001", 200), ("/nowhere", 404), ("/livez", 200)]:
            for origin in ["https://shop.example", "https://other.example"]:
                answer = daemon.request("GET", path, headers={"Origin": origin})
                self.assertEqual(answer.status, status)
                shown = answer.headers.get("access-control-allow-origin")
                self.assertEqual(shown, origin if "shop" in origin else None)
                self.assertIn("Origin", answer.headers["vary"])
                self.assertNotIn("access-control-allow-credentials", answer.headers)
        # A page is not a program on this machine.
        answer = daemon.send("POST", "/events", [EVENT], **mine)
        contract.check_problem(answer, "forbidden", 403)

    # Compression

    def test_answers_are_compressed_as_the_client_likes(self) -> None:
        url = f"http://{self.daemon.host}:{self.daemon.port}"
        plain = self.daemon.post(LONG)
        self.assertGreater(len(plain.body), 4_000)
        self.assertNotIn("content-encoding", plain.headers)
        self.assertEqual(plain.headers["vary"], "Accept-Encoding")
        coded = self.daemon.post(LONG, Accept_Encoding="gzip")
        self.assertEqual(coded.headers["content-encoding"], "gzip")
        self.assertEqual(int(coded.headers["content-length"]), len(coded.body))
        self.assertLess(len(coded.body), len(plain.body) * 0.6)
        self.assertEqual(json.loads(gzip.decompress(coded.body))["items"], plain.json["items"])
        small = self.daemon.post(LONG, Accept_Encoding="gzip;q=0.5, zstd")
        self.assertEqual(small.headers["content-encoding"], "zstd")
        done = subprocess.run(["zstd", "-dc"], input=small.body, capture_output=True)
        self.assertEqual(json.loads(done.stdout)["items"], plain.json["items"])
        data = ["-H", "Content-Type: application/json", "-d", json.dumps(LONG), f"{url}/recommend"]
        self.assertEqual(json.loads(self.curl("--compressed", *data))["items"], plain.json["items"])
        self.assertNotIn("content-encoding", self.daemon.post({"n": 1}, Accept_Encoding="gzip").headers)
        for wanted in ["identity", "br", "gzip;q=0", "*;q=0", "gzip;q=9"]:
            self.assertNotIn("content-encoding", self.daemon.post(LONG, Accept_Encoding=wanted).headers)

    def test_metrics_and_the_contract_are_compressed_and_head_says_the_same(self) -> None:
        yaml = contract.PATH.read_bytes()
        for path in ["/openapi.yaml", "/metrics"]:
            answer = self.daemon.get(path, Accept_Encoding="gzip")
            self.assertEqual(answer.headers["content-encoding"], "gzip")
            self.assertEqual(gzip.decompress(answer.body) == yaml, path == "/openapi.yaml")
        head = self.daemon.request("HEAD", "/openapi.yaml", headers={"Accept-Encoding": "gzip"})
        whole = self.daemon.get("/openapi.yaml", Accept_Encoding="gzip")
        self.assertEqual(head.headers["content-length"], whole.headers["content-length"])
        self.assertEqual(head.headers["content-encoding"], "gzip")
        off = self.start("--compression", "off")
        for answer in [off.get("/openapi.yaml", Accept_Encoding="gzip"), off.post(LONG, Accept_Encoding="zstd")]:
            self.assertNotIn("content-encoding", answer.headers)
            self.assertNotIn("vary", answer.headers)

    def test_bodies_in_gzip_are_taken_within_their_limits(self) -> None:
        state = SCRATCH / "edge-gzip-state"
        daemon = self.start("--body-max", "4096", "--events-body-max", "100000", "--state-dir", str(state))

        def send(path: str, body: bytes, **headers: str) -> Answer:
            return daemon.send("POST", path, body, **({"Content_Encoding": "gzip"} | headers))

        request = json.dumps(LONG).encode()
        self.assertEqual(len(send("/recommend", gzip.compress(request)).json["items"]), 100)
        batch = gzip.compress((request + b"\n") * 3)
        answer = send("/recommend", batch, Content_Type="application/x-ndjson")
        self.assertEqual((answer.status, answer.body.count(b"\n")), (200, 3))
        events = json.dumps([EVENT | {"event_id": f"e{n}"} for n in range(500)]).encode()
        self.assertGreater(len(events), 4096)
        self.assertEqual(send("/events", gzip.compress(events)).json["stored"], 500)
        features = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        stored = daemon.request("PUT", "/users/u2", gzip.compress(b'{"features":{}}'), features)
        self.assertLess(stored.status, 300, stored.body)
        for path, body in [
            ("/recommend", request + b" " * 4096),
            ("/events", bytes(100_001)),
            ("/events", bytes(8 << 20)),
        ]:
            contract.check_problem(send(path, gzip.compress(body)), "content-too-large", 413)
        whole = gzip.compress(request)
        for damaged in [whole[:-1], whole + b"x", b"{}", whole[:-5] + b"abcde", zlib.compress(request)]:
            contract.check_problem(send("/recommend", damaged), "bad-request", 400)
        for coding in ["br", "zstd", "deflate", "gzip, gzip"]:
            refused = send("/recommend", whole, Content_Encoding=coding)
            contract.check_problem(refused, "unsupported-content-coding", 415)
            self.assertEqual(refused.headers["accept-encoding"], "gzip")
        self.assertEqual(daemon.get("/livez", Content_Encoding="br").status, 200)


if __name__ == "__main__":
    unittest.main()
