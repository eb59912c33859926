"""Overload: what a server makes of more requests than it can answer, and of Poisson arrivals it can.

The generator sends every request when it is due and counts from then. It has a core of its own, the last; the server
has the others, one compute thread each. Goodput is answers with 200, degraded or not; `never` is the load whose
requests allow no lesser answer, so that nothing but refusing helps.
"""

import argparse
import heapq
import json
import os
import random
import struct
import subprocess
import sys
from dataclasses import dataclass

from closed_loop import Server, encode

RECORD = struct.Struct("<3d2fh3b3x")
GENRES = ("horror scifi romance comedy drama action thriller fantasy family documentary mystery western crime "
          "musical").split()
DEADLINE_MS = 100


@dataclass
class Sent:
    """A request as the generator saw it; times in seconds from its start, stages in milliseconds."""

    due: float
    sent: float
    done: float
    queue: float
    service: float
    status: int
    degraded: int
    retry_after: int
    probe: int

    @property
    def told_ms(self) -> float:
        return 1e3 * (self.done - self.due)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def bodies(**extra) -> list[bytes]:
    """Known users of the demo bundle, some with a session, some with a filter, some new."""
    draw, made = random.Random(7), []
    for i in range(1, 1001):
        user = f"demo-{draw.choice(GENRES)}-{draw.randint(1, 12)}"
        body = {"user_id": f"nobody-{i}" if i % 10 == 0 else user, "n": 20}
        if i % 3 == 0:
            body["session"] = [{"item_id": f"film-{draw.randint(1, 12000):05}", "action": "like"}]
        if i % 7 == 0:
            body["filter"] = {"field": "year", "gte": 1990}
        made.append(json.dumps(body | extra).encode())
    return made


class Bench:
    def __init__(self, options):
        self.options, self.missed, self.runs = options, False, 0
        cores = sorted(os.sched_getaffinity(0))
        self.load_core = cores[-1]
        self.server_cores = cores[:-1] or cores
        self.threads = len(self.server_cores)

    def line(self, name: str, value, goal: str = "", is_met: bool | None = None):
        shown = f"{value:.4g}" if isinstance(value, float) else value
        verdict = "" if is_met is None else " met" if is_met else " missed"
        self.missed |= is_met is False
        print(f"{name} {shown}{' ' + goal if goal else ''}{verdict}", flush=True)

    def start(self) -> Server:
        server = Server(
            "recserver", [self.options.recserver, "serve", "--port", "0", "--bundle", self.options.bundle,
                          "--compute-threads", str(self.threads), "--deadline-ms", str(DEADLINE_MS)],
            ",".join(map(str, self.server_cores)), f"{self.options.work}/recserver.log")
        return server.wait_ready()

    def send(self, server: Server, name: str, mode: str, seconds: float, rate: float = 0, connections: int = 4000,
             probes: float = 100, **extra) -> tuple[list[Sent], list[Sent]]:
        """Requests and probes of a run."""
        folder = self.options.work
        with open(f"{folder}/requests", "wb") as out:
            for request in map(encode, bodies(**extra)):
                out.write(struct.pack("<I", len(request)) + request)
        self.runs += 1
        path = f"{folder}/{name}.records"
        subprocess.run(
            ["taskset", "-c", str(self.load_core), f"{folder}/load", str(server.port), f"{folder}/requests", path,
             str(seconds), f"{rate:.1f}", mode, str(connections), str(self.runs), str(probes)], check=True)
        with open(path, "rb") as records:
            data = records.read()
        sent = [Sent(*fields) for fields in RECORD.iter_unpack(data)]
        return [s for s in sent if not s.probe], [s for s in sent if s.probe]

    # The parts

    def peak(self, server: Server, **extra) -> float:
        """Answers a second in a closed loop: the better of two runs."""
        seconds = 3 if self.options.quick else 10
        rates = []
        for _ in range(2):
            sent, _ = self.send(server, "peak", "closed", seconds, connections=8 * self.threads, probes=0, **extra)
            rates.append(sum(s.status == 200 for s in sent) / max(s.done for s in sent))
        return max(rates)

    def overload(self, server: Server, name: str, peak: float, **extra):
        seconds = self.options.seconds
        sent, probes = self.send(server, name, "poisson", seconds, 4 * peak, **extra)
        good = [s for s in sent if s.status == 200]
        refused = [s for s in sent if s.status in (503, 429)]
        late = percentile([1e3 * (s.sent - s.due) for s in sent], 0.99)
        self.line(f"{name} offered_per_second", len(sent) / seconds)
        self.line(f"{name} generator_lag_p99_ms", late)
        self.line(f"{name} goodput_of_peak", len(good) / seconds / peak, ">=0.95", len(good) / seconds >= 0.95 * peak)
        self.line(f"{name} degraded", sum(s.degraded for s in good) / max(1, len(good)))
        self.line(f"{name} accepted_p50_ms", percentile([s.told_ms for s in good], 0.5))
        accepted = percentile([s.told_ms for s in good], 0.99)
        self.line(f"{name} accepted_p99_ms", accepted, f"<={DEADLINE_MS}", accepted <= DEADLINE_MS)
        if refused:
            told = percentile([s.told_ms for s in refused], 0.99)
            self.line(f"{name} refused_p99_ms", told, "<20", told < 20)
        bare = sum(not s.retry_after for s in refused)
        self.line(f"{name} refused_without_retry_after", bare, "=0", bare == 0)
        other = sum(s.status not in (200, 503, 429) for s in sent)
        self.line(f"{name} other_answers", other, "=0", other == 0)
        livez = percentile([s.told_ms for s in probes], 0.99)
        self.line(f"{name} livez_p99_ms", livez, "<20", livez < 20)

    def recovery(self, server: Server, peak: float):
        """Half the peak right behind the overload: seconds until a tenth of a second was as calm as later ones."""
        sent, _ = self.send(server, "O3", "poisson", 6, 0.5 * peak, degrade="never")
        calm = percentile([s.told_ms for s in sent if s.due >= 3], 0.99)
        slow = [s.due for s in sent if s.due < 3 and (s.status != 200 or s.told_ms > 1.2 * max(calm, 5))]
        self.line("O3 calm_p99_ms", calm)
        # The last slow one that is no stray: strays come in the calm part as well.
        stray = sum(s.due >= 3 and s.told_ms > 1.2 * max(calm, 5) for s in sent)
        end = sorted(slow)[-1 - stray] if len(slow) > stray else 0.0
        self.line("O3 recovered_after_s", end, "<=2", end <= 2)

    def poisson(self, server: Server, peak: float):
        seconds = 5 if self.options.quick else 30
        base, _ = self.send(server, "O4-base", "uniform", 3, 0.1 * peak, probes=0, degrade="never")
        outside = percentile([s.told_ms - s.queue - s.service for s in base if s.status == 200], 0.5)
        sent, _ = self.send(server, "O4", "poisson", seconds, 0.7 * peak, probes=0, degrade="never")
        services = [s.service for s in sent if s.status == 200]
        simulated = percentile(simulate(services, 0.7 * peak, self.threads), 0.99) + outside
        measured = percentile([s.told_ms for s in sent], 0.99)
        failed = sum(s.status != 200 for s in sent)
        self.line("O4 service_mean_ms", sum(services) / len(services))
        self.line("O4 outside_median_ms", outside)
        self.line("O4 measured_p99_ms", measured)
        self.line("O4 simulated_p99_ms", simulated)
        self.line("O4 ratio", measured / simulated, "<=1.25", measured <= 1.25 * simulated)
        self.line("O4 refused", failed, "=0", failed == 0)

    def deadlines(self, server: Server, peak: float):
        rate = 1.5 * peak
        seconds = max(2, (2000 if self.options.quick else 10_000) / rate)
        for deadline in (5, 10, 20):
            sent, _ = self.send(server, f"O5-{deadline}", "poisson", seconds, rate, deadline_ms=deadline)
            late = sum(s.told_ms > deadline + 2 for s in sent)
            good = [s for s in sent if s.status == 200]
            self.line(f"O5 deadline_{deadline}_late_of_{len(sent)}", late, "=0", late == 0)
            self.line(f"O5 deadline_{deadline}_answered", len(good) / len(sent))
            self.line(f"O5 deadline_{deadline}_degraded", sum(s.degraded for s in good) / max(1, len(good)))

    def run(self) -> int:
        print(f"settings server on cores {self.server_cores} with {self.threads} compute threads, generator on core "
              f"{self.load_core}, deadline {DEADLINE_MS} ms, {self.options.seconds} s of overload")
        server = self.start()
        try:
            self.send(server, "warm", "closed", 3, connections=4, probes=0)
            full = self.peak(server, degrade="never")
            self.line("O0 peak_per_second", full)
            # O1 has no lesser answers; of O2 the peak is that of full answers, too.
            self.overload(server, "O1", full, degrade="never")
            self.recovery(server, full)
            self.overload(server, "O2", full)
            self.poisson(server, full)
            self.deadlines(server, full)
        finally:
            server.stop()
        return 1 if self.missed else 0


def simulate(services: list[float], rate: float, threads: int) -> list[float]:
    """Milliseconds in an M/G/c queue, first come first served, whose services are drawn from measured ones."""
    draw, time, responses = random.Random(1), 0.0, []
    free = [0.0] * threads
    for _ in range(200_000):
        time += draw.expovariate(rate) * 1e3
        start = max(time, free[0])
        end = start + draw.choice(services)
        heapq.heapreplace(free, end)
        responses.append(end - time)
    return responses


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy/bench overload", description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, help="folder for raw records")
    parser.add_argument("--recserver", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--quick", action="store_true", help="10 s of overload instead of 60, and shorter parts")
    parser.add_argument("--seconds", type=float, help="of overload")
    options = parser.parse_args()
    options.seconds = options.seconds or (10 if options.quick else 60)
    return Bench(options).run()


if __name__ == "__main__":
    sys.exit(main())
