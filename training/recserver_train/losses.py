"""Losses over catalogues: full softmax for small ones, sampled softmax with the corrected logQ for large
ones.
"""

import jax
import jax.numpy as jnp

FULL_SOFTMAX_LIMIT = 50_000


def full_softmax(
    queries: jnp.ndarray, items: jnp.ndarray, targets: jnp.ndarray, temperature: float
) -> jnp.ndarray:
    """Cross entropy of `targets` `[b]` among all `items` `[I, d]` for unit `queries` `[b, d]`; a loss per
    row.

    With unit vectors no logit exceeds 1/temperature, which replaces the running maximum.
    """
    logits = queries @ (items.T / temperature)
    top = 1.0 / temperature
    positive = jnp.einsum("bd,bd->b", queries, items[targets]) / temperature
    return top + jnp.log(jnp.exp(logits - top).sum(-1)) - positive


def corrected_logq(
    queries: jnp.ndarray,
    items: jnp.ndarray,
    targets: jnp.ndarray,
    negatives: jnp.ndarray,
    log_counts: jnp.ndarray,
    log_total: float,
    temperature: float,
) -> jnp.ndarray:
    """Sampled softmax after Khrylchenko et al., arXiv 2507.09331; a loss per row.

    `negatives` `[s]` are item rows drawn in proportion to their counts; `log_counts` `[I]` and `log_total`
    are the logarithms of those counts and their sum. The positive is always there and so is not corrected;
    negatives equal to the positive are masked; the sampling probability is that among the other items.
    """
    positive = jnp.einsum("bd,bd->b", queries, items[targets]) / temperature
    scores = queries @ items[negatives].T / temperature
    positive_share = jnp.exp(log_counts[targets] - log_total)
    log_q = (
        log_counts[negatives][None, :]
        - (log_total + jnp.log1p(-jnp.minimum(positive_share, 0.999999)))[:, None]
    )
    valid = negatives[None, :] != targets[:, None]
    corrected = jnp.where(valid, scores - log_q, -1e30)
    count = jnp.maximum(valid.sum(-1), 1)
    pool = jax.nn.logsumexp(corrected, -1)
    hit = jax.nn.sigmoid(positive - (pool - jnp.log(count)))
    return -jax.lax.stop_gradient(1 - hit) * (positive - pool)


def unit(x: jnp.ndarray) -> jnp.ndarray:
    """Rows divided by their length, with a finite gradient at zero."""
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-12)


def binary_cross_entropy(logits: jnp.ndarray, labels: jnp.ndarray) -> jnp.ndarray:
    """-log likelihood of `labels` under sigmoid(`logits`), elementwise."""
    return jax.nn.softplus(logits) - labels * logits
