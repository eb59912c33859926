"""Reads MovieLens 100K (ratings, times) and 1M (order only) from a folder of their files."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from .data import Attribute, InteractionLog


def title_and_year(text: str) -> tuple[str, int | None]:
    """Splits "Name (1995)"."""
    match = re.match(r"(.*?)\s*\((\d{4})\)\s*$", text)
    return (match.group(1), int(match.group(2))) if match else (text, None)


def rows_of(path: Path, separator: str) -> list[list[str]]:
    """The non-empty lines of a latin-1 file, split."""
    return [line.split(separator) for line in path.read_text("latin-1").splitlines() if line.strip()]


def item_attributes(titles: list[str], genres: list[list[str]]) -> list[Attribute]:
    pairs = [title_and_year(t) for t in titles]
    return [
        Attribute("title", "string", [p[0] for p in pairs]),
        Attribute("genres", "strings", genres, filterable=True),
        Attribute("year", "number", [p[1] for p in pairs], filterable=True),
    ]


def read_100k(folder: Path) -> InteractionLog:
    """100,000 ratings with times; a rating of 4 or more is the action `like`, else `watch`."""
    names = {int(row[1]): row[0] for row in rows_of(folder / "u.genre", "|") if len(row) == 2}
    films = rows_of(folder / "u.item", "|")
    genres = [
        [names[i] for i, flag in enumerate(f[5:]) if flag == "1" and names[i] != "unknown"] for f in films
    ]
    people = rows_of(folder / "u.user", "|")
    row_of = {f[0]: i for i, f in enumerate(films)}
    user_of = {p[0]: i for i, p in enumerate(people)}
    log = np.array(
        [(user_of[u], row_of[i], int(r), int(t)) for u, i, r, t in rows_of(folder / "u.data", "\t")]
    )
    log = log[np.lexsort((log[:, 1], log[:, 3], log[:, 0]))]
    liked = log[:, 2] >= 4
    return InteractionLog(
        name="ml-100k",
        item_ids=[f[0] for f in films],
        item_attributes=item_attributes([f[1] for f in films], genres),
        user_ids=[p[0] for p in people],
        user_attributes=[
            Attribute("gender", "string", [p[2] for p in people]),
            Attribute("age", "number", [int(p[1]) for p in people]),
            Attribute("occupation", "string", [p[3] for p in people]),
        ],
        action_names=["unknown", "watch", "like"],
        offsets=np.concatenate([[0], np.cumsum(np.bincount(log[:, 0], minlength=len(people)))]),
        items=log[:, 1].astype(np.int32),
        actions=np.where(liked, 2, 1).astype(np.uint8),
        times=log[:, 3].astype(np.float64),
        liked=liked,
        exported_users=len(people),
    )


def read_1m(folder: Path) -> InteractionLog:
    """A million events in order, without times and ratings; every event is a `watch`."""
    films = rows_of(folder / "movies.dat", "::")
    people = rows_of(folder / "users.dat", "::")
    row_of = {f[0]: i for i, f in enumerate(films)}
    sequences = {line[0]: line[1:] for line in rows_of(folder / "sequences_by_time.txt", " ")}
    histories: list[Any] = [np.array([row_of[i] for i in sequences.get(p[0], [])], np.int32) for p in people]
    items = np.concatenate(histories)
    return InteractionLog(
        name="ml-1m",
        item_ids=[f[0] for f in films],
        item_attributes=item_attributes([f[1] for f in films], [f[2].strip().split("|") for f in films]),
        user_ids=[p[0] for p in people],
        user_attributes=[
            Attribute("gender", "string", [p[1] for p in people]),
            Attribute("age", "number", [int(p[2]) for p in people]),
            Attribute("occupation", "number", [int(p[3]) for p in people]),
        ],
        action_names=["unknown"],
        offsets=np.concatenate([[0], np.cumsum([len(h) for h in histories])]),
        items=items,
        actions=np.zeros(len(items), np.uint8),
        times=None,
        liked=None,
        exported_users=len(people),
    )
