"""SASRec: the three block variants, left padded, pads masked or not as attention keys."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .hstu import dropped, layer_norm, split_key

Params = dict[str, Any]


@dataclass(frozen=True)
class SASRecConfig:
    """The constants of `manifest.sequence` for the family `sasrec`."""

    dimension: int = 48
    layers: int = 2
    heads: int = 1
    max_events: int = 200
    window_block: int = 1
    variant: str = "pre_norm"
    attend_pads: bool = False
    temperature: float = 0.05
    dropout: float = 0.2

    def manifest(self) -> dict[str, Any]:
        keys = ("dimension", "layers", "heads", "max_events", "window_block", "variant", "attend_pads")
        return {
            "family": "sasrec",
            **{k: getattr(self, k) for k in keys},
            "actions": ["unknown"],
            "dot": {"normalize": "l2", "temperature": self.temperature},
            "target": False,
        }


def init_sasrec(config: SASRecConfig, key: jax.Array, items: int) -> Params:
    """Fresh parameters, named as the bundle names them below `sequence.`."""
    d = config.dimension
    keys = iter(jax.random.split(key, 2 + 4 * config.layers))

    def matrix(rows: int) -> jnp.ndarray:
        return jax.random.normal(next(keys), (rows, d)) * np.sqrt(2 / (rows + d))

    params: Params = {
        "item_embedding.weight": 0.02 * jax.random.normal(next(keys), (items, d)),
        "position_embedding.weight": 0.02 * jax.random.normal(next(keys), (config.max_events + 1, d)),
        "final_norm.weight": jnp.ones(d),
        "final_norm.bias": jnp.zeros(d),
    }
    for layer in range(config.layers):
        p = f"layers.{layer}."
        params |= {
            p + "attention.in_proj_weight": matrix(3 * d),
            p + "attention.in_proj_bias": jnp.zeros(3 * d),
            p + "attention.out_proj.weight": matrix(d),
            p + "attention.out_proj.bias": jnp.zeros(d),
            p + "ffn.0.weight": matrix(d),
            p + "ffn.0.bias": jnp.zeros(d),
            p + "ffn.1.weight": matrix(d),
            p + "ffn.1.bias": jnp.zeros(d),
        }
        for norm in ("attention_norm", "ffn_norm"):
            params |= {p + norm + ".weight": jnp.ones(d), p + norm + ".bias": jnp.zeros(d)}
    return params


def sasrec_rows(
    params: Params,
    config: SASRecConfig,
    items: jnp.ndarray,
    counts: jnp.ndarray,
    key: jax.Array | None = None,
) -> jnp.ndarray:
    """Rows `[b, N, D]` after the final norm; `items` `[b, N]` hold `counts` events at the right end."""
    slots, d, h = config.max_events, config.dimension, config.heads
    keep = jnp.arange(slots) >= slots - counts[:, None]
    keys = split_key(key, 1 + 2 * config.layers)
    visible = jnp.tril(jnp.ones((slots, slots), bool))[None]
    if not config.attend_pads:
        visible = visible & (keep[:, None, :] | jnp.eye(slots, dtype=bool))
    x = (
        np.sqrt(d) * params["item_embedding.weight"][items]
        + params["position_embedding.weight"][1 : slots + 1]
    )
    x = dropped(x, config.dropout, keys[-1])

    def norm(name: str, value: jnp.ndarray) -> jnp.ndarray:
        return layer_norm(value, 1e-8) * params[name + ".weight"] + params[name + ".bias"]

    def attention(p: str, query: jnp.ndarray, other: jnp.ndarray) -> jnp.ndarray:
        w, b = params[p + "attention.in_proj_weight"], params[p + "attention.in_proj_bias"]
        parts = [
            value @ w[i * d : (i + 1) * d].T + b[i * d : (i + 1) * d]
            for i, value in enumerate((query, other, other))
        ]
        q, k, v = (part.reshape(*part.shape[:2], h, d // h) for part in parts)
        scores = jnp.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(d // h)
        weights = jax.nn.softmax(jnp.where(visible[:, None], scores, -1e30), -1)
        o = jnp.einsum("bhij,bjhd->bihd", weights, v).reshape(query.shape)
        return o @ params[p + "attention.out_proj.weight"].T + params[p + "attention.out_proj.bias"]

    def ffn(p: str, z: jnp.ndarray, key: Any) -> jnp.ndarray:
        inner = jax.nn.relu(z @ params[p + "ffn.0.weight"].T + params[p + "ffn.0.bias"])
        return dropped(inner, config.dropout, key) @ params[p + "ffn.1.weight"].T + params[p + "ffn.1.bias"]

    for layer in range(config.layers):
        p, key_a, key_f = f"layers.{layer}.", keys[2 * layer], keys[2 * layer + 1]
        x = jnp.where(keep[..., None], x, 0)
        if config.variant == "original":
            query = norm(p + "attention_norm", x)
            x = query + dropped(attention(p, query, x), config.dropout, key_a)
            z = norm(p + "ffn_norm", x)
            x = z + ffn(p, z, key_f)
        elif config.variant == "pre_norm":
            z = norm(p + "attention_norm", x)
            x = x + dropped(attention(p, z, z), config.dropout, key_a)
            x = x + ffn(p, norm(p + "ffn_norm", x), key_f)
        else:
            x = norm(p + "attention_norm", x + dropped(attention(p, x, x), config.dropout, key_a))
            x = norm(p + "ffn_norm", x + ffn(p, x, key_f))
    return norm("final_norm", x)
