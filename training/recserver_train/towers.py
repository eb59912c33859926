"""The two towers: a user MLP over identity, pooled history and features; an item table plus attribute
embeddings.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .data import InteractionLog, Split
from .features import Feature, columns, embed, pooled
from .losses import FULL_SOFTMAX_LIMIT, corrected_logq, full_softmax, unit
from .progress import Clock, say, track

Params = dict[str, Any]


@dataclass
class TowerConfig:
    """Shape and training of the towers."""

    inputs: list[Feature]
    dimension: int = 32
    hidden: int = 128
    temperature: float = 0.07
    id_dropout: float = 0.5
    feature_dropout: float = 0.1
    batch: int = 512
    learning_rate: float = 2e-3
    negatives: int = 2048
    full_softmax_limit: int = FULL_SOFTMAX_LIMIT
    widths: dict[str, int] = field(default_factory=dict)


def init_towers(config: TowerConfig, key: jax.Array, users: int, items: int, attributes: int) -> Params:
    """Fresh parameters; `users` counts the exported ones."""
    keys = iter(jax.random.split(key, 8 + len(config.inputs)))
    d = config.dimension
    tables = {
        f.name: 0.05 * jax.random.normal(next(keys), (f.rows(users, items), f.options["dimension"]))
        for f in config.inputs
        if f.has_table
    }
    width = sum(config.widths.values())
    return {
        "tables": tables,
        "item": 0.1 * jax.random.normal(next(keys), (items, d)),
        "attribute": 0.1 * jax.random.normal(next(keys), (attributes, d)),
        "layers": [
            {
                "weight": jax.random.normal(next(keys), (config.hidden, width)) / np.sqrt(width),
                "bias": jnp.zeros(config.hidden),
            },
            {
                "weight": jax.random.normal(next(keys), (d, config.hidden)) / np.sqrt(config.hidden),
                "bias": jnp.zeros(d),
            },
        ],
    }


def item_vectors(params: Params, attributes: jnp.ndarray) -> jnp.ndarray:
    """The item tower: unit rows `[I, d]`."""
    return unit(params["item"] + attributes @ params["attribute"])


def user_vectors(
    params: Params, config: TowerConfig, vectors: jnp.ndarray, encoded: dict[str, jnp.ndarray]
) -> jnp.ndarray:
    """The user tower: unit rows `[b, d]`. Pool features hold rows of `vectors`, -1 for none."""
    parts = []
    for feature in config.inputs:
        if feature.encode == "pool":
            parts.append(pooled(vectors, encoded[feature.name], feature.options["pooling"]))
        else:
            parts.append(embed(feature, params["tables"], encoded[feature.name]))
    x = jnp.concatenate(parts, -1)
    for index, layer in enumerate(params["layers"]):
        x = x @ layer["weight"].T + layer["bias"]
        if index + 1 < len(params["layers"]):
            x = jax.nn.relu(x)
    return unit(x)


def feature_widths(features: list[Feature], dimensions: dict[str, int]) -> dict[str, int]:
    """Columns per feature; `dimensions` gives those of the stages."""
    widths = {}
    for f in features:
        widths[f.name] = (
            2
            if f.encode == "squash"
            else dimensions[f.options["stage"]]
            if f.encode == "stage"
            else f.options["dimension"]
        )
    return widths


class UserInputs:
    """Assembles the user side's encoded inputs for events of the log."""

    def __init__(self, log: InteractionLog, features: list[Feature]) -> None:
        self.log = log
        self.features = features
        self.users = columns(features, "user", log.user_attributes)
        self.context = columns(features, "context", log.context)
        self.owner = log.owner()

    def at(self, events: np.ndarray, lengths: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Inputs for the moment before each event; `lengths` shortens the history to its last events."""
        users = self.owner[events]
        known = events - self.log.offsets[users]
        if lengths is not None:
            known = np.minimum(known, lengths)
        encoded: dict[str, np.ndarray] = {}
        for f in self.features:
            if f.encode == "pool":
                encoded[f.name] = self.recent(f, events, known)
            elif f.source == "user_id":
                encoded[f.name] = self.log.user_row(users)
            elif f.source == "user":
                encoded[f.name] = self.users[f.name][users]
            elif f.source == "context":
                encoded[f.name] = self.context[f.name][events]
        return encoded

    def recent(self, feature: Feature, events: np.ndarray, known: np.ndarray) -> np.ndarray:
        """The rows pooled by `feature`, newest first, -1 where there are none."""
        last = feature.options["last"]
        wanted = feature.options.get("actions")
        if wanted is None:
            back = np.arange(1, last + 1)
            rows = self.log.items[np.maximum(events[:, None] - back, 0)]
            return np.where(back <= known[:, None], rows, -1).astype(np.int32)
        codes = [self.log.action_names.index(name) for name in wanted]
        result = np.full((len(events), last), -1, np.int32)
        for i, (event, count) in enumerate(zip(events, known)):
            span = slice(event - count, event)
            rows = self.log.items[span][np.isin(self.log.actions[span], codes)][-last:]
            result[i, : len(rows)] = rows[::-1]
        return result


def drop_features(
    config: TowerConfig, encoded: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Sometimes hides identity (row 0) and features (missing), so that newcomers are served well."""
    result = dict(encoded)
    for f in config.inputs:
        value = result[f.name]
        rate = config.id_dropout if f.source == "user_id" else config.feature_dropout
        hidden = rng.random(len(value)) < rate
        if f.encode == "pool":
            continue
        if f.encode == "squash":
            result[f.name] = np.where(hidden[:, None], np.array([0, 1], np.float32), value)
        elif f.pooling is None:
            result[f.name] = np.where(hidden, 0, value).astype(np.int32)
    return result


def train_towers(
    log: InteractionLog,
    split: Split,
    config: TowerConfig,
    attributes: np.ndarray,
    seed: int,
    epochs: float,
    clock: Clock | None = None,
) -> Params:
    """Trains both towers on next events up to `sequence_end`; stops when `clock` runs out.

    Full softmax below `config.full_softmax_limit` items, else sampled softmax with the corrected logQ.
    """
    rng = np.random.default_rng(seed)
    params = init_towers(
        config, jax.random.key(seed), log.exported_users, log.item_count, attributes.shape[1]
    )
    inputs = UserInputs(log, config.inputs)
    event = np.arange(len(log.items))
    lengths = np.diff(log.offsets)
    events = event[
        (event < np.repeat(split.sequence_end, lengths)) & (event >= np.repeat(log.offsets[:-1], lengths))
    ]
    counts = np.bincount(log.items[events], minlength=log.item_count).astype(np.float64)
    log_counts = jnp.asarray(np.log(np.maximum(counts, 1)), jnp.float32)
    log_total = float(np.log(np.maximum(counts, 1).sum()))
    sampled = log.item_count > config.full_softmax_limit
    shares = np.cumsum(np.maximum(counts, 1) / np.maximum(counts, 1).sum())
    optimiser = optax.scale_by_adam(b1=0.9, b2=0.99)
    state = optimiser.init(params)
    matrix = jnp.asarray(attributes)

    def loss(
        params: Params, encoded: dict[str, jnp.ndarray], targets: jnp.ndarray, negatives: jnp.ndarray
    ) -> jnp.ndarray:
        vectors = item_vectors(params, matrix)
        queries = user_vectors(params, config, vectors, encoded)
        if sampled:
            rows = corrected_logq(
                queries, vectors, targets, negatives, log_counts, log_total, config.temperature
            )
        else:
            rows = full_softmax(queries, vectors, targets, config.temperature)
        return rows.mean()

    @jax.jit
    def step(params: Params, state: Any, rate: float, encoded: Any, targets: Any, negatives: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, encoded, targets, negatives)
        updates, state = optimiser.update(gradient, state)
        return jax.tree.map(lambda p, u: p - rate * u, params, updates), state, value

    total = max(1, int(epochs * len(events) / config.batch))
    average = None
    for index in track(range(total), "towers", total):
        done = index / total
        if clock is not None:
            done = max(done, clock.share())
            if done >= 1:
                break
        batch = rng.choice(events, config.batch)
        short = np.where(rng.random(config.batch) < 0.1, rng.integers(0, 6, config.batch), 1 << 30)
        encoded = drop_features(config, inputs.at(batch, short), rng)
        negatives = (
            np.minimum(np.searchsorted(shares, rng.random(config.negatives)), log.item_count - 1)
            if sampled
            else np.zeros(1, np.int32)
        )
        rate = config.learning_rate * (0.5 + 0.5 * np.cos(np.pi * done))
        params, state, value = step(params, state, rate, encoded, log.items[batch], negatives)
        average = float(value) if average is None else 0.98 * average + 0.02 * float(value)
    say(f"towers: loss {average:.4f}")
    return params
