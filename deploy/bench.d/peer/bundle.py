"""Reads a reference bundle: manifest, tensors, the features as rows. See the format's page, ModelFormat.md."""

import json
from pathlib import Path

import numpy as np

DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "U64": np.uint64, "U32": np.uint32,
          "U8": np.uint8, "I8": np.int8}


class Bundle:
    def __init__(self, path: str):
        self.path = Path(path)
        self.manifest = json.loads((self.path / "manifest.json").read_text())
        self.entries = {}
        for name in self.manifest["files"]:
            if not name.endswith(".safetensors"):
                continue
            with open(self.path / name, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for tensor, entry in header.items():
                self.entries[tensor] = (self.path / name, 8 + length, entry)

    def tensor(self, name: str) -> np.ndarray:
        """A view of the file."""
        path, base, entry = self.entries[name]
        begin, end = entry["data_offsets"]
        dtype = np.dtype(DTYPES[entry["dtype"]])
        if begin == end:
            return np.zeros(entry["shape"], dtype)
        return np.memmap(path, dtype, "r", base + begin, tuple(entry["shape"]))

    def table(self, name: str) -> np.ndarray:
        """Floats in memory."""
        return np.ascontiguousarray(self.tensor(name), np.float32)

    def strings(self, name: str) -> list[str]:
        data = self.tensor(name + ".bytes").tobytes()
        offsets = self.tensor(name + ".offsets").tolist()
        return [data[a:b].decode() for a, b in zip(offsets, offsets[1:])]

    def feature(self, name: str) -> dict:
        return next(f for f in self.manifest["features"] if f["name"] == name)

    # Features of all rows of an attribute at once

    def vocabulary_row(self, feature: dict, value) -> int:
        words = feature.setdefault("_rows", {w: i + 1 for i, w in enumerate(feature["vocabulary"])})
        return words.get(value, 0)

    def bin_row(self, feature: dict, value) -> int:
        return 0 if value is None else 1 + int(np.searchsorted(feature["boundaries"], value, side="right"))

    def word_rows(self, feature: dict, words: list[str]) -> np.ndarray:
        if feature["encode"] == "hash":
            return np.array([1 + fnv1a(word) % feature["buckets"] for word in words])
        return np.array([self.vocabulary_row(feature, word) for word in words])

    def column(self, owner: str, name: str) -> np.ndarray:
        """[rows, columns]: an attribute of every item or user, encoded."""
        feature = self.feature(name)
        prefix = f"{owner}.attr.{name}"
        if feature["encode"] in ("squash", "bins"):
            values = np.array(self.tensor(prefix + ".values"))
            present = np.ones(len(values), bool)
            if prefix + ".present" in self.entries:
                present = self.tensor(prefix + ".present") != 0
            if feature["encode"] == "bins":
                rows = 1 + np.searchsorted(feature["boundaries"], values, side="right")
                return self.table(f"feature.{name}.weight")[np.where(present, rows, 0)]
            if feature["function"] == "log1p":
                values = np.sign(values) * np.log1p(np.abs(values))
            scaled = (values - feature["mean"]) / feature["std"]
            return np.stack([np.where(present, scaled, 0), ~present], 1).astype(np.float32)
        table = self.table(f"feature.{name}.weight")
        words = table[self.word_rows(feature, self.strings(prefix + ".dictionary"))]
        offsets = self.tensor(prefix + ".offsets").astype(np.int64)
        counts = np.diff(offsets)
        values = np.array(self.tensor(prefix + ".values"))
        if "pooling" not in feature:
            rows = np.broadcast_to(table[0], (len(counts), table.shape[1])).copy()
            rows[counts == 1] = words[values]
            return rows
        sums = np.zeros((len(counts), table.shape[1]), np.float32)
        np.add.at(sums, np.repeat(np.arange(len(counts)), counts), words[values])
        return sums / np.maximum(counts, 1)[:, None].astype(np.float32)


def fnv1a(text: str) -> int:
    value = 14695981039346656037
    for byte in text.encode():
        value = (value ^ byte) * 1099511628211 % 2**64
    return value
