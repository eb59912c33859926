"""HSTU: history rows, isolated candidates, both heads. Shapes: b sequences, l slots, c candidates, h heads.
"""

from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Params = dict[str, Any]
BUCKETS = 128


@dataclass(frozen=True)
class SequenceConfig:
    """The constants of `manifest.sequence` and the dropout of training."""

    dimension: int = 64
    layers: int = 2
    heads: int = 2
    qk_dimension: int = 32
    value_dimension: int = 32
    max_events: int = 200
    window_block: int = 32
    actions: tuple[str, ...] = ("unknown",)
    time_bias: bool = False
    temperature: float = 0.05
    dropout: float = 0.2

    @property
    def normalizer(self) -> int:
        return self.max_events + 1

    def manifest(self) -> dict[str, Any]:
        own = asdict(self)
        keys = (
            "dimension",
            "layers",
            "heads",
            "max_events",
            "window_block",
            "qk_dimension",
            "value_dimension",
            "time_bias",
        )
        return {
            "family": "hstu",
            **{k: own[k] for k in keys},
            "normalizer": self.normalizer,
            "position_bias": True,
            "actions": list(self.actions),
            "dot": {"normalize": "l2", "temperature": self.temperature},
            "target": True,
        }


def window_start(total: int | np.ndarray, config: SequenceConfig) -> Any:
    """The first event the model sees of `total`: a multiple of the window block."""
    block = config.window_block
    return block * -(-np.maximum(0, total - config.max_events) // block)


def init_sequence(config: SequenceConfig, key: jax.Array, items: int, attributes: int) -> Params:
    """Fresh parameters; item rows are the sum of an own row and attribute embeddings."""
    d, h, n = config.dimension, config.heads, config.normalizer
    dv, dqk = h * config.value_dimension, h * config.qk_dimension
    keys = iter(jax.random.split(key, 8 + 4 * config.layers))
    layers = []
    for _ in range(config.layers):
        layer = {
            "uvqk": 0.02 * jax.random.normal(next(keys), (2 * dv + 2 * dqk, d)),
            "position_bias": 0.02 * jax.random.normal(next(keys), (2 * n - 1,)),
            "output": jax.random.normal(next(keys), (d, dv)) * np.sqrt(2.0 / (d + dv)),
            "output_bias": jnp.zeros(d),
        }
        if config.time_bias:
            layer["time_bias"] = 0.02 * jax.random.normal(next(keys), (BUCKETS + 1,))
        layers.append(layer)
    return {
        "item": 0.02 * jax.random.truncated_normal(next(keys), -2, 2, (items, d)),
        "attribute": 0.02 * jax.random.normal(next(keys), (attributes, d)),
        "action": 0.02 * jax.random.normal(next(keys), (len(config.actions) + 1, d)),
        "position": np.sqrt(1 / d)
        * jax.random.truncated_normal(next(keys), -2, 2, (config.max_events + 1, d)),
        "layers": layers,
        "target": {
            "norm": jnp.ones(d),
            "norm_bias": jnp.zeros(d),
            "weight": 0.02 * jax.random.normal(next(keys), (1, d)),
            "bias": jnp.zeros(1),
        },
    }


def item_table(params: Params, attributes: jnp.ndarray | None) -> jnp.ndarray:
    """The item embedding `[I, D]` as it is exported."""
    return params["item"] if attributes is None else params["item"] + attributes @ params["attribute"]


def layer_norm(x: jnp.ndarray, eps: float = 1e-6) -> jnp.ndarray:
    """Normalisation without affine, population variance."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps)


def time_buckets(now: jnp.ndarray, then: jnp.ndarray) -> jnp.ndarray:
    """Index into the time bias for seconds `now - then`."""
    distance = jnp.maximum(1, jnp.abs(now - then)).astype(jnp.float32)
    return jnp.minimum(BUCKETS, (jnp.log(distance) / 0.301).astype(jnp.int32))


def dropped(x: jnp.ndarray, rate: float, key: jax.Array | None) -> jnp.ndarray:
    """Dropout in training (`key` given), identity else."""
    if key is None or rate == 0:
        return x
    return x * jax.random.bernoulli(key, 1 - rate, x.shape) / (1 - rate)


def split_key(key: jax.Array | None, count: int) -> list[jax.Array | None]:
    return [None] * count if key is None else list(jax.random.split(key, count))


def project(layer: Params, config: SequenceConfig, x: jnp.ndarray) -> tuple[jnp.ndarray, ...]:
    """u `[…, h·dv]` and v, q, k per head `[…, h, d]`."""
    h, dv, dqk = config.heads, config.value_dimension, config.qk_dimension
    z = jax.nn.silu(layer_norm(x) @ layer["uvqk"].T)
    u, v, q, k = jnp.split(z, np.cumsum([h * dv, h * dv, h * dqk]), axis=-1)
    heads = x.shape[:-1] + (h, -1)
    return u, v.reshape(heads), q.reshape(heads), k.reshape(heads)


def gated(
    layer: Params, config: SequenceConfig, x: jnp.ndarray, u: jnp.ndarray, o: jnp.ndarray, key: Any
) -> jnp.ndarray:
    """The layer's output from attention values `o` `[…, h, dv]`."""
    flat = o.reshape(u.shape)
    return dropped(u * layer_norm(flat), config.dropout, key) @ layer["output"].T + layer["output_bias"] + x


def history_rows(
    params: Params,
    config: SequenceConfig,
    table: jnp.ndarray,
    items: jnp.ndarray,
    actions: jnp.ndarray,
    buckets: jnp.ndarray | None,
    key: jax.Array | None = None,
) -> tuple[jnp.ndarray, list[tuple[jnp.ndarray, jnp.ndarray]]]:
    """All rows `[b, l, D]` after the last layer, and each layer's keys and values.

    `items` `[b, l]` are left aligned; what stands after a sequence's end never reaches an earlier row.
    `buckets` `[b, l, l]` are the time buckets of (next of i, j).
    """
    length = items.shape[1]
    keys = split_key(key, config.layers + 1)
    x = np.sqrt(config.dimension) * table[items] + params["action"][actions] + params["position"][:length]
    x = dropped(x, config.dropout, keys[-1])
    distance = np.arange(length)[:, None] - np.arange(length)[None, :]
    causal = jnp.asarray(distance >= 0)
    kept = []
    for layer, layer_key in zip(params["layers"], keys):
        u, v, q, k = project(layer, config, x)
        scores = jnp.einsum("bihd,bjhd->bhij", q, k)
        scores += layer["position_bias"][np.maximum(config.normalizer - 1 - distance, 0)]
        if buckets is not None:
            scores += layer["time_bias"][buckets][:, None]
        weights = jnp.where(causal, jax.nn.silu(scores), 0) / config.normalizer
        o = jnp.einsum("bhij,bjhd->bihd", weights, v)
        kept.append((k, v))
        x = gated(layer, config, x, u, o, layer_key)
    return x, kept


def candidate_rows(
    params: Params,
    config: SequenceConfig,
    table: jnp.ndarray,
    kept: list[tuple[jnp.ndarray, jnp.ndarray]],
    candidates: jnp.ndarray,
    lengths: jnp.ndarray,
    buckets: jnp.ndarray | None,
    key: jax.Array | None = None,
) -> jnp.ndarray:
    """Rows `[b, p, c, D]` of `candidates` `[b, p, c]` that stand after the first `lengths` events.

    `lengths` is `[p]` or `[b, p]`; `buckets` `[b, p, l]` those of (now, j). A candidate attends to the
    history before it and to itself, never to another candidate.
    """
    slots = kept[0][0].shape[1]
    keys = split_key(key, config.layers + 1)
    lengths = jnp.broadcast_to(lengths, candidates.shape[:2])
    x = (
        np.sqrt(config.dimension) * table[candidates]
        + params["action"][-1]
        + params["position"][lengths][:, :, None]
    )
    x = dropped(x, config.dropout, keys[-1])
    distance = lengths[:, :, None] - np.arange(slots)
    visible = (distance > 0)[:, None, :, None, :]
    n = config.normalizer
    for layer, (k, v), layer_key in zip(params["layers"], kept, keys):
        u, own_v, q, own_k = project(layer, config, x)
        bias = layer["position_bias"][jnp.clip(n - 1 - distance, 0, 2 * n - 2)]
        own = jnp.einsum("bpchd,bpchd->bpch", q, own_k) + layer["position_bias"][n - 1]
        if buckets is not None:
            bias = bias + layer["time_bias"][buckets]
            own = own + layer["time_bias"][0]
        scores = jnp.einsum("bpchd,bjhd->bhpcj", q, k) + bias[:, None, :, None, :]
        weights = jnp.where(visible, jax.nn.silu(scores), 0) / n
        o = jnp.einsum("bhpcj,bjhd->bpchd", weights, v) + (jax.nn.silu(own) / n)[..., None] * own_v
        x = gated(layer, config, x, u, o, layer_key)
    return x


def target_head(params: Params, rows: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
    """The sequence vector `[…, D]` and score `[…]` of candidate rows."""
    head = params["target"]
    vector = layer_norm(rows) * head["norm"] + head["norm_bias"]
    return vector, vector @ head["weight"][0] + head["bias"][0]
