"""Joins the feedback log with events: what was shown to users, and what they then did.

A slate's line has no user. Events name the slate they answer (`recommendation_id`), and that alone joins the two.

Attribution. An event is credited to at most one impression, an item at a place of a slate:

1. **Named.** The event names a slate: the impression of its item there. If it also says a position, the item must
   stand at that one.
2. **Last touch.** The event names no slate: the impression of its item that its user touched last, which is the one
   that the user's latest named event at or before it was credited to. A purchase some minutes after the click that led
   to it counts for that click's slate.

In both cases the event's time must lie in the window behind the slate's, or at most `early` seconds before it, as clocks
differ. A slate belongs to the user of the first event that names it; another user's events for it are not credited.
Every event that names a slate and is not credited is counted under a reason.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .data import Attribute, InteractionLog
from .oracle import Oracle

WINDOW = 86_400.0
EARLY = 60.0
UNKNOWN = "unknown"


@dataclass
class Impression:
    """One item at one place of one slate, and what was done about it: `actions` counts events by action."""

    recommendation_id: str
    time: float
    model_version: str
    placement: str | None
    variant: str | None
    score_kind: str
    sample_rate: float
    item_id: str
    position: int
    score: float
    propensity: float
    user_id: str | None = None
    actions: Counter[str] = field(default_factory=Counter)

    @property
    def is_clicked(self) -> bool:
        """Whether anything was done about it."""
        return bool(self.actions)

    def line(self) -> dict[str, Any]:
        """What is written; the user and the profile only where they are known."""
        whole = {k: v for k, v in vars(self).items() if v is not None and k != "actions"}
        return whole | {"shown": True, "clicked": self.is_clicked, "actions": dict(sorted(self.actions.items()))}


@dataclass(frozen=True)
class Event:
    """One line of an export of the user state."""

    user_id: str
    item_id: str
    action: str
    time: float
    event_id: str | None
    value: float | None
    recommendation_id: str | None
    position: int | None


@dataclass
class Joined:
    """Impressions in the order of the log; `credited` pairs events with the impressions they count for."""

    impressions: list[Impression]
    credited: list[tuple[Event, Impression]]
    refused: Counter[str]
    """Events that name a slate and are credited to nothing, by reason: unknown_slate (older than the log, or not
    sampled), not_on_slate, position, window, other_user."""


def lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The JSON objects of NDJSON files; a last line without an end is still being written and left out."""
    for path in paths:
        *whole, _ = path.read_bytes().split(b"\n")
        for number, text in enumerate(whole, 1):
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON") from error
            if not isinstance(value, dict):
                raise ValueError(f"{path}:{number}: not an object")
            yield value


def read_slates(folder: Path) -> list[Impression]:
    """What the feedback log in `folder` says was shown, in its order; a place of a slate counts once."""
    found: dict[tuple[str, int], Impression] = {}
    for line in lines(sorted(folder.glob("slates-*.ndjson"))):
        for item in line["items"]:
            key = (line["recommendation_id"], item["position"])
            found.setdefault(
                key,
                Impression(
                    recommendation_id=line["recommendation_id"],
                    time=float(line["time"]),
                    model_version=line["model_version"],
                    placement=line.get("placement"),
                    variant=line.get("variant"),
                    score_kind=line["score_kind"],
                    sample_rate=float(line["sample_rate"]),
                    item_id=item["item_id"],
                    position=int(item["position"]),
                    score=float(item["score"]),
                    propensity=float(item["propensity"]),
                ),
            )
    return list(found.values())


def read_events(path: Path) -> list[Event]:
    """The events of an export, by time and then as they stand there; a user's event id counts once."""
    events: list[Event] = []
    known: set[tuple[str, str]] = set()
    for line in lines([path]):
        if line.get("type") != "event":
            continue
        event = Event(
            user_id=line["user_id"],
            item_id=line["item_id"],
            action=line.get("action") or UNKNOWN,
            time=float(line["timestamp"]),
            event_id=line.get("event_id"),
            value=line.get("value"),
            recommendation_id=line.get("recommendation_id"),
            position=line.get("position"),
        )
        if event.event_id is not None:
            if (event.user_id, event.event_id) in known:
                continue
            known.add((event.user_id, event.event_id))
        events.append(event)
    return sorted(events, key=lambda event: event.time)


def join(
    impressions: list[Impression], events: list[Event], window: float = WINDOW, early: float = EARLY
) -> Joined:
    """Credits events (by time) to impressions, whose `actions` and `user_id` it fills; see above for the rule."""
    places: dict[tuple[str, str], Impression] = {}
    slates: dict[str, list[Impression]] = {}
    for impression in impressions:
        places.setdefault((impression.recommendation_id, impression.item_id), impression)
        slates.setdefault(impression.recommendation_id, []).append(impression)
    owners: dict[str, str] = {}
    touched: dict[tuple[str, str], Impression] = {}
    joined = Joined(impressions, [], Counter())

    def is_within(event: Event, impression: Impression) -> bool:
        return -early <= event.time - impression.time <= window

    for event in events:
        if event.recommendation_id is None:
            impression = touched.get((event.user_id, event.item_id))
            if impression is None or not is_within(event, impression):
                continue
        else:
            impression = places.get((event.recommendation_id, event.item_id))
            reason = None
            if event.recommendation_id not in slates:
                reason = "unknown_slate"
            elif impression is None:
                reason = "not_on_slate"
            elif event.position is not None and event.position != impression.position:
                reason = "position"
            elif not is_within(event, impression):
                reason = "window"
            elif owners.setdefault(event.recommendation_id, event.user_id) != event.user_id:
                reason = "other_user"
            if reason is not None:
                joined.refused[reason] += 1
                continue
            touched[event.user_id, event.item_id] = impression
        impression.actions[event.action] += 1
        joined.credited.append((event, impression))
    for slate, user in owners.items():
        for impression in slates[slate]:
            impression.user_id = user
    return joined


def interaction_log(events: list[Event], bundle: Path, name: str = "feedback") -> InteractionLog:
    """The log that towers and sequence model are trained on: all events whose item the bundle has.

    Actions are the bundle's; another one counts as unknown. Where the bundle has the action `like`, it is the label
    of the task of that name.
    """
    items = Oracle(bundle)
    names = items.manifest["sequence"]["actions"]
    row, action = items.item_rows, {a: i for i, a in enumerate(names)}
    kept = [event for event in events if event.item_id in row]
    users = sorted({event.user_id for event in kept})
    number = {user: i for i, user in enumerate(users)}
    kept.sort(key=lambda event: (number[event.user_id], event.time))
    counts = np.bincount([number[event.user_id] for event in kept], minlength=len(users)).astype(np.int64)
    actions = np.array([action.get(event.action, 0) for event in kept], np.uint8)
    return InteractionLog(
        name=name,
        item_ids=list(row),
        item_attributes=[
            Attribute(a["name"], a["type"], items.items[a["name"]], a.get("filterable", False))
            for a in items.manifest["items"]["attributes"]
        ],
        user_ids=users,
        user_attributes=[],
        action_names=list(names),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        items=np.array([row[event.item_id] for event in kept], np.int32),
        actions=actions,
        times=np.array([event.time for event in kept], np.float64),
        liked=actions == action["like"] if "like" in action else None,
        exported_users=len(users),
    )


def impression_table(joined: Joined, log: InteractionLog) -> dict[str, np.ndarray]:
    """Labelled impressions as arrays, for a ranker: groups are the slates of users whom `log` knows.

    `slate.offsets` `[S+1]` cuts the rest into slates; `slate.user` and `slate.event` `[S]` are the user and the first
    event of the log at or after the slate, before which it was shown (`serving.Moments.events`), `slate.known` the
    events known by then. Per impression: `item` rows, `position`, `propensity`, `weight` = 1 / (propensity · sample
    rate), and `label.ACTION` counts, `label.clicked` among them. Items that the log does not know are left out.
    """
    row = {item: i for i, item in enumerate(log.item_ids)}
    number = {user: i for i, user in enumerate(log.user_ids)}
    slates: dict[str, list[Impression]] = {}
    for impression in joined.impressions:
        if impression.user_id in number and impression.item_id in row:
            slates.setdefault(impression.recommendation_id, []).append(impression)
    users, events, known, rows = [], [], [], []
    for slate in slates.values():
        user = number[slate[0].user_id]
        begin, end = int(log.offsets[user]), int(log.offsets[user + 1])
        event = begin + int(np.searchsorted(log.times[begin:end], slate[0].time))
        users.append(user)
        # Events credited early, by clocks that differ, would leave none after the slate.
        events.append(min(event, end - 1))
        known.append(events[-1] - begin)
        rows.append(sorted(slate, key=lambda impression: impression.position))
    flat = [impression for slate in rows for impression in slate]
    actions = sorted({action for impression in flat for action in impression.actions})
    return {
        "slate.offsets": np.cumsum([0] + [len(slate) for slate in rows]).astype(np.int64),
        "slate.user": np.array(users, np.int32),
        "slate.event": np.array(events, np.int64),
        "slate.known": np.array(known, np.int64),
        "item": np.array([row[i.item_id] for i in flat], np.int32),
        "position": np.array([i.position for i in flat], np.int32),
        "propensity": np.array([i.propensity for i in flat], np.float32),
        "weight": np.array([1 / (i.propensity * i.sample_rate) for i in flat], np.float32),
        "label.clicked": np.array([i.is_clicked for i in flat], np.uint8),
        **{"label." + a: np.array([i.actions[a] for i in flat], np.int32) for a in actions},
    }


def write(joined: Joined, log: InteractionLog, out: Path) -> None:
    """Writes `impressions.ndjson`, one labelled impression a line, and `impressions.safetensors` into `out`."""
    from safetensors.numpy import save_file

    out.mkdir(parents=True, exist_ok=True)
    with (out / "impressions.ndjson").open("w") as file:
        for impression in joined.impressions:
            file.write(json.dumps(impression.line(), ensure_ascii=False) + "\n")
    save_file(impression_table(joined, log), out / "impressions.safetensors")
