"""The functions of the format page, one value or row at a time, in double precision."""

import math
from typing import Any

import numpy as np


def layer_norm(x: np.ndarray, eps: float) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": silu,
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "tanh": np.tanh,
    "identity": lambda x: x,
}


def bucket(seconds: np.ndarray) -> np.ndarray:
    return np.minimum(128, np.trunc(np.log(np.maximum(1, np.abs(seconds))) / 0.301)).astype(int)


def fnv(text: str) -> int:
    h = 14695981039346656037
    for byte in text.encode():
        h = ((h ^ byte) * 1099511628211) % 2**64
    return h


def text_of(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(int(value)) if float(value).is_integer() else None
    return value if isinstance(value, str) else None


def number_of(value: Any) -> float | None:
    return None if isinstance(value, (bool, str, list)) or value is None else float(value)
