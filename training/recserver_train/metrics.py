"""Ranking and probability metrics; every function refuses non-finite scores."""

import numpy as np


def finite(scores: np.ndarray) -> np.ndarray:
    """`scores`, or an error if any of them is not a number one can rank by."""
    if not np.isfinite(scores).all():
        raise ValueError("non-finite scores cannot be evaluated")
    return scores


def hit_rate(ranks: np.ndarray, k: int = 10) -> float:
    """Share of 0-based `ranks` below k."""
    return float((ranks < k).mean())


def ndcg(ranks: np.ndarray, k: int = 10) -> float:
    """Mean of 1/log2(rank + 2) below k, one relevant item each."""
    return float(np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0).mean())


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    finite(scores)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    ranks = (upper - (counts - 1) / 2)[inverse]
    positives = labels.sum()
    negatives = len(labels) - positives
    if positives == 0 or negatives == 0:
        return 0.5
    return float((ranks[labels > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood."""
    p = np.clip(finite(probabilities), 1e-9, 1 - 1e-9)
    return float(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance of predicted and observed rate over equal-width bins, weighted by size."""
    finite(probabilities)
    bucket = np.minimum((probabilities * bins).astype(int), bins - 1)
    error = 0.0
    for b in range(bins):
        inside = bucket == b
        if inside.any():
            error += inside.mean() * abs(probabilities[inside].mean() - labels[inside].mean())
    return float(error)
