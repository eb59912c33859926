"""The serving pipeline replayed over the log: query vectors, merged sources, and every stage the ranker
reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .data import InteractionLog
from .features import Feature, columns
from .hstu import SequenceConfig, candidate_rows, history_rows, target_head, time_buckets, window_start
from .losses import unit
from .similar import unit_rows
from .towers import TowerConfig, UserInputs, user_vectors

Encoded = dict[str, np.ndarray]
EVERYTHING = 1 << 30


@dataclass
class Moments:
    """Points of the log to recommend at: before `events`, knowing only the last `known` events each."""

    events: np.ndarray
    known: np.ndarray

    def __getitem__(self, rows: Any) -> "Moments":
        return Moments(self.events[rows], self.known[rows])

    def __len__(self) -> int:
        return len(self.events)


def moments(log: InteractionLog, events: np.ndarray, limit: np.ndarray | None = None) -> Moments:
    """The moments before `events`, with at most `limit` events of history."""
    known = events - np.repeat(log.offsets[:-1], np.diff(log.offsets))[events]
    return Moments(events, known if limit is None else np.minimum(known, limit))


class Stages:
    """Trained towers and sequence model, answering as the server does (F32, exact retrieval)."""

    def __init__(
        self,
        log: InteractionLog,
        tower: TowerConfig,
        tower_params: dict[str, Any],
        vectors: np.ndarray,
        sequence: SequenceConfig,
        sequence_params: dict[str, Any],
        popularity: np.ndarray,
        retrieval: dict[str, Any],
        similar: np.ndarray | None = None,
    ) -> None:
        self.log, self.tower, self.sequence, self.retrieval = log, tower, sequence, retrieval
        self.vectors, self.popularity = vectors, popularity
        self.similar = unit_rows(vectors if similar is None else similar)
        self.tower_params, self.sequence_params = tower_params, sequence_params
        self.popular = np.argsort(-popularity, kind="stable")
        self.inputs = UserInputs(log, tower.inputs)
        self.table = jnp.asarray(sequence_params["item"])
        self.unit_table = np.asarray(unit(self.table))
        self.users_jit = jax.jit(lambda p, v, e: user_vectors(p, tower, v, e))
        self.states_jit = jax.jit(self._states)
        self.scores_jit = jax.jit(self._scores)

    def user_vectors(self, at: Moments) -> np.ndarray:
        """Tower outputs `[b, d]`."""
        encoded = self.inputs.at(at.events, at.known)
        return np.asarray(self.users_jit(self.tower_params, jnp.asarray(self.vectors), encoded))

    def histories(self, at: Moments) -> Encoded:
        """Windows as the server cuts them, left aligned; times are seconds since the window's first event."""
        known = at.known
        start = window_start(known, self.sequence)
        count = known - start
        quantum = max(16, self.sequence.max_events // 4)
        slots = min(
            max(quantum, -(-int(count.max(initial=1)) // quantum) * quantum), self.sequence.max_events
        )
        rows = (at.events - count)[:, None] + np.arange(slots)
        inside = np.arange(slots) < count[:, None]
        rows = np.where(inside, rows, 0)
        result = {
            "items": np.where(inside, self.log.items[rows], 0),
            "count": count.astype(np.int32),
            "actions": np.where(inside, self.log.actions[rows], 0).astype(np.int32),
        }
        if self.sequence.time_bias and self.log.times is not None:
            first = self.log.times[at.events - count]
            now = self.log.times[at.events]
            times = np.where(inside, self.log.times[rows], now[:, None])
            result["times"] = np.concatenate([times, now[:, None]], 1).astype(np.int64) - first[
                :, None
            ].astype(np.int64)
            result["times"] = result["times"].astype(np.int32)
        return result

    def _states(self, params: Any, history: Any) -> Any:
        buckets = None
        if "times" in history:
            times = history["times"]
            buckets = time_buckets(times[:, 1:, None], times[:, None, :-1])
        rows, kept = history_rows(
            params, self.sequence, params["item"], history["items"], history["actions"], buckets
        )
        last = jnp.take_along_axis(rows, jnp.maximum(history["count"] - 1, 0)[:, None, None], 1)[:, 0]
        return jnp.where(history["count"][:, None] > 0, unit(last), 0), kept

    def _scores(self, params: Any, history: Any, state: Any, candidates: Any) -> Any:
        last, kept = state
        near = None
        if "times" in history:
            times = history["times"]
            near = time_buckets(times[:, -1:], times[:, :-1])[:, None]
        lengths = history["count"][:, None]
        y = candidate_rows(params, self.sequence, params["item"], kept, candidates[:, None], lengths, near)[
            :, 0
        ]
        vector, score = target_head(params, y)
        some = history["count"] > 0
        dot = jnp.einsum("bd,bcd->bc", last, unit(params["item"])[candidates])
        return dot, jnp.where(some[:, None], score, 0), jnp.where(some[:, None, None], vector, 0)

    def sequence_state(self, at: Moments) -> tuple[Encoded, Any]:
        """The windows, and (last unit rows `[b, D]`, keys and values)."""
        history = self.histories(at)
        return history, self.states_jit(self.sequence_params, history)

    def sequence_scores(self, history: Encoded, state: Any, candidates: np.ndarray) -> tuple[np.ndarray, ...]:
        """dot `[b, c]`, score `[b, c]`, vector `[b, c, D]` of the candidates."""
        return tuple(np.asarray(x) for x in self.scores_jit(self.sequence_params, history, state, candidates))

    def seen(self, at: Moments) -> np.ndarray:
        """Items each user already had, bool `[b, I]`."""
        mask = np.zeros((len(at), self.log.item_count), bool)
        for i, (event, count) in enumerate(zip(at.events, at.known)):
            mask[i, self.log.items[event - count : event]] = True
        return mask

    def retrieve(
        self, at: Moments, users: np.ndarray, last: np.ndarray, keep: np.ndarray | None = None
    ) -> np.ndarray:
        """Candidate rows `[b, C]`, best rank in any source first; seen items never come."""
        sources, count = self.retrieval["sources"], self.retrieval["candidates"]
        blocked = self.seen(at)
        best = np.full(blocked.shape, 1e9, np.float32)

        def offer(scores: np.ndarray, quota: int) -> None:
            scores = np.where(blocked, -np.inf, scores)
            quota = min(quota, scores.shape[1])
            top = np.argpartition(-scores, quota - 1, axis=1)[:, :quota]
            order = np.take_along_axis(scores, top, 1).argsort(axis=1)[:, ::-1]
            top = np.take_along_axis(top, order, 1)
            rank = np.minimum(np.take_along_axis(best, top, 1), np.arange(quota, dtype=np.float32))
            np.put_along_axis(best, top, rank, 1)

        offer(users @ self.vectors.T, sources["tower"])
        offer(last @ self.unit_table.T, sources["sequence"])
        offer(np.broadcast_to(self.popularity, blocked.shape), sources["popular"])
        back = 3
        for step in range(1, back + 1):
            recent = self.log.items[np.maximum(at.events - step, 0)]
            offer(
                np.where((at.known >= step)[:, None], self.similar[recent] @ self.similar.T, 0),
                sources["item_to_item"] // back,
            )
        best[blocked] = 2e9
        count = min(count, blocked.shape[1])
        top = np.argpartition(best, count - 1, axis=1)[:, :count]
        return np.take_along_axis(top, np.take_along_axis(best, top, 1).argsort(axis=1, kind="stable"), 1)


def in_batches(at: Moments, size: int) -> Iterator[np.ndarray]:
    """Index batches of similar history length, each exactly `size` long (the last repeats its final row)."""
    order = np.argsort(at.known, kind="stable")
    for begin in range(0, len(order), size):
        rows = order[begin : begin + size]
        yield np.concatenate([rows, np.repeat(rows[-1:], size - len(rows))])


class RankerInputs:
    """Everything x0 is made of, encoded; user-level values `[b, …]`, candidate-level ones `[b, c, …]`."""

    def __init__(self, stages: Stages, features: list[Feature]) -> None:
        self.stages, self.features = stages, features
        self.users = UserInputs(
            stages.log, [f for f in features if f.source not in ("item", "item_id", "stage")]
        )
        self.items = columns(features, "item", stages.log.item_attributes)

    def at(
        self, at: Moments, candidates: np.ndarray, users: np.ndarray, sequence: tuple[np.ndarray, ...]
    ) -> Encoded:
        """Encoded inputs by feature name; stages are not standardised yet."""
        dot, score, vector = sequence
        vectors = self.stages.vectors
        encoded = self.users.at(at.events, at.known)
        for f in self.features:
            match f.source:
                case "item":
                    encoded[f.name] = self.items[f.name][candidates]
                case "item_id":
                    encoded[f.name] = candidates
                case "history":
                    rows = encoded[f.name]
                    total = np.where((rows >= 0)[..., None], vectors[np.maximum(rows, 0)], 0).sum(1)
                    encoded[f.name] = total / np.maximum((rows >= 0).sum(1), 1)[:, None]
                case "stage":
                    encoded[f.name] = {
                        "tower.score": lambda: np.einsum("bd,bcd->bc", users, vectors[candidates])[..., None],
                        "tower.user_vector": lambda: users,
                        "tower.item_vector": lambda: vectors[candidates],
                        "sequence.dot": lambda: dot[..., None],
                        "sequence.score": lambda: score[..., None],
                        "sequence.vector": lambda: vector,
                        "item.popularity": lambda: self.stages.popularity[candidates][..., None],
                    }[f.options["stage"]]().astype(np.float32)
        return encoded
