"""Golden and warm-up requests: what the server is asked, with the oracle's numbers for every stage."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from .data import InteractionLog
from .oracle import Oracle
from .progress import track


def compact(value: Any, digits: int) -> Any:
    """Arrays as lists, floats with `digits` significant digits."""
    if isinstance(value, np.ndarray):
        return compact(value.tolist(), digits)
    if isinstance(value, list):
        return [compact(v, digits) for v in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    return value


def event(log: InteractionLog, index: int) -> dict[str, Any]:
    """One event of the log as it stands in a request."""
    entry: dict[str, Any] = {"item_id": log.item_ids[log.items[index]]}
    if len(log.action_names) > 1:
        entry["action"] = log.action_names[log.actions[index]]
    if log.times is not None:
        entry["timestamp"] = int(log.times[index])
    return entry


def history_before(log: InteractionLog, end: int, known: int) -> list[dict[str, Any]]:
    """The last `known` events before event `end`."""
    return [event(log, i) for i in range(end - known, end)]


def moment(log: InteractionLog, end: int) -> float:
    """A time to ask at: that of event `end`, or a fixed one where the log has none."""
    return 978_300_000 if log.times is None else int(log.times[end])


class Requests:
    """Draws varied requests from a log."""

    def __init__(self, log: InteractionLog, max_events: int, seed: int) -> None:
        self.log, self.max_events = log, max_events
        self.rng = np.random.default_rng(seed)
        lengths = np.diff(log.offsets)
        self.short = np.flatnonzero(lengths >= 2)
        self.long = np.argsort(-lengths, kind="stable")[: max(20, len(lengths) // 50)]

    def length(self) -> int:
        """Mostly a few dozen events; also none, one, and more than the window holds."""
        draw = self.rng.random()
        if draw < 0.06:
            return 0
        if draw < 0.12:
            return 1
        if draw < 0.75:
            return int(self.rng.integers(2, 26))
        if draw < 0.88:
            return int(self.rng.integers(max(3, self.max_events // 2), self.max_events + 1))
        return int(self.rng.integers(self.max_events + 1, self.max_events + 70))

    def history(self) -> tuple[int, int, list[dict[str, Any]]]:
        """(user, the event asked before, history)."""
        length = self.length()
        user = int(self.rng.choice(self.long if length > 20 else self.short))
        first, stop = int(self.log.offsets[user]), int(self.log.offsets[user + 1])
        known = min(length, stop - first - 1)
        end = int(self.rng.integers(first + known, stop))
        return user, end, history_before(self.log, end, known)

    def roughen(self, history: list[dict[str, Any]]) -> None:
        """Takes away timestamps and actions here and there, and mentions items nobody knows."""
        rng = self.rng
        style = rng.random()
        if style < 0.1:
            for entry in history:
                entry.pop("timestamp", None)
        elif style < 0.25:
            for entry in history:
                if rng.random() < 0.3:
                    entry.pop("timestamp", None)
        elif style < 0.35 and history:
            for entry in history:
                if rng.random() < 0.3:
                    entry.pop("action", None)
            history.insert(int(rng.integers(len(history) + 1)), {"item_id": "no such item"})
        elif style < 0.4:
            for entry in history:
                if "timestamp" in entry:
                    entry["timestamp"] += 0.25

    def features(self, user: int) -> dict[str, Any]:
        """User features of a request: true, changed, of the wrong type, unknown, or left out."""
        result: dict[str, Any] = {}
        for attribute in self.log.user_attributes:
            draw, value = self.rng.random(), attribute.values[user]
            if draw < 0.4:
                continue
            if draw < 0.8:
                other = attribute.values[int(self.rng.integers(len(attribute.values)))]
                value = value if draw < 0.7 else other
                if value is not None:
                    result[attribute.name] = value
            elif draw < 0.9:
                result[attribute.name] = "never heard of it"
            else:
                result[attribute.name] = 41.5
        return result

    def candidates(self, count: int, end: int) -> list[dict[str, Any]]:
        """Different items, the true next one among them; a few bring their own features."""
        rows = [int(self.log.items[end])]
        while len(rows) < count:
            row = (
                int(self.log.items[self.rng.integers(len(self.log.items))])
                if self.rng.random() < 0.7
                else int(self.rng.integers(self.log.item_count))
            )
            if row not in rows:
                rows.append(row)
        result: list[dict[str, Any]] = [{"item_id": self.log.item_ids[r]} for r in rows]
        if self.rng.random() < 0.06:
            result[-1]["features"] = {"year": 1987, "genres": ["Horror", "of no known kind"]}
        return result

    def request(self, count: int) -> dict[str, Any]:
        """One golden request."""
        user, end, history = self.history()
        self.roughen(history)
        request: dict[str, Any] = {}
        if user < self.log.exported_users and self.rng.random() < 0.7:
            request["user_id"] = self.log.user_ids[user]
        elif self.rng.random() < 0.3:
            request["user_id"] = "somebody new"
        elif self.rng.random() < 0.5:
            request["user_id"] = self.log.user_ids[int(self.rng.integers(self.log.exported_users))]
        gap = 0 if self.rng.random() < 0.7 else int(self.rng.integers(1, 40_000_000))
        request |= {
            "history": history,
            "now": moment(self.log, end) + gap,
            "user": self.features(user),
            "context": {},
        }
        for attribute in self.log.context:
            if self.rng.random() < 0.7:
                request["context"][attribute.name] = attribute.values[end]
        return request | {"candidates": self.candidates(count, end), "degrade": "never"}


def write_goldens(
    folder: Path, log: InteractionLog, max_events: int, count: int, seed: int, digits: int = 7
) -> int:
    """Writes golden.jsonl with `count` requests; all rows of a history only for some. Returns its bytes."""
    oracle = Oracle(folder)
    requests = Requests(log, max_events, seed)
    lines = []
    for index in track(range(count), "goldens", count):
        request = requests.request(int(requests.rng.integers(2, 5)))
        stages = oracle.stages(request)
        if not (index % 20 == 0 and len(stages.get("sequence.rows", ())) <= 30):
            stages.pop("sequence.rows", None)
        if index % 2:
            stages.pop("ranker.features", None)
        line = {
            "request": request,
            "stages": {k: compact(np.asarray(v, np.float64), digits) for k, v in stages.items()},
        }
        lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    data = "\n".join(lines) + "\n"
    (folder / "golden.jsonl").write_text(data)
    return len(data.encode())


def write_warmup(folder: Path, log: InteractionLog, count: int = 32) -> None:
    """Writes warmup.jsonl: ordinary requests of known users and of nobody."""
    users = np.linspace(0, log.exported_users - 1, count).astype(int)
    lines = [json.dumps({"now": moment(log, len(log.items) - 1), "n": 10, "degrade": "never"})]
    for user in users:
        first, stop = int(log.offsets[user]), int(log.offsets[user + 1])
        known = max(0, min(30, stop - first - 1))
        end = min(first + known, len(log.items) - 1)
        body = {
            "user_id": log.user_ids[user],
            "history": history_before(log, first + known, known),
            "now": moment(log, end),
            "n": 10,
            "degrade": "never",
        }
        lines.append(json.dumps(body, ensure_ascii=False, separators=(",", ":")))
    (folder / "warmup.jsonl").write_text("\n".join(lines) + "\n")
