"""Replays leave-last-out through a running server: python3 evaluate_http.py URL EVAL.jsonl [--limit N]
[--threads T].

Every line of EVAL.jsonl holds a user, a history, the item that followed, and the top 10 that the trainer's
two-tower and popularity lists offered. The server's answers are compared with both on the same users: HR@10,
NDCG@10, and the paired bootstrap 95 % interval of the difference in NDCG@10. Standard library only.
"""

import argparse
import http.client
import json
import math
import queue
import random
import sys
import threading
import urllib.parse
from pathlib import Path
from typing import Any


def gain(items: list[str], target: str, k: int = 10) -> float:
    """NDCG@k of one relevant item."""
    return 1 / math.log2(items.index(target) + 2) if target in items[:k] else 0.0


def body_of(line: dict[str, Any]) -> bytes:
    """The `/recommend` body of one line; what the trainer offered stays here."""
    request = {k: line[k] for k in ("user_id", "history", "now", "context", "user") if k in line}
    request |= {"n": 10, "fields": [], "deadline_ms": 10_000, "degrade": "never"}
    return json.dumps(request, ensure_ascii=False, separators=(",", ":")).encode()


class Replay:
    """Asks the server for every line over keep-alive connections, one per thread."""

    def __init__(self, url: str, lines: list[dict[str, Any]]) -> None:
        self.url = urllib.parse.urlsplit(url)
        self.lines = lines
        self.answers: list[list[str] | None] = [None] * len(lines)
        self.failures: list[str] = []
        self.waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(lines)):
            self.waiting.put(index)

    def ask(self, connection: http.client.HTTPConnection, index: int) -> None:
        path = self.url.path.rstrip("/") + "/recommend"
        connection.request("POST", path, body_of(self.lines[index]), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read()
        if response.status != 200:
            self.failures.append(f"line {index + 1}: {response.status} {data[:200]!r}")
            return
        answer = json.loads(data)
        if answer.get("degraded"):
            self.failures.append(f"line {index + 1}: degraded {answer['degraded']}")
        if not all(math.isfinite(item["score"]) for item in answer["items"]):
            self.failures.append(f"line {index + 1}: a score is not finite")
            return
        self.answers[index] = [item["item_id"] for item in answer["items"]]

    def work(self) -> None:
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname or "127.0.0.1", self.url.port, timeout=60)
        while True:
            try:
                index = self.waiting.get_nowait()
            except queue.Empty:
                connection.close()
                return
            try:
                self.ask(connection, index)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failures.append(f"line {index + 1}: {error!r}")
                connection.close()

    def run(self, threads: int) -> None:
        workers = [threading.Thread(target=self.work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def interval(differences: list[float], rounds: int = 2000, seed: int = 1) -> tuple[float, float]:
    """Paired bootstrap 95 % interval of the mean difference."""
    draw, count = random.Random(seed), len(differences)
    means = sorted(sum(draw.choices(differences, k=count)) / count for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds) - 1]


def main() -> int:
    arguments = argparse.ArgumentParser(description="Leave-last-out through a running server.")
    arguments.add_argument("url")
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--limit", type=int, help="only the first so many users")
    arguments.add_argument("--threads", type=int, default=4)
    options = arguments.parse_args()
    with options.file.open() as file:
        lines = [json.loads(line) for line in file][: options.limit]
    replay = Replay(options.url, lines)
    replay.run(options.threads)
    for failure in replay.failures[:10]:
        print(failure, file=sys.stderr)
    pairs = [(line, answer) for line, answer in zip(lines, replay.answers) if answer is not None]
    if not pairs:
        print("no request was answered", file=sys.stderr)
        return 1
    gains = {"server": [gain(answer, line["target"]) for line, answer in pairs]}
    for name, key in (("trainer", "pipeline"), ("two-tower", "two_tower"), ("popularity", "popular")):
        if key in pairs[0][0]:
            gains[name] = [gain(line[key], line["target"]) for line, _ in pairs]
    print(f"{len(pairs)} of {len(lines)} users answered, {len(replay.failures)} complaints")
    print(f"{'':12} {'HR@10':>8} {'NDCG@10':>8}   server minus this, 95 %")
    for name, values in gains.items():
        row = f"{name:12} {sum(v > 0 for v in values) / len(values):8.4f} {sum(values) / len(values):8.4f}"
        if name != "server":
            low, high = interval([a - b for a, b in zip(gains["server"], values)])
            row += f"   {low:+.4f} … {high:+.4f}"
        print(row)
    same = sum(len(set(a) & set(line["pipeline"])) for line, a in pairs if "pipeline" in line)
    if any("pipeline" in line for line, _ in pairs):
        print(f"overlap@10 with the trainer's own pipeline: {same / (10 * len(pairs)):.4f}")
    return 0 if not replay.failures else 2


if __name__ == "__main__":
    raise SystemExit(main())
