"""Trains the sequence model: next-item full softmax on history rows and BCE through the target head, jointly.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .data import InteractionLog
from .hstu import (
    Params,
    SequenceConfig,
    candidate_rows,
    history_rows,
    init_sequence,
    item_table,
    target_head,
    time_buckets,
)
from .losses import FULL_SOFTMAX_LIMIT, binary_cross_entropy, corrected_logq, full_softmax, unit
from .progress import Clock, say, track

POSITIONS = 8
HARD, EASY, POOL = 4, 3, 512
NEGATIVES = 2048


def chunks(
    log: InteractionLog, ends: np.ndarray, window: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Event ranges of at most `window` + 1 events that together cover every user's events as targets once."""
    ranges = []
    for user in range(log.user_count):
        first, end = int(log.offsets[user]), int(ends[user])
        if end - first < 2:
            continue
        if end - first > window + 1:
            start = first - int(rng.integers(0, window))
        else:
            start = first
        while start < end - 1:
            begin, stop = max(start, first), min(start + window + 1, end)
            if stop - begin >= 2:
                ranges.append((begin, stop))
            start += window
    return ranges


def batches(
    log: InteractionLog,
    ranges: list[tuple[int, int]],
    config: SequenceConfig,
    size: int,
    rng: np.random.Generator,
) -> Iterator[dict[str, np.ndarray]]:
    """Left-aligned batches of similar length, in random order; the last may hold empty sequences."""
    lengths = np.array([stop - begin - 1 for begin, stop in ranges])
    order = np.argsort(lengths + rng.random(len(ranges)), kind="stable")
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    quantum = max(16, config.max_events // 5)
    for index in rng.permutation(len(groups)):
        rows = groups[index]
        longest = int(lengths[rows].max())
        slots = min(-(-longest // quantum) * quantum, config.max_events)
        items = np.zeros((size, slots + 1), np.int32)
        actions = np.zeros((size, slots + 1), np.int32)
        times = np.zeros((size, slots + 1), np.int32)
        count = np.zeros(size, np.int32)
        for i, row in enumerate(rows):
            begin, stop = ranges[row]
            n = stop - begin
            items[i, :n], actions[i, :n], count[i] = log.items[begin:stop], log.actions[begin:stop], n - 1
            if log.times is not None:
                times[i, :n] = log.times[begin:stop] - log.times[begin]
                times[i, n:] = times[i, n - 1]
        yield {"items": items, "actions": actions, "times": times, "count": count}


def joint_loss(
    params: Params,
    config: SequenceConfig,
    attributes: jnp.ndarray,
    batch: dict[str, jnp.ndarray],
    key: jax.Array,
    target_weight: float,
    counts: jnp.ndarray | None = None,
) -> jnp.ndarray:
    """Mean next-item cross entropy plus `target_weight` times the target head's mean BCE.

    With `negatives` in the batch the cross entropy is sampled; `counts` `[I]` are how often each item is
    drawn.
    """
    keys = jax.random.split(key, 6)
    table = item_table(params, attributes)
    items, following = batch["items"][:, :-1], batch["items"][:, 1:]
    slots = items.shape[1]
    buckets = None
    if config.time_bias:
        buckets = time_buckets(batch["times"][:, 1:, None], batch["times"][:, None, :-1])
    rows, kept = history_rows(params, config, table, items, batch["actions"][:, :-1], buckets, keys[0])
    valid = (jnp.arange(slots) < batch["count"][:, None]).astype(jnp.float32)
    vectors, queries = unit(table), unit(rows)
    flat, targets = queries.reshape(-1, config.dimension), following.reshape(-1)
    if "negatives" in batch:
        losses = corrected_logq(
            flat,
            vectors,
            targets,
            batch["negatives"],
            jnp.log(counts),
            jnp.log(counts.sum()),
            config.temperature,
        )
    else:
        losses = full_softmax(flat, vectors, targets, config.temperature)
    next_item = (losses * valid.reshape(-1)).sum() / valid.sum()

    positions = jax.random.randint(keys[1], (POSITIONS,), 0, slots)
    positives = following[:, positions]
    pool = jax.random.randint(keys[2], (POOL,), 0, table.shape[0])
    likeness = jax.lax.stop_gradient(queries[:, positions] @ vectors[pool].T)
    likeness = jnp.where(pool == positives[..., None], -2.0, likeness)
    hard = pool[jax.lax.top_k(likeness, HARD)[1]]
    easy = jax.random.randint(keys[3], positives.shape + (EASY,), 0, table.shape[0])
    candidates = jnp.concatenate([positives[..., None], hard, easy], -1)
    distinct = candidates.at[..., 1:].get() != positives[..., None]
    near = None if buckets is None else buckets[:, positions]
    y = candidate_rows(params, config, table, kept, candidates, positions + 1, near, keys[4])
    _, scores = target_head(params, y)
    labels = jnp.zeros(candidates.shape).at[..., 0].set(1.0)
    weight = valid[:, positions][..., None] * jnp.concatenate(
        [jnp.ones_like(distinct[..., :1]), distinct], -1
    )
    target = (binary_cross_entropy(scores, labels) * weight).sum() / jnp.maximum(weight.sum(), 1)
    return next_item + target_weight * target


def train_sequence(
    log: InteractionLog,
    ends: np.ndarray,
    config: SequenceConfig,
    attributes: np.ndarray,
    seed: int,
    epochs: int,
    clock: Clock | None = None,
    batch: int = 32,
    learning_rate: float = 1e-3,
    target_weight: float = 0.5,
    softmax_limit: int = FULL_SOFTMAX_LIMIT,
) -> Params:
    """Trains for `epochs`, or until `clock` runs out; the learning rate warms up and decays with either."""
    rng = np.random.default_rng(seed)
    key = jax.random.key(seed, impl="rbg")
    params = init_sequence(config, key, log.item_count, attributes.shape[1])
    optimiser = optax.scale_by_adam(b1=0.9, b2=0.98)
    state = optimiser.init(params)
    matrix = jnp.asarray(attributes)
    shares = None
    counts = np.maximum(np.bincount(log.items, minlength=log.item_count), 1).astype(np.float32)
    if log.item_count > softmax_limit:
        shares = np.cumsum(counts / counts.sum())

    def step(params: Params, state: Any, rate: float, batch: Any, key: jax.Array) -> Any:
        value, gradient = jax.value_and_grad(joint_loss)(
            params, config, matrix, batch, key, target_weight, jnp.asarray(counts)
        )
        updates, state = optimiser.update(gradient, state)
        return jax.tree.map(lambda p, u: p - rate * u, params, updates), state, value

    step = jax.jit(step, donate_argnums=(0, 1))
    index = 0
    for epoch in range(epochs):
        ranges = chunks(log, ends, config.max_events, rng)
        count = -(-len(ranges) // batch)
        total = 0.0
        for data in track(batches(log, ranges, config, batch, rng), f"sequence epoch {epoch + 1}", count):
            done = index / (count * epochs)
            if clock is not None:
                done = max(done, clock.share())
                if done >= 1:
                    say(f"sequence: stopped by the clock in epoch {epoch + 1}")
                    return params
            if shares is not None:
                data["negatives"] = np.minimum(
                    np.searchsorted(shares, rng.random(NEGATIVES)), log.item_count - 1
                )
            rate = learning_rate * min(1, (index + 1) / 200) * (0.02 + 0.49 * (1 + np.cos(np.pi * done)))
            params, state, value = step(params, state, rate, data, jax.random.fold_in(key, index))
            index += 1
            total += float(value)
        say(f"sequence: epoch {epoch + 1} of {epochs}, loss {total / count:.4f}")
    return params
