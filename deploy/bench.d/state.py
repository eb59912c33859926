"""Durable events beside recommendations, ours and peers in turn: see deploy/bench.d/state for how it is called."""

import argparse
import csv
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from closed_loop import Server, spent
from open_loop import open_loop, percentile

HERE = Path(__file__).resolve().parent
BATCH = 500
SINGLES, BATCHES = "single", "batch"
SHAPES = {SINGLES: (1, 64), BATCHES: (BATCH, 8)}  # events a request, connections


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Load:
    """wrk on POST /events; every answer is read and counted."""

    number = 0

    def __init__(self, server: Server, shape: str, seconds: float, events_per_second: float = 0):
        size, connections = SHAPES[shape]
        Load.number += 1
        self.process = subprocess.Popen(
            ["wrk", "-t1", f"-c{connections}", f"-d{int(seconds) + 4}s", "--timeout", "30s", "-s",
             str(HERE / "events.lua"), f"http://127.0.0.1:{server.port}", "--", str(size),
             str(events_per_second / size), str(seconds), f"{os.getpid():x}-{Load.number}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)

    def result(self) -> dict[str, float]:
        output, _ = self.process.communicate()
        found = dict(re.findall(r"^(sent|answered|acknowledged|other|elapsed|socket_errors) ([\d.]+)$", output, re.M))
        if len(found) != 6 or self.process.returncode != 0:
            raise SystemExit(f"wrk failed:\n{output}")
        result = {name: float(value) for name, value in found.items()}
        result["per_second"] = result["acknowledged"] / max(result["elapsed"], 1e-9)
        return result


class Bench:
    def __init__(self, options):
        self.options = options
        self.work = Path(options.work)
        self.record = {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                       "settings": vars(options).copy(), "turns": []}
        self.acknowledged = 0
        self.failed = 0
        self.missed = False
        self.servers: list[Server] = []

    # Servers

    def daemon(self) -> Server:
        command = [self.options.recserver, "serve", "--bundle", self.options.bundle, "--port", "0", "--index-cache",
                   str(self.work / "index"), "--state-dir", str(self.work / "state"), "--log-level", "warning",
                   *self.options.setting]
        return self.start("recserver", command)

    def peer(self, grouped: bool) -> Server:
        port, name = free_port(), "python, group commit" if grouped else "python, commit each"
        command = [str(Path(self.options.python).parent / "granian"), "--interface", "rsgi", "--host", "127.0.0.1",
                   "--port", str(port), "--workers", "1", "--runtime-mode", "st", "--runtime-threads", "1", "--loop",
                   "uvloop", "--http", "1", "--no-ws", "--log-level", "warning", "events:app"]
        env = {"PEER_STATE": str(self.work / f"peer-{int(grouped)}.db"), "PEER_GROUP": str(int(grouped))}
        return self.start(name, command, env=env, cwd=str(HERE / "peer"), port=port)

    def start(self, name: str, command: list[str], **options) -> Server:
        cores = f"0-{os.cpu_count() - 1}"
        log = self.work / f"{re.sub('[^a-z]+', '-', name)}.log"
        server = Server(name, command, cores, str(log), **options)
        self.servers.append(server)
        return server.wait_ready()

    def redis(self) -> int:
        """The port of a Redis that syncs before each answer."""
        port, folder = free_port(), self.work / "redis"
        folder.mkdir()
        server = Server("redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
                                  "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
                        f"0-{os.cpu_count() - 1}", str(self.work / "redis.log"), port=port)
        self.servers.append(server)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return port
            except OSError:
                time.sleep(0.1)
        raise SystemExit("redis-server did not come up")

    def stop(self):
        for server in self.servers:
            server.stop()
        self.servers.clear()

    # Turns

    def note(self, kind: str, result: dict) -> dict:
        self.record["turns"].append({"kind": kind} | {k: v for k, v in result.items() if k != "latencies"})
        return result

    def quiet(self, server: Server) -> dict:
        return self.note("quiet", open_loop(server.port, self.bodies, self.options.rate, self.options.seconds))

    def beside(self, server: Server, shape: str) -> dict:
        """Events at a steady rate, and recommendations as in the quiet turn."""
        seconds = self.options.seconds
        load = Load(server, shape, seconds + 1, self.offered(shape))
        time.sleep(0.5)
        result = open_loop(server.port, self.bodies, self.options.rate, seconds)
        return self.note(f"beside {shape}", result | self.count(load.result()))

    def flat_out(self, server: Server, shape: str, is_ours: bool) -> dict:
        """Events as fast as they are acknowledged, and nothing else."""
        before = server.cpu_seconds()
        result = Load(server, shape, self.options.seconds).result()
        cpu = spent(before, server.cpu_seconds())
        result["cpu_us_per_event"] = 1e6 * cpu / max(1, result["acknowledged"])
        return self.note(f"{server.name} {shape}", self.count(result) if is_ours else result)

    def redis_turn(self, port: int, shape: str) -> dict:
        payload = "x" * 110  # As long as an event of ours.
        flags = {SINGLES: ["-c", "64", "-n", "20000"], BATCHES: ["-c", "8", "-P", str(BATCH), "-n", "400000"]}[shape]
        output = subprocess.run(["redis-benchmark", "-p", str(port), "--csv", "-r", "50000", *flags, "rpush",
                                 "user-__rand_int__", payload], capture_output=True, text=True, check=True).stdout
        rows = list(csv.DictReader(output.splitlines()))
        return self.note(f"redis {shape}", {"per_second": float(rows[0]["rps"])})

    def count(self, result: dict) -> dict:
        self.acknowledged += int(result["acknowledged"])
        self.failed += int(result["other"] + result["socket_errors"] + result["sent"] - result["answered"])
        return result

    def offered(self, shape: str) -> float:
        return self.options.batch_rate if shape == BATCHES else self.options.single_rate

    # The run

    def run(self):
        daemon = self.daemon()
        self.bodies = recommend_bodies()
        open_loop(daemon.port, self.bodies, self.options.rate, 3)  # Warm-up: scratch, allocator and cache.
        self.beside_rounds(daemon)
        self.flat_out_rounds(daemon)
        self.gate(daemon)

    def alternate(self, turns):
        """`rounds` rounds of one call each, the order reversed every other round; [turn][round]."""
        results = [[] for _ in turns]
        for number in range(self.options.rounds):
            order = list(range(len(turns)))
            for turn in order if number % 2 == 0 else reversed(order):
                results[turn].append(turns[turn]())
        return results

    def beside_rounds(self, daemon: Server):
        quiet, batch, single = self.alternate([
            lambda: self.quiet(daemon), lambda: self.beside(daemon, BATCHES), lambda: self.beside(daemon, SINGLES)])
        for name, shape, goal, rounds in (("S1", BATCHES, 20_000, batch), ("S2", SINGLES, 3_000, single)):
            rate = statistics.median(r["per_second"] for r in rounds)
            calm, busy = (percentile([x for r in rs for x in r["latencies"]], 0.99) for rs in (quiet, rounds))
            low, high = (1e3 * f(percentile(r["latencies"], 0.99) for r in rounds) for f in (min, max))
            print(f"{name} beside {self.options.rate:g} recommendations/s: {self.offered(shape):g} events/s offered, p99 "
                  f"{1e3 * calm:.2f} ms quiet, {1e3 * busy:.2f} ms beside ({low:.2f} to {high:.2f} by round), failed "
                  f"{sum(r['failed'] for r in quiet + rounds)}, degraded {sum(r['degraded'] for r in rounds)} of "
                  f"{sum(len(r['latencies']) for r in rounds)} (quiet {sum(r['degraded'] for r in quiet)})", flush=True)
            self.goal(f"{name} {shape}_events_per_second", rate, ">=", goal)
            self.goal(f"{name} {shape}_p99_ratio", busy / calm, "<=", 1.3)

    def flat_out_rounds(self, daemon: Server):
        peers = [] if self.options.no_peer else [self.peer(False), self.peer(True)]
        port = None if self.options.no_peer else self.redis()
        for shape, name in ((BATCHES, "S1"), (SINGLES, "S2")):
            turns = [lambda s=s: self.flat_out(s, shape, s is daemon) for s in (daemon, *peers)]
            if port:
                turns.append(lambda: self.redis_turn(port, shape))
            results = self.alternate(turns)
            labels = ["recserver", *(p.name for p in peers), "redis, appendfsync always"]
            for label, rounds in zip(labels, results):
                rates = [r["per_second"] for r in rounds]
                ratios = [a["per_second"] / b["per_second"] for a, b in zip(results[0], rounds)]
                costs = [r["cpu_us_per_event"] for r in rounds if "cpu_us_per_event" in r]
                cost = f", {statistics.median(costs):.1f} CPU-us/event" if costs else ""
                ratio = f", ours {statistics.median(ratios):.2f} x" if rounds is not results[0] else ""
                print(f"{name} flat out, {shape:<6} {label:<26} {statistics.median(rates):9.0f} events/s "
                      f"({min(rates):.0f} to {max(rates):.0f}){cost}{ratio}", flush=True)

    def gate(self, daemon: Server):
        """What was acknowledged is kept, also through kill -9 and a restart."""
        daemon.process.send_signal(signal.SIGKILL)
        daemon.process.wait()
        self.daemon()
        self.stop()
        done = subprocess.run([self.options.recserver, "state", "verify", "--state-dir", str(self.work / "state")],
                              capture_output=True, text=True)
        # Users with long histories keep the newest events; what counts is all that were stored.
        found = re.search(r"(\d+) in all", done.stdout)
        kept = int(found[1]) if found else -1
        self.record["acknowledged"], self.record["kept"] = self.acknowledged, kept
        print(f"gate     {self.acknowledged} events acknowledged, {kept} there after kill -9 and a restart; verify "
              f"{'good' if done.returncode == 0 else 'NOT GOOD'}")
        self.goal("S3 not_acknowledged", self.failed, "==", 0)
        self.goal("S3 kept_minus_acknowledged", kept - self.acknowledged, "==", 0)
        self.goal("S3 verify_findings", done.returncode, "==", 0)

    def goal(self, name: str, value: float, relation: str, limit: float):
        met = {"<=": value <= limit, ">=": value >= limit, "==": value == limit}[relation]
        self.missed |= not met
        self.record.setdefault("results", []).append({"goal": name, "value": value, "met": met})
        text = f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"
        print(f"{name} {text} {relation.replace('==', '=')}{limit:g} {'met' if met else 'missed'}", flush=True)


def recommend_bodies() -> list[bytes]:
    """Known users of the demo bundle in turn; their histories fit the cache."""
    genres = ["horror", "scifi", "romance", "comedy", "drama", "action", "thriller", "fantasy"]
    return [json.dumps({"user_id": f"demo-{genre}-{number}", "n": 20}).encode()
            for number in range(1, 13) for genre in genres]


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy/bench state", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6, help="of a turn in a round")
    parser.add_argument("--rate", type=float, default=100, help="recommendations a second, beside the events")
    parser.add_argument("--batch-rate", type=float, default=22_000, help="events a second offered in batches")
    parser.add_argument("--single-rate", type=float, default=3_300, help="events a second offered one by one")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--quick", action="store_true", help="two short rounds: does it run at all")
    parser.add_argument("--setting", action="append", default=[], metavar="FLAG", help="for the daemon")
    parser.add_argument("--work", required=True, help="folder for state, logs and raw rounds; .bench/state by default")
    for name in ("recserver", "bundle", "python"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 2, 2
    bench = Bench(options)
    for name in ("state", "redis"):
        shutil.rmtree(bench.work / name, ignore_errors=True)
    bench.work.mkdir(parents=True, exist_ok=True)
    for path in bench.work.glob("peer-*"):
        path.unlink()
    print(f"settings wrk -t1, {BATCH} events a request over 8 connections and 1 over 64; recommendations open loop; all on "
          f"the same cores; {options.rounds} rounds of {options.seconds:g} s; {' '.join(options.setting) or 'defaults'}; "
          f"load {os.getloadavg()[0]:.2f}; fdatasync {1e3 * sync_seconds(bench.work):.2f} ms", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        bench.run()
    finally:
        bench.stop()
        path = bench.work / f"rounds-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.write_text(json.dumps(bench.record, indent=1) + "\n")
        print(f"# raw rounds in {path}")
    return 1 if bench.missed else 0


def sync_seconds(folder: Path) -> float:
    """The median time of a small write made durable here."""
    path = folder / "sync"
    times = []
    with open(path, "wb", buffering=0) as file:
        for _ in range(64):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fdatasync(file)
            times.append(time.perf_counter() - begun)
    path.unlink()
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
