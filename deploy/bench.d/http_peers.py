"""Tiny answers against nginx, h2o, nghttpd and a bare epoll loop; and the same beside idle and slow connections.

All servers run one thread on core 0 and alternate in every round. The measure is the server's own processor time
for a request, from /proc/PID/task/*/schedstat. Usage: http_peers.py --recserver PATH --floor PATH --bundle DIR [--rounds N]
[--seconds N] [--only WORDS] [--out FILE]
"""

import argparse
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
PATH = "/version"
SERVER_CORE, LOAD_CORE = "0", "1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A process under test, with its workers; stopped by its id."""

    def __init__(self, name: str, command: list[str], port: int, path: str = PATH, log: Path | None = None) -> None:
        self.name, self.port, self.path = name, port, path
        out = open(log, "wb") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def seconds(self) -> float:
        """Processor time of all threads so far."""
        total = 0
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def wait(self, path: str = "") -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path or self.path}", timeout=5) as answer:
                    if answer.status == 200:
                        return
            time.sleep(0.1)
        raise SystemExit(f"{self.name} did not start")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def raw_answer(port: int, path: str) -> bytes:
    """One whole answer as it is on the wire."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        data = b""
        while True:
            data += peer.recv(65536)
            head, found, body = data.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if found and length and len(body) >= int(length[1]):
                return data


def wrk(server: Server, seconds: float, core: str, *flags: str) -> int:
    """Requests answered by a closed loop over 64 connections."""
    script = flags and ("-s", flags[0], server.url, "--", *flags[1:]) or (server.url,)
    done = subprocess.run(
        ["taskset", "-c", core, "wrk", "-t1", "-c64", f"-d{max(1, round(seconds))}s", "--timeout", "10s", *script],
        capture_output=True, text=True, check=True,
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        print(f"# {server.name}: {done}", file=sys.stderr)
    return int(re.search(r"(\d+) requests in", done)[1])


def h2load(server: Server, seconds: float) -> int:
    done = subprocess.run(
        ["taskset", "-c", LOAD_CORE, "h2load", "-t1", "-c8", "-m100", f"-D{max(1, round(seconds))}", server.url],
        capture_output=True, text=True, check=True,
    ).stdout
    return int(re.search(r"(\d+) succeeded", done)[1])


class Report:
    """Prints one line for each goal and remembers whether one was missed."""

    def __init__(self) -> None:
        self.missed = False
        self.raw: dict[str, object] = {}

    def line(self, name: str, value: float, goal: float, text: str = "", at_least: bool = False) -> None:
        met = value >= goal if at_least else value <= goal
        self.missed |= not met
        sign = ">=" if at_least else "<="
        print(f"{name} {value:.3f} {sign}{goal} {'met' if met else 'missed'}{'  # ' + text if text else ''}", flush=True)


def alternate(servers: list[Server], rounds: int, load) -> dict[str, list[float]]:
    """Processor microseconds for a request, server by server in turn, round by round."""
    costs: dict[str, list[float]] = {server.name: [] for server in servers}
    for server in servers:
        load(server, 1)
    for number in range(rounds):
        # Each round begins with another server, so that none always follows the same one.
        for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
            before = server.seconds()
            requests = load(server, None)
            costs[server.name].append(1e6 * (server.seconds() - before) / max(requests, 1))
    return costs


def medians(costs: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in costs.items()}


def ratio(costs: dict[str, list[float]], ours: str, theirs: str) -> float:
    """The median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(costs[ours], costs[theirs]))


def costs_text(costs: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in medians(costs).items()) + " us/request"


def tiny_answers(report: Report, options, ours: Server, servers: dict[str, Server]) -> None:
    peers = [ours, *servers.values()]
    layouts = {
        "separate": lambda s, t: wrk(s, t or options.seconds, LOAD_CORE),
        "one_core": lambda s, t: wrk(s, t or options.seconds, SERVER_CORE),
        "pipeline": lambda s, t: wrk(s, t or options.seconds, LOAD_CORE, str(HERE / "pipeline.lua"), "16"),
    }
    goals = {"separate": 0.90, "one_core": 0.80, "pipeline": 0.15}
    for layout, load in layouts.items():
        costs = alternate(peers, options.rounds, load)
        report.raw[layout] = costs
        report.line(f"H1.{layout}.nginx", ratio(costs, "recserver", "nginx"), goals[layout], costs_text(costs))
        if layout == "separate":
            report.line("H1.separate.h2o", ratio(costs, "recserver", "h2o"), 1.0)
        print(f"H1.{layout}.floor {ratio(costs, 'recserver', 'floor'):.3f}", flush=True)


def system_calls(report: Report, options, ours: Server) -> None:
    def traced(*flags: str) -> float:
        with tempfile.NamedTemporaryFile("r") as out:
            tracer = subprocess.Popen(
                ["strace", "-c", "-f", "-o", out.name, "-p", str(ours.process.pid)], stderr=subprocess.DEVNULL
            )
            time.sleep(0.5)
            requests = wrk(ours, options.seconds, LOAD_CORE, *flags)
            tracer.send_signal(2)
            tracer.wait()
            calls = next((line.split() for line in out if line.rstrip().endswith("total")), None)
            # "100.00 seconds usecs calls [errors] total"
            return int(calls[3]) / max(requests, 1) if calls else float("nan")

    report.line("H2.single", traced(), 2.1, "system calls per request")
    report.line("H2.pipeline", traced(str(HERE / "pipeline.lua"), "16"), 0.15, "system calls per request")


def http2(report: Report, options, ours: Server, body: bytes, work: Path) -> None:
    root = work / "htdocs"
    root.mkdir()
    (root / PATH[1:]).write_bytes(body)
    port = free_port()
    peer = Server("nghttpd", ["nghttpd", "--no-tls", "-a", "127.0.0.1", "-n1", "-d", str(root), str(port)], port)
    try:
        time.sleep(1)
        with contextlib.suppress(subprocess.CalledProcessError):
            if h2load(ours, 1) > 0:
                costs = alternate([ours, peer], options.rounds, lambda s, t: h2load(s, t or options.seconds))
                report.raw["h2c"] = costs
                report.line("H3.h2c.nghttpd", ratio(costs, "recserver", "nghttpd"), 1.0, costs_text(costs))
                return
        report.line("H3.h2c.nghttpd", float("inf"), 1.0, "no HTTP/2 on this listener")
    finally:
        peer.stop()


class Crowd:
    """Idle and slow connections, from many loopback addresses; the slow ones send a byte of a head now and then."""

    HEAD = b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " + b"x" * 4000

    def __init__(self, port: int, idle: int, slow: int) -> None:
        self.idle = [self.connect(port, n) for n in range(idle)]
        self.slow = [self.connect(port, n) for n in range(slow)]
        self.sent = [0] * slow
        self.port, self.lost = port, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.drip)
        self.thread.start()

    @staticmethod
    def connect(port: int, number: int) -> socket.socket:
        peer = socket.socket()
        peer.settimeout(10)
        peer.bind((f"127.0.{1 + number % 100}.{1 + number // 100 % 200}", 0))
        peer.connect(("127.0.0.1", port))
        return peer

    def drip(self) -> None:
        while not self.ended.wait(2):
            for n, peer in enumerate(self.slow):
                if self.ended.is_set():
                    return
                try:
                    peer.send(self.HEAD[self.sent[n] : self.sent[n] + 1])
                    self.sent[n] += 1
                except OSError:  # Cut for being slow: another takes its place.
                    self.lost += 1
                    peer.close()
                    self.slow[n], self.sent[n] = self.connect(self.port, n), 0

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        for peer in self.idle + self.slow:
            peer.close()


def resident(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def crowds(report: Report, options, ours: Server) -> None:
    pid = ours.process.pid
    wrk(ours, 1, LOAD_CORE)
    base, base_fds = resident(pid), descriptors(pid)
    crowd = Crowd(ours.port, options.idle, 0)
    time.sleep(1)
    per = (resident(pid) - base) / options.idle / 1024
    report.line("H4.idle_kib", per, 8, f"resident KiB for each of {options.idle} idle connections")
    crowd.close()
    time.sleep(1)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(max(2, options.rounds // 2)):
        alone.append(wrk(ours, options.seconds, LOAD_CORE) / options.seconds)
        crowd = Crowd(ours.port, options.idle, options.slow)
        beside.append(wrk(ours, options.seconds, LOAD_CORE) / options.seconds)
        crowd.close()
        time.sleep(0.5)
    report.raw["crowd"] = {"alone": alone, "beside": beside}
    report.line(
        "H4.throughput", statistics.median(b / a for a, b in zip(alone, beside)), 0.95,
        f"beside {options.idle} idle and {options.slow} slow: {statistics.median(beside):.0f}/s of "
        f"{statistics.median(alone):.0f}/s", at_least=True,
    )
    flood = 0
    while flood < 20_000:
        peers = [Crowd.connect(ours.port, n) for n in range(2_000)]
        flood += len(peers)
        for peer in peers:
            peer.close()
    limit = time.monotonic() + 5
    while descriptors(pid) > base_fds and time.monotonic() < limit:
        time.sleep(0.05)
    report.line("H4.flood_descriptors", descriptors(pid) - base_fds, 0, "left 5 s after 20000 connections")


def start_all(options, work: Path, stack: contextlib.ExitStack) -> tuple[Server, dict[str, Server], bytes]:
    port = free_port()
    ours = Server(
        "recserver",
        [options.recserver, "serve", "--bundle", str(options.bundle), "--index-cache", str(work / "index"),
         "--port", str(port), "--loops", "1", "--connections-max", "19000", *options.flags], port, log=work / "recserver.log")
    stack.callback(ours.stop)
    ours.wait("/readyz")
    whole = raw_answer(port, PATH)
    body = whole.partition(b"\r\n\r\n")[2]
    (work / "answer").write_bytes(whole)
    root = work / "www"
    root.mkdir()
    (root / PATH[1:]).write_bytes(body)

    ports = {name: free_port() for name in ("nginx", "h2o", "floor")}
    quoted = body.decode().replace("\\", "\\\\").replace("'", "\\'")
    (work / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {work}/nginx.pid; error_log {work}/nginx.err;\n"
        "events { worker_connections 4096; multi_accept on; }\n"
        "http { access_log off; keepalive_requests 1000000000; server_tokens off; tcp_nodelay on;\n"
        f"  client_body_temp_path {work}/b; proxy_temp_path {work}/p; fastcgi_temp_path {work}/f;\n"
        f"  uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;\n"
        f"  server {{ listen 127.0.0.1:{ports['nginx']}; location = {PATH} {{ default_type application/json;\n"
        f"    return 200 '{quoted}'; }} }} }}\n")
    (work / "h2o.conf").write_text(
        f"num-threads: 1\nnum-name-resolution-threads: 1\nmax-connections: 4096\nlisten:\n  host: 127.0.0.1\n"
        f"  port: {ports['h2o']}\nhosts:\n  default:\n    paths:\n      /:\n        file.dir: {root}\n")
    commands = {
        "nginx": ["nginx", "-c", str(work / "nginx.conf"), "-e", str(work / "nginx.err")],
        "h2o": ["h2o", "-c", str(work / "h2o.conf")],
        "floor": [options.floor, str(ports["floor"]), str(work / "answer")],
    }
    servers: dict[str, Server] = {}
    for name, command in commands.items():
        servers[name] = Server(name, command, ports[name], log=work / f"{name}.log")
        stack.callback(servers[name].stop)
        servers[name].wait()
        theirs = raw_answer(ports[name], PATH)
        if theirs.split()[1] != b"200" or theirs.partition(b"\r\n\r\n")[2] != body:
            raise SystemExit(f"{name} does not give the same answer")
    print(f"gate     all give 200 and the same {len(body)} bytes; whole answer of recserver {len(whole)} bytes")
    return ours, servers, body


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recserver", required=True)
    parser.add_argument("--floor", required=True)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--slow", type=int, default=2_000)
    parser.add_argument("--only", nargs="*", default=["H1", "H2", "H3", "H4"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--flags", nargs="*", default=[], help="more settings of the daemon, as NAME=VALUE")
    options = parser.parse_args()
    options.flags = [part for flag in options.flags for part in ("--" + flag.split("=")[0], flag.partition("=")[2])]
    report = Report()
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recserver-bench-")))
        work.chmod(0o755)
        ours, servers, body = start_all(options, work, stack)
        print(
            f"settings one thread each on core {SERVER_CORE}, wrk -t1 -c64 on core {LOAD_CORE}, GET {PATH}, "
            f"{options.rounds} rounds of {options.seconds} s", flush=True)
        if "H1" in options.only:
            tiny_answers(report, options, ours, servers)
        if "H2" in options.only:
            system_calls(report, options, ours)
        if "H3" in options.only:
            http2(report, options, ours, body, work)
        if "H4" in options.only:
            crowds(report, options, ours)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report.raw, indent=1))
    return 1 if report.missed else 0


if __name__ == "__main__":
    sys.exit(main())
