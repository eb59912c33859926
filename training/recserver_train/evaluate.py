"""Leave-last-out evaluation: full ranking, seen items filtered; every score must be finite."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .data import Split
from .dcn import RankerConfig, calibrated, ranker_logits
from .golden import history_before, moment
from .metrics import finite, hit_rate, ndcg
from .progress import say, track
from .ranker_training import assemble
from .serving import RankerInputs, Stages, in_batches, moments

MISS = 1 << 30


def ranks(scores: np.ndarray, seen: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """0-based rank of each target among the unseen items, ties against it."""
    scores = np.where(seen, -np.inf, finite(scores))
    own = np.take_along_axis(scores, targets[:, None], 1)
    return (scores >= own).sum(1) - 1


def top_ids(scores: np.ndarray, seen: np.ndarray, count: int = 10) -> np.ndarray:
    """Rows of the best unseen items, best first."""
    return np.argsort(-np.where(seen, -np.inf, scores), axis=1, kind="stable")[:, :count]


class Evaluation:
    """Ranks of the held-out items under every method, and what each user was offered."""

    def __init__(
        self,
        stages: Stages,
        config: RankerConfig | None,
        params: Any,
        frozen: Any,
        tasks: list[dict[str, Any]],
        value: dict[str, Any],
    ) -> None:
        self.stages, self.config, self.tasks, self.value = stages, config, tasks, value
        if config is not None:
            self.inputs = RankerInputs(stages, config.inputs)
            self.score = jax.jit(
                lambda e: ranker_logits(params, config, assemble(config, {**frozen, **params["tables"]}, e))
            )

    def values(self, logits: np.ndarray) -> np.ndarray:
        """The value model over calibrated probabilities."""
        p = np.stack(
            [
                calibrated(logits[..., i].astype(np.float64), t["calibration"])
                for i, t in enumerate(self.tasks)
            ],
            -1,
        )
        weights = np.array([self.value["weights"].get(t["name"], 0) for t in self.tasks])
        match self.value["form"]:
            case "linear":
                return p @ weights
            case "log":
                return np.log(np.maximum(p, 1e-9)) @ weights
        return np.prod(np.maximum(p, 1e-9) ** weights, -1)

    def run(self, split: Split, limit: int = 10_000) -> dict[str, Any]:
        """Evaluates up to `limit` users, those of the bundle first."""
        log = self.stages.log
        users = np.flatnonzero(split.test >= 0)[:limit]
        at = moments(log, split.test[users])
        outcome = {
            name: np.full(len(users), MISS) for name in ("popularity", "two-tower", "sequence", "pipeline")
        }
        offered = {
            name: np.zeros((len(users), 10), np.int64) for name in ("popularity", "two-tower", "pipeline")
        }
        retrieved = np.zeros(len(users), bool)
        size = 32
        for rows in track(in_batches(at, size), "evaluation", -(-len(users) // size)):
            here = at[rows]
            targets, seen = log.items[here.events], self.stages.seen(here)
            queries = self.stages.user_vectors(here)
            history, state = self.stages.sequence_state(here)
            last = np.asarray(state[0])
            popular = np.broadcast_to(self.stages.popularity, seen.shape)
            tower, dot = queries @ self.stages.vectors.T, last @ self.stages.unit_table.T
            for name, scores in (("popularity", popular), ("two-tower", tower), ("sequence", dot)):
                outcome[name][rows] = ranks(scores, seen, targets)
                if name in offered:
                    offered[name][rows] = top_ids(scores, seen)
            candidates = self.stages.retrieve(here, queries, last)
            hit = candidates == targets[:, None]
            retrieved[rows] = hit.any(1)
            scores = self.rank(here, candidates, queries, history, state)
            finite(scores)
            own = np.where(hit, scores, -np.inf).max(1)
            outcome["pipeline"][rows] = np.where(hit.any(1), (scores >= own[:, None]).sum(1) - 1, MISS)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
            offered["pipeline"][rows] = np.take_along_axis(candidates, best, 1)
        result: dict[str, Any] = {
            name: {"hr@10": round(hit_rate(r), 4), "ndcg@10": round(ndcg(r), 4)}
            for name, r in outcome.items()
        }
        result["retrieved"] = round(float(retrieved.mean()), 4)
        result["users"] = len(users)
        self.users, self.at, self.offered, self.outcome = users, at, offered, outcome
        return result

    def rank(
        self, here: Any, candidates: np.ndarray, queries: np.ndarray, history: Any, state: Any
    ) -> np.ndarray:
        """Final scores `[b, c]` of the candidates."""
        sequence = self.stages.sequence_scores(history, state, candidates)
        if self.config is None:
            return sequence[1]
        encoded = self.inputs.at(here, candidates, queries, sequence)
        encoded["candidates"] = candidates
        return self.values(np.asarray(self.score(encoded)))

    def write(self, path: Path) -> None:
        """One line per evaluated user: history, held-out item, and the top 10 of both simple methods."""
        log = self.stages.log
        with path.open("w") as out:
            for i, user in enumerate(self.users):
                end = int(self.at.events[i])
                line: dict[str, Any] = {
                    "user_id": log.user_ids[user],
                    "history": history_before(log, end, int(self.at.known[i])),
                    "target": log.item_ids[log.items[end]],
                    "now": moment(log, end),
                }
                context = {a.name: a.values[end] for a in log.context}
                if context:
                    line["context"] = context
                line["two_tower"] = [log.item_ids[r] for r in self.offered["two-tower"][i]]
                line["popular"] = [log.item_ids[r] for r in self.offered["popularity"][i]]
                line["pipeline"] = [log.item_ids[r] for r in self.offered["pipeline"][i]]
                out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def report(result: dict[str, Any], tasks: dict[str, Any]) -> None:
    """Prints the tables."""
    say(f"\nleave-last-out, {result['users']} users, full ranking, seen items filtered")
    say(f"{'':12} {'HR@10':>8} {'NDCG@10':>8}")
    for name in ("popularity", "two-tower", "sequence", "pipeline"):
        say(f"{name:12} {result[name]['hr@10']:8.4f} {result[name]['ndcg@10']:8.4f}")
    say(f"held-out item among the candidates: {result['retrieved']:.4f}")
    if tasks:
        say(f"\n{'task':12} {'AUC':>8} {'LogLoss':>8} {'ECE':>8}")
        for name, m in tasks.items():
            say(f"{name:12} {m['auc']:8.4f} {m['log_loss']:8.4f} {m['ece']:8.4f}")
    say("")
