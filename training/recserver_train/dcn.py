"""DCN-V2: cross layers beside or below a deep part, one logit per task."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .features import Feature

Params = dict[str, Any]


@dataclass
class RankerConfig:
    """Shape of the ranker; `inputs` in the order of x0's columns."""

    inputs: list[Feature]
    tasks: list[str]
    structure: str = "parallel"
    cross_layers: int = 2
    cross_rank: int = 0
    deep: tuple[int, ...] = (64, 32)
    widths: dict[str, int] = field(default_factory=dict)

    @property
    def width(self) -> int:
        return sum(self.widths.values())

    def column(self, name: str) -> int:
        """The first column of input `name`."""
        offset = 0
        for feature in self.inputs:
            if feature.name == name:
                return offset
            offset += self.widths[feature.name]
        raise KeyError(name)


def init_ranker(config: RankerConfig, key: jax.Array, users: int, items: int) -> Params:
    """Fresh parameters; the cross layers begin near the identity and the head near zero."""
    keys = iter(jax.random.split(key, 4 + 2 * config.cross_layers + len(config.deep) + len(config.inputs)))
    w = config.width
    cross = []
    for _ in range(config.cross_layers):
        if config.cross_rank:
            cross.append(
                {
                    "u": 0.17 / np.sqrt(w) * jax.random.normal(next(keys), (w, config.cross_rank)),
                    "v": 0.17 / np.sqrt(w) * jax.random.normal(next(keys), (config.cross_rank, w)),
                    "bias": jnp.zeros(w),
                }
            )
        else:
            cross.append(
                {"weight": 0.03 / np.sqrt(w) * jax.random.normal(next(keys), (w, w)), "bias": jnp.zeros(w)}
            )
    deep, below = [], w
    for size in config.deep:
        deep.append(
            {
                "weight": np.sqrt(2 / below) * jax.random.normal(next(keys), (size, below)),
                "bias": jnp.zeros(size),
            }
        )
        below = size
    top = below if config.structure == "stacked" else below + w
    return {
        "tables": {
            f.name: 0.02 * jax.random.normal(next(keys), (f.rows(users, items), f.options["dimension"]))
            for f in config.inputs
            if f.has_table
        },
        "cross": cross,
        "deep": deep,
        "head": {
            "weight": 0.01 * jax.random.normal(next(keys), (len(config.tasks), top)),
            "bias": jnp.zeros(len(config.tasks)),
        },
    }


def ranker_logits(params: Params, config: RankerConfig, x0: jnp.ndarray) -> jnp.ndarray:
    """Logits `[…, T]` of inputs `[…, W]`."""
    x = x0
    for layer in params["cross"]:
        if config.cross_rank:
            product = (x @ layer["v"].T) @ layer["u"].T
        else:
            product = x @ layer["weight"].T
        x = x0 * (product + layer["bias"]) + x
    deep = x if config.structure == "stacked" else x0
    for layer in params["deep"]:
        deep = jax.nn.relu(deep @ layer["weight"].T + layer["bias"])
    top = deep if config.structure == "stacked" else jnp.concatenate([x, deep], -1)
    return top @ params["head"]["weight"].T + params["head"]["bias"]


def fit_platt(logits: np.ndarray, labels: np.ndarray, steps: int = 50) -> tuple[float, float]:
    """a and b of sigmoid(a·z + b) by Newton's method on the log likelihood; a step that makes it worse is halved."""
    a, b = 1.0, 0.0
    z, y = logits.astype(np.float64), labels.astype(np.float64)

    def loss(a: float, b: float) -> float:
        return float((np.logaddexp(0, a * z + b) - y * (a * z + b)).mean()) + 0.5e-6 * (a - 1) ** 2

    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(a * z + b, -30, 30)))
        slope, curve = p - y, np.maximum(p * (1 - p), 1e-9)
        gradient = np.array([(slope * z).mean() + 1e-6 * (a - 1), slope.mean()])
        hessian = np.array(
            [[(curve * z * z).mean() + 1e-6, (curve * z).mean()], [(curve * z).mean(), curve.mean() + 1e-9]]
        )
        move, now = np.linalg.solve(hessian, gradient), loss(a, b)
        while loss(a - move[0], b - move[1]) > now + 1e-12 and np.abs(move).max() > 1e-9:
            move = move / 2
        a, b = a - move[0], b - move[1]
        if np.abs(move).max() < 1e-9:
            break
    return round(float(a), 6), round(float(b), 6)


def fit_isotonic(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 12
) -> tuple[list[float], list[float]]:
    """Points x, y, both strictly ascending, of a monotone map: pooled adjacent violators over equal-count
    bins.
    """
    order = np.argsort(probabilities, kind="stable")
    blocks = [
        [float(probabilities[g].mean()), float(labels[g].mean()), len(g)]
        for g in np.array_split(order, bins)
        if len(g)
    ]
    merged: list[list[float]] = []
    for block in blocks:
        merged.append(block)
        while len(merged) > 1 and merged[-2][1] >= merged[-1][1]:
            (x1, y1, n1), (x2, y2, n2) = merged[-2], merged[-1]
            merged[-2:] = [[(x1 * n1 + x2 * n2) / (n1 + n2), (y1 * n1 + y2 * n2) / (n1 + n2), n1 + n2]]
    x = [round(m[0], 6) for m in merged]
    y = [round(min(max(m[1], 1e-6), 1 - 1e-6), 6) for m in merged]
    if len(x) == 1 or any(b <= a for a, b in zip(x, x[1:])) or any(b <= a for a, b in zip(y, y[1:])):
        return [0.0, 1.0], [0.0, 1.0]
    return x, y


def calibrated(probability_logits: np.ndarray, calibration: dict[str, Any]) -> np.ndarray:
    """Probabilities of one task's logits under its calibration."""

    def sigmoid(z: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(z, -60, 60)))

    match calibration["kind"]:
        case "platt":
            return sigmoid(calibration["a"] * probability_logits + calibration["b"])
        case "logit_offset":
            return sigmoid(probability_logits + calibration["offset"])
        case "isotonic":
            return np.interp(sigmoid(probability_logits), calibration["x"], calibration["y"])
    return sigmoid(probability_logits)
