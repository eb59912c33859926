"""Feature definitions as they stand in the manifest, and their lookup for training."""

from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from .data import Attribute

MASK64 = (1 << 64) - 1


def fnv1a64(data: bytes) -> int:
    """The 64-bit FNV-1a hash."""
    value = 14695981039346656037
    for byte in data:
        value = ((value ^ byte) * 1099511628211) & MASK64
    return value


def as_text(value: Any) -> str | None:
    """A scalar where a string is wanted: booleans as words, integral numbers as digits, others unknown
    (None).
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and float(value).is_integer():
        return str(int(value))
    return None


def as_number(value: Any) -> float | None:
    """A scalar where a number is wanted; a string or boolean is missing."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


@dataclass(frozen=True)
class Feature:
    """One definition of `manifest.features`; `options` are its remaining fields there."""

    name: str
    source: str
    encode: str
    options: dict[str, Any] = field(default_factory=dict)

    def manifest(self) -> dict[str, Any]:
        return {"name": self.name, "from": self.source, "encode": self.encode, **self.options}

    @property
    def key(self) -> str:
        return self.options.get("key", self.name)

    @property
    def pooling(self) -> str | None:
        return self.options.get("pooling")

    @property
    def has_table(self) -> bool:
        return self.encode in ("vocabulary", "hash", "bins", "row")

    def rows(self, users: int, items: int) -> int:
        """How many rows the embedding table has."""
        match self.encode:
            case "vocabulary":
                return len(self.options["vocabulary"]) + 1
            case "hash":
                return self.options["buckets"] + 1
            case "bins":
                return len(self.options["boundaries"]) + 2
            case "row":
                return users + 1 if self.source == "user_id" else items
        raise ValueError(f"feature {self.name} has no table")

    def lookup(self, value: Any) -> int:
        """The table row of one scalar."""
        match self.encode:
            case "vocabulary":
                text = as_text(value)
                known = self.options["vocabulary"]
                return known.index(text) + 1 if text in known else 0
            case "hash":
                text = as_text(value)
                return 0 if text is None else 1 + fnv1a64(text.encode()) % self.options["buckets"]
            case "bins":
                number = as_number(value)
                return 0 if number is None else 1 + sum(b <= number for b in self.options["boundaries"])
        raise ValueError(f"feature {self.name} has no lookup")

    def squash(self, value: Any) -> tuple[float, float]:
        """The two columns of a squashed number: standardised value and missing flag."""
        number = as_number(value)
        if number is None:
            return 0.0, 1.0
        if self.options["function"] == "log1p":
            number = float(np.sign(number) * np.log1p(abs(number)))
        return (number - self.options["mean"]) / self.options["std"], 0.0

    def column(self, values: list[Any]) -> np.ndarray:
        """Encodes one value per row: rows `[C]`, padded rows `[C, k]` (-1 is no value), or two columns `[C,
        2]`.
        """
        if self.encode == "squash":
            return np.array([self.squash(v) for v in values], np.float32).reshape(len(values), 2)
        cache: dict[Any, int] = {}

        def row(value: Any) -> int:
            if value not in cache:
                cache[value] = self.lookup(value)
            return cache[value]

        if self.pooling is None:
            return np.array([row(v) for v in values], np.int32)
        lists = [[] if v is None else v if isinstance(v, list) else [v] for v in values]
        width = max((len(v) for v in lists), default=1) or 1
        padded = np.full((len(values), width), -1, np.int32)
        for i, entries in enumerate(lists):
            padded[i, : len(entries)] = [row(v) for v in entries]
        return padded


def squash_feature(name: str, source: str, function: str, values: list[Any]) -> Feature:
    """A squash feature whose mean and deviation are those of `values`."""
    numbers = np.array([v for v in values if as_number(v) is not None], np.float64)
    if function == "log1p":
        numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    options = {
        "function": function,
        "mean": round(float(numbers.mean()), 6),
        "std": round(float(numbers.std()) or 1, 6),
    }
    return Feature(name, source, "squash", options)


def columns(features: list[Feature], source: str, attributes: list[Attribute]) -> dict[str, np.ndarray]:
    """The encoded column of every feature that reads `source`, by name."""
    values = {a.name: a.values for a in attributes}
    return {
        f.name: f.column(values[f.key])
        for f in features
        if f.source == source and f.encode in ("vocabulary", "hash", "bins", "squash")
    }


def pooled(table: jnp.ndarray, rows: jnp.ndarray, pooling: str) -> jnp.ndarray:
    """Mean or sum over the last axis of `rows` (-1 is no value); zeros where there are none."""
    present = (rows >= 0)[..., None]
    total = jnp.where(present, table[jnp.maximum(rows, 0)], 0).sum(-2)
    return total / jnp.maximum(present.sum(-2), 1) if pooling == "mean" else total


def embed(feature: Feature, tables: dict[str, jnp.ndarray], encoded: jnp.ndarray) -> jnp.ndarray:
    """The columns of one feature: looked up for encodings with a table, else `encoded` itself."""
    if not feature.has_table:
        return encoded
    table = tables[feature.name]
    return table[encoded] if feature.pooling is None else pooled(table, encoded, feature.pooling)
