"""The interaction log and how it is split in time."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Attribute:
    """One column about items, users or events: `values[i]` belongs to row i, None is missing."""

    name: str
    type: str
    values: list[Any]
    filterable: bool = False

    def manifest(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.filterable:
            entry["filterable"] = True
        return entry


@dataclass
class InteractionLog:
    """Who did what when: user u's events are `offsets[u]:offsets[u + 1]`, oldest first.

    `items` are rows, `actions` indices into `action_names` (entry 0 is "unknown"), `times` Unix seconds or
    None where only the order is known, `liked` the label of the task `like` or None. `context` holds one
    value per event. The first `exported_users` users are written into the bundle; the others only train it.
    """

    name: str
    item_ids: list[str]
    item_attributes: list[Attribute]
    user_ids: list[str]
    user_attributes: list[Attribute]
    action_names: list[str]
    offsets: np.ndarray
    items: np.ndarray
    actions: np.ndarray
    times: np.ndarray | None
    liked: np.ndarray | None
    context: list[Attribute] = field(default_factory=list)
    exported_users: int = 0

    @property
    def item_count(self) -> int:
        return len(self.item_ids)

    @property
    def user_count(self) -> int:
        return len(self.user_ids)

    def owner(self) -> np.ndarray:
        """The user of every event, int32 `[E]`."""
        return np.repeat(np.arange(self.user_count, dtype=np.int32), np.diff(self.offsets))

    def user_row(self, users: np.ndarray) -> np.ndarray:
        """Row in the user table: 0 for users who are not in the bundle, u + 1 for user u."""
        return np.where(users < self.exported_users, users + 1, 0).astype(np.int32)


@dataclass
class Split:
    """What each part of the model may see.

    `test[u]` is user u's last event (-1: none). Towers and sequence model learn from
    `offsets[u]:sequence_end[u]`; the ranker from the events `ranker_train`, later than those, and is measured
    on `ranker_valid`, later still.
    """

    test: np.ndarray
    sequence_end: np.ndarray
    ranker_train: np.ndarray
    ranker_valid: np.ndarray


def split_by_time(log: InteractionLog, train: float = 0.8, valid: float = 0.9) -> Split:
    """Cuts the log at two moments; every user's last event is left for the test wherever it falls."""
    if log.times is None:
        raise ValueError("a log without times is split by order")
    first, second = np.quantile(log.times, [train, valid])
    test = np.where(np.diff(log.offsets) > 1, log.offsets[1:] - 1, -1)
    is_test = np.zeros(len(log.items), bool)
    is_test[test[test >= 0]] = True
    has_history = np.arange(len(log.items)) > np.repeat(log.offsets[:-1], np.diff(log.offsets))
    before = np.concatenate([[0], np.cumsum((log.times < first) & ~is_test)])
    end = log.offsets[:-1] + before[log.offsets[1:]] - before[log.offsets[:-1]]
    usable = has_history & ~is_test
    return Split(
        test,
        end,
        np.flatnonzero(usable & (log.times >= first) & (log.times < second)),
        np.flatnonzero(usable & (log.times >= second)),
    )


def split_by_order(log: InteractionLog, ranker_events: int = 4) -> Split:
    """The last event tests; of the `ranker_events` before it the last one validates the ranker, the others
    train it.
    """
    lengths = np.diff(log.offsets)
    test = np.where(lengths > 1, log.offsets[1:] - 1, -1)
    reserved = np.clip(lengths - 2, 0, ranker_events)
    end = np.where(test >= 0, log.offsets[1:] - 1 - reserved, log.offsets[1:])
    train, valid = [], []
    for user in range(log.user_count):
        slice_ = range(int(end[user]), int(test[user]))
        train.extend(slice_[:-1])
        valid.extend(slice_[-1:])
    return Split(test, end, np.array(train, np.int64), np.array(valid, np.int64))


def item_counts(log: InteractionLog, split: Split) -> np.ndarray:
    """How often each item occurs in what towers and sequence model may see, int64 `[I]`."""
    event = np.arange(len(log.items))
    seen = event < np.repeat(split.sequence_end, np.diff(log.offsets))
    return np.bincount(log.items[seen], minlength=log.item_count)


def attribute_matrix(log: InteractionLog, names: list[str], decade_of: str | None = None) -> np.ndarray:
    """Multi-hot item attributes, float32 `[I, F]`, each group of columns summing to at most 1."""
    columns: list[np.ndarray] = []
    for attribute in log.item_attributes:
        if attribute.name == decade_of:
            values = [None if v is None else [str(int(v) // 10)] for v in attribute.values]
        elif attribute.name in names:
            values = [v if isinstance(v, list) or v is None else [v] for v in attribute.values]
        else:
            continue
        known = {v: i for i, v in enumerate(sorted({x for row in values if row for x in row}))}
        block = np.zeros((log.item_count, len(known)), np.float32)
        for row, entries in enumerate(values):
            for entry in entries or []:
                block[row, known[entry]] = 1.0 / len(entries)
        columns.append(block)
    return np.concatenate(columns, 1) if columns else np.zeros((log.item_count, 0), np.float32)
