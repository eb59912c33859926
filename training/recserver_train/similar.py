"""Vectors that say how alike two items are: who watches both, and what both are."""

import numpy as np

from .data import InteractionLog, Split

CATALOGUE_MAXIMUM = 20_000
"""Items up to which the co-occurrence matrix is kept whole."""


def similar_vectors(
    log: InteractionLog,
    split: Split,
    attributes: np.ndarray,
    dimension: int,
    content: float = 0.7,
    seed: int = 7,
) -> np.ndarray:
    """Unit vectors `[I, dimension + F]`: factors of the items' co-occurrence beside their attributes.

    Positive pointwise mutual information of items within users (a user counts less the longer the history, pairs
    seen once count half), factored by subspace iteration; `content` weighs the attributes. Sees what the towers see.
    """
    count = log.item_count
    if count > CATALOGUE_MAXIMUM:
        raise ValueError(f"{count} items: at most {CATALOGUE_MAXIMUM} fit a whole co-occurrence matrix")
    together = np.zeros((count, count), np.float32)
    for begin, end in zip(log.offsets[:-1], split.sequence_end):
        items = np.unique(log.items[begin:end])
        if len(items) > 1:
            together[np.ix_(items, items)] += 1 / np.log2(1 + len(items))
    np.fill_diagonal(together, 0)
    weight = together.sum(1)
    # Context distribution smoothing (Levy et al. 2015): otherwise rare items are everybody's neighbours.
    smooth = weight**0.75
    smooth *= weight.sum() / max(float(smooth.sum()), 1e-9)
    expected = weight[:, None] * np.sqrt(smooth * weight)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(together * weight.sum() / np.maximum(expected, 1e-9))
    information = np.where(np.isfinite(information), information, 0)
    information = np.maximum((information + information.T) / 2, 0) * together / (together + 1)
    factors = symmetric_factors(information.astype(np.float32), dimension, seed)
    return unit_rows(np.concatenate([unit_rows(factors), content * unit_rows(attributes)], 1))


def symmetric_factors(matrix: np.ndarray, dimension: int, seed: int) -> np.ndarray:
    """`V·√λ` of the largest eigenvalues of a symmetric matrix, `[I, dimension]`, by subspace iteration."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(len(matrix), dimension + 8)).astype(np.float32))[0]
    for _ in range(8):
        basis = np.linalg.qr(matrix @ basis)[0]
    values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
    best = np.argsort(-values)[:dimension]
    return (basis @ vectors[:, best]) * np.sqrt(np.maximum(values[best], 0))


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows of norm 1; zero rows stay zero."""
    return (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)).astype(np.float32)
