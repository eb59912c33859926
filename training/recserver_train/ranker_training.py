"""Trains the DCN-V2 ranker on a later slice of the log, against negatives that serving would retrieve."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .dcn import Params, RankerConfig, calibrated, fit_isotonic, fit_platt, init_ranker, ranker_logits
from .features import embed
from .losses import binary_cross_entropy
from .metrics import auc, expected_calibration_error, log_loss
from .progress import say, track
from .serving import Encoded, Moments, RankerInputs, Stages, in_batches
from .towers import feature_widths

NEGATIVES = 31


def choose(
    retrieved: np.ndarray, positive: np.ndarray, negatives: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The true item (column 0) and negatives of each row's retrieved list, and what stands for the others.

    All of the list, or `negatives` of it: half from its head, half from the rest. The second array, one value
    per column, is added to the logits in a softmax: -log of the share that was drawn, so that the sum
    estimates the one over the whole list.
    """
    rows, count = retrieved.shape
    others = np.empty((rows, count - 1), retrieved.dtype)
    for i in range(rows):
        others[i] = retrieved[i][retrieved[i] != positive[i]][: count - 1]
    if negatives is None:
        return np.concatenate([positive[:, None], others], 1).astype(np.int32), np.zeros(count, np.float32)
    near, far = negatives // 2, negatives - negatives // 2
    head = min(4 * near, (count - 1) // 2)
    chosen = np.empty((rows, 1 + negatives), np.int32)
    chosen[:, 0] = positive
    for i in range(rows):
        picks = np.concatenate(
            [rng.choice(head, near, replace=False), head + rng.choice(count - 1 - head, far, replace=False)]
        )
        chosen[i, 1:] = others[i, picks]
    shares = [1.0] + [near / head] * near + [far / (count - 1 - head)] * far
    return chosen, -np.log(shares).astype(np.float32)


def collect(
    stages: Stages, inputs: RankerInputs, at: Moments, negatives: int | None, rng: np.random.Generator,
    label: str ) -> tuple[Encoded, np.ndarray]:
    """Encoded groups of the true item (column 0) and retrieved negatives, and the moments' order they are in.

    `negatives` None takes the whole list.
    """
    size, parts, order = 64, [], []
    total = -(-len(at) // size)
    for rows in track(in_batches(at, size), label, total):
        here = at[rows]
        users = stages.user_vectors(here)
        history, state = stages.sequence_state(here)
        retrieved = stages.retrieve(here, users, np.asarray(state[0]))
        positive = stages.log.items[here.events]
        chosen, correction = choose(retrieved, positive, negatives, rng)
        encoded = inputs.at(here, chosen, users, stages.sequence_scores(history, state, chosen))
        encoded["candidates"] = chosen
        encoded["correction"] = np.broadcast_to(correction, chosen.shape)
        parts.append(encoded)
        order.append(rows)
    keys = parts[0].keys()
    indices = np.concatenate(order)[: len(at)]
    return {k: np.concatenate([p[k] for p in parts])[: len(at)] for k in keys}, indices


def standardise(config: RankerConfig, sample: Encoded) -> RankerConfig:
    """The configuration with each stage's mean and deviation over `sample` (with history only)."""
    inputs = []
    for f in config.inputs:
        if f.encode == "stage":
            values = sample[f.name]
            values = values[np.abs(values).reshape(len(values), -1).sum(1) > 0]
            options = {
                **f.options,
                "mean": round(float(values.mean()), 6),
                "std": round(float(values.std()) or 1.0, 6),
            }
            f = replace(f, options=options)
        inputs.append(f)
    return replace(config, inputs=inputs)


def assemble(config: RankerConfig, tables: dict[str, Any], encoded: Any) -> jnp.ndarray:
    """x0 `[b, c, W]`."""
    count = encoded["candidates"].shape[1]
    parts = []
    for f in config.inputs:
        value = embed(f, tables, encoded[f.name])
        if f.encode == "stage":
            value = (value - f.options["mean"]) / f.options["std"]
        if value.ndim == 2:
            value = jnp.broadcast_to(value[:, None], (value.shape[0], count, value.shape[1]))
        parts.append(value)
    return jnp.concatenate(parts, -1)


def ndcg_of_first(scores: np.ndarray) -> float:
    """NDCG@10 of column 0 among the row's candidates; non-finite scores are refused."""
    if not np.isfinite(scores).all():
        raise ValueError("non-finite ranker scores")
    rank = (scores[:, 1:] >= scores[:, :1]).sum(1)
    return float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())


def train_ranker(
    stages: Stages,
    config: RankerConfig,
    frozen: dict[str, Any],
    train: Moments,
    valid: Moments,
    seed: int,
    epochs: int = 6,
    batch: int = 128,
    learning_rate: float = 1e-3,
    decay: float = 1e-2,
    bce_weight: float = 0.2,
) -> tuple[RankerConfig, Params, list[dict[str, Any]], dict[str, Any]]:
    """Returns configuration, parameters, tasks with calibration, and metrics of the held-out slice.

    It starts from the sequence model's own order and keeps the epoch, or the mixture of it with the start,
    that ranks the held-out slice best. Tables in `frozen` (the towers') are not trained.
    """
    rng = np.random.default_rng(seed)
    log = stages.log
    dimensions = {
        "tower.score": 1,
        "tower.user_vector": stages.vectors.shape[1],
        "tower.item_vector": stages.vectors.shape[1],
        "sequence.dot": 1,
        "sequence.score": 1,
        "sequence.vector": stages.sequence.dimension,
        "item.popularity": 1,
    }
    config = replace(config, widths=feature_widths(config.inputs, dimensions))
    inputs = RankerInputs(stages, config.inputs)
    data, order = collect(stages, inputs, train, NEGATIVES, rng, "ranker examples")
    held, held_order = collect(stages, inputs, valid, None, rng, "held-out examples")
    config = standardise(config, data)
    labels = {"like": log.liked[train.events[order]]} if log.liked is not None else {}
    params = init_ranker(config, jax.random.key(seed), log.exported_users, log.item_count)
    own = {k: v for k, v in params["tables"].items() if k not in frozen}
    params["tables"] = own
    dot = next(f for f in config.inputs if f.options.get("stage") == "sequence.dot")
    weight = dot.options["std"] / stages.sequence.temperature
    params["head"]["weight"] = (
        params["head"]["weight"].at[0].set(0).at[0, config.column(dot.name)].set(weight)
    )
    params["head"]["bias"] = params["head"]["bias"].at[0].set(-3.0)
    users = next((f.name for f in config.inputs if f.source == "user_id"), None)

    def loss(params: Params, encoded: Any, like: Any) -> jnp.ndarray:
        x0 = assemble(config, {**frozen, **params["tables"]}, encoded)
        logits = ranker_logits(params, config, x0)
        watch = logits[..., 0]
        listwise = (jax.nn.logsumexp(watch + encoded["correction"], -1) - watch[:, 0]).mean()
        truth = jnp.zeros(watch.shape).at[:, 0].set(1)
        value = listwise + bce_weight * binary_cross_entropy(watch, truth).mean()
        if like is not None:
            value += 0.5 * binary_cross_entropy(logits[:, 0, config.tasks.index("like")], like).mean()
        return value

    optimiser = optax.scale_by_adam(b1=0.9, b2=0.99)
    state = optimiser.init(params)

    @jax.jit
    def step(params: Params, state: Any, rate: float, encoded: Any, like: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(params, encoded, like)
        updates, state = optimiser.update(gradient, state)
        return jax.tree.map(lambda p, u: p - rate * (u + decay * p), params, updates), state, value

    score = jax.jit(lambda p, e: ranker_logits(p, config, assemble(config, {**frozen, **p["tables"]}, e)))

    def predict(params: Params) -> np.ndarray:
        chunks = [{k: v[i : i + 64] for k, v in held.items()} for i in range(0, len(held_order), 64)]
        return np.concatenate([np.asarray(score(params, c)) for c in chunks])

    logits = predict(params)
    best, kept = ndcg_of_first(logits[..., 0]), params
    start = kept_by_training = params
    say(f"ranker: NDCG@10 before training {best:.4f}")
    count = len(train)
    steps, index = max(1, count // batch), 0
    for epoch in range(epochs):
        shuffled = rng.permutation(count)
        total = 0.0
        for i in range(steps):
            rows = shuffled[i * batch : (i + 1) * batch]
            encoded = {k: v[rows] for k, v in data.items()}
            if users is not None:
                encoded[users] = np.where(rng.random(len(rows)) < 0.3, 0, encoded[users])
            like = labels["like"][rows].astype(np.float32) if labels else None
            rate = learning_rate * 0.5 * (1 + np.cos(np.pi * index / (steps * epochs)))
            params, state, value = step(params, state, rate, encoded, like)
            total += float(value)
            index += 1
        logits_now = predict(params)
        quality = ndcg_of_first(logits_now[..., 0])
        say(
            f"ranker: epoch {epoch + 1} of {epochs}, loss {total / steps:.4f}, NDCG@10 {quality:.4f}"
        )
        if quality > best:
            best, kept, logits = quality, params, logits_now
            kept_by_training = params
    if kept is not start:
        for share in (0.25, 0.5, 0.75):
            mixed = jax.tree.map(lambda a, b, w=share: (1 - w) * a + w * b, start, kept_by_training)
            logits_now = predict(mixed)
            quality = ndcg_of_first(logits_now[..., 0])
            say(f"ranker: {share:.2f} of the way from the sequence order, NDCG@10 {quality:.4f}")
            if quality >= best:
                best, kept, logits = quality, mixed, logits_now
    liked = log.liked[valid.events[held_order]] if log.liked is not None else None
    by_time = np.argsort(
        valid.events[held_order] if log.times is None else log.times[valid.events[held_order]]
    )
    tasks, metrics = calibrate(config, logits, liked, by_time)
    return config, kept, tasks, metrics


def calibrate(
    config: RankerConfig, logits: np.ndarray, liked: np.ndarray | None, by_time: np.ndarray
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Fits each task's calibration on the earlier half of the held-out slice; AUC, LogLoss and ECE on the
    later.
    """
    early, late = np.array_split(by_time, 2)
    tasks, metrics = [], {}
    for index, name in enumerate(config.tasks):
        if name == "like":
            z, y = logits[:, 0, index], liked.astype(np.float64)
        else:
            z, y = logits[..., index], np.zeros(logits.shape[:2])
            y[:, 0] = 1
        if name == "like":
            x, points = fit_isotonic(1 / (1 + np.exp(-z[early])), y[early])
            calibration: dict[str, Any] = {"kind": "isotonic", "x": x, "y": points}
        else:
            a, b = fit_platt(z[early].ravel(), y[early].ravel())
            calibration = {"kind": "platt", "a": a, "b": b}
        p, truth = calibrated(z[late].ravel(), calibration), y[late].ravel()
        metrics[name] = {
            "auc": auc(z[late].ravel(), truth),
            "log_loss": log_loss(p, truth),
            "ece": expected_calibration_error(p, truth),
        }
        tasks.append({"name": name, "calibration": calibration})
    return tasks, metrics
