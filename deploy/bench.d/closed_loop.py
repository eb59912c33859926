"""Servers under measurement and the closed-loop client: standard library only.

The measure is CPU time of the server's whole process tree per answered request, so that the client on another core
and the pauses between requests do not count.
"""

import http.client
import os
import re
import selectors
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field

TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """A process listening on 127.0.0.1, pinned to one core."""

    def __init__(self, name: str, command: list[str], cpu: int | str, log: str, env=None, cwd=None, port=None):
        self.name, self.port, self.log = name, port, log
        self.out = open(log, "wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(cpu), *command], stdout=self.out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True)

    def wait_ready(self, seconds: float = 300):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            if self.port is None:
                with open(self.log, errors="replace") as log:
                    found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read())
                self.port = int(found[1]) if found else None
            if self.port is not None:
                try:
                    if self.get("/readyz")[0] == 200:
                        return self
                except OSError:
                    pass
            time.sleep(0.1)
        with open(self.log, errors="replace") as log:
            tail = log.read()[-2000:]
        self.stop()
        raise SystemExit(f"{self.name} did not become ready:\n{tail}")

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        lines = self.get("/metrics")[1].splitlines()
        return {k: float(v) for k, v in (line.rsplit(" ", 1) for line in lines if line and line[0] != "#")}

    def processes(self) -> list[int]:
        """The process and its descendants."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as stat:
                        parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                except OSError:
                    continue
                children.setdefault(parent, []).append(int(entry))
        found = [self.process.pid]
        for process in found:
            found += children.get(process, [])
        return found

    def cpu_seconds(self) -> tuple[float, float]:
        """User and system time of the tree: of its threads to the nanosecond, and of all it ever had in ticks."""
        return sum(self.thread_seconds("", process) for process in self.processes()), self.ticked_seconds()

    def ticked_seconds(self) -> float:
        total = 0
        for process in self.processes():
            try:
                with open(f"/proc/{process}/stat") as stat:
                    total += sum(int(x) for x in stat.read().rsplit(")", 1)[1].split()[11:15])
            except OSError:
                continue
        return total / TICK

    def thread_seconds(self, prefix: str, process: int | None = None) -> float:
        """CPU time of a process's threads whose names begin so, to the nanosecond."""
        total = 0
        folder = f"/proc/{process or self.process.pid}/task"
        for thread in os.listdir(folder):
            try:
                with open(f"{folder}/{thread}/comm") as name:
                    if not name.read().startswith(prefix):
                        continue
                with open(f"{folder}/{thread}/schedstat") as stat:
                    total += int(stat.read().split()[0])
            except OSError:
                continue
        return total / 1e9

    def resident_mib(self) -> float:
        total = 0
        for process in self.processes():
            try:
                with open(f"/proc/{process}/status") as status:
                    found = re.search(r"VmRSS:\s+(\d+)", status.read())
                total += int(found[1]) if found else 0
            except OSError:
                continue
        return total / 1024

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.out.close()


@dataclass
class Round:
    """What one turn of a server cost."""

    requests: int = 0
    seconds: float = 0
    cpu_seconds: float = 0
    failed: int = 0
    degraded: int = 0
    cache: dict = field(default_factory=dict)
    latencies: list = field(default_factory=list)

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_seconds / max(1, self.requests)

    def summary(self) -> dict:
        ordered = sorted(self.latencies) or [0]
        return {
            "requests": self.requests, "seconds": round(self.seconds, 3), "cpu_ms_per_request": round(self.cpu_ms, 4),
            "failed": self.failed, "degraded": self.degraded, "cache": self.cache,
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 3),
            "p99_ms": round(1000 * ordered[int(len(ordered) * 0.99)], 3),
        }


class Connection:
    """A keep-alive connection with at most one request in flight."""

    # Servers end a connection after so many requests; the client goes first.
    REQUESTS = 5_000

    def __init__(self, port: int):
        self.left = self.REQUESTS
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.sent = bytearray(), 0.0

    def send(self, request: bytes):
        self.left -= 1
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self):
        """(status, body) once the answer is whole, else None."""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self.buffer += chunk
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self.buffer[:head])
        end = head + 4 + int(length[1])
        if len(self.buffer) < end:
            return None
        status, body = int(self.buffer[9:12]), bytes(self.buffer[head + 4:end])
        del self.buffer[:end]
        return status, body


def encode(body: bytes) -> bytes:
    return (b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode() + b"\r\n\r\n" + body)


def closed_loop(server: Server, bodies: list[bytes], start: int = 0, seconds: float | None = None,
                connections: int = 1, keep: list | None = None) -> Round:
    """Sends `bodies` in turn from `start`: for some seconds, or each once; appends the answers to `keep`."""
    result, place = Round(), start
    limit = None if seconds is not None else len(bodies)
    encoded: dict[int, bytes] = {}
    selector = selectors.DefaultSelector()

    def send_next(connection: Connection) -> bool:
        nonlocal place
        if limit is not None and place - start >= limit:
            return False
        index = place % len(bodies)
        place += 1
        if index not in encoded:
            encoded[index] = encode(bodies[index])
        connection.send(encoded[index])
        return True

    opened = [Connection(server.port) for _ in range(connections)]
    cpu, began = server.cpu_seconds(), time.perf_counter()
    end = began + seconds if seconds is not None else None
    active = 0
    for connection in opened:
        if send_next(connection):
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            active += 1
    while active:
        for key, _ in selector.select(30):
            connection = key.data
            answer = connection.receive()
            if answer is None:
                continue
            now = time.perf_counter()
            result.requests += 1
            result.latencies.append(now - connection.sent)
            count(result, *answer)
            if keep is not None:
                keep.append(answer[1])
            if connection.left == 0:
                selector.unregister(connection.socket)
                connection.socket.close()
                opened.remove(connection)
                connection = Connection(server.port)
                opened.append(connection)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
            if (end is not None and now >= end) or not send_next(connection):
                selector.unregister(connection.socket)
                active -= 1
    result.seconds = time.perf_counter() - began
    result.cpu_seconds = spent(cpu, server.cpu_seconds())
    for connection in opened:
        connection.socket.close()
    return result


def spent(before: tuple[float, float], after: tuple[float, float]) -> float:
    """The exact difference, or the ticks where a thread ended and took its share along."""
    exact, ticked = (b - a for a, b in zip(before, after))
    return exact if abs(exact - ticked) <= 0.03 + 0.02 * ticked else ticked


DEGRADED = re.compile(rb'"degraded":\["')
CACHE = re.compile(rb'"cache":"(\w+)"')


def count(result: Round, status: int, body: bytes):
    if status != 200:
        result.failed += 1
        return
    if DEGRADED.search(body):
        result.degraded += 1
    found = CACHE.search(body)
    name = found[1].decode() if found else "none"
    result.cache[name] = result.cache.get(name, 0) + 1
