"""Writes the bundle folder: tensors, manifest, digests."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from .data import Attribute


def quantised(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed bytes and an F16 scale per row: value = byte · scale."""
    peak = np.abs(table).max(1)
    scale = np.maximum(peak / 127, 1e-7).astype(np.float16)
    scale = np.where(
        scale.astype(np.float32) * 127 < peak * (1 - 1e-3), np.nextafter(scale, np.float16(np.inf)), scale
    )
    scale = np.maximum(scale, np.float16(1e-7)).astype(np.float16)
    return np.clip(np.rint(table / scale.astype(np.float32)[:, None]), -127, 127).astype(np.int8), scale


def stored(array: np.ndarray, precision: str) -> np.ndarray:
    """What a reader gets back, F32, after `array` was written with `precision` (F32, F16, I8)."""
    array = np.asarray(array, np.float32)
    if precision == "I8":
        values, scale = quantised(array)
        return values.astype(np.float32) * scale.astype(np.float32)[:, None]
    return array.astype(np.float16).astype(np.float32) if precision == "F16" else array


class BundleWriter:
    """Collects tensors by file and writes them with a manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, np.ndarray]] = {}

    def add(self, file: str, name: str, array: np.ndarray, precision: str | None = None) -> None:
        """Adds a tensor; `precision` F32, F16 or I8 (with its scale) for floating ones, None keeps the type.
        """
        tensors = self.files.setdefault(file, {})
        if any(name in known for known in self.files.values()):
            raise ValueError(f"tensor {name} twice")
        array = np.asarray(array)
        if precision == "I8":
            tensors[name], tensors[name + ".scale"] = quantised(array.astype(np.float32))
        elif precision is not None:
            tensors[name] = np.ascontiguousarray(
                array.astype({"F32": np.float32, "F16": np.float16}[precision])
            )
        else:
            tensors[name] = np.ascontiguousarray(array)
        for key in (name, name + ".scale"):
            if key in tensors and tensors[key].dtype.kind == "f" and not np.isfinite(tensors[key]).all():
                raise ValueError(f"tensor {key} holds values that are not finite")

    def add_strings(self, file: str, name: str, texts: Sequence[str]) -> None:
        """Adds a string list: bytes end to end and offsets."""
        encoded = [t.encode() for t in texts]
        self.add(file, name + ".bytes", np.frombuffer(b"".join(encoded), np.uint8))
        self.add(
            file,
            name + ".offsets",
            np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.uint64),
        )

    def add_attribute(self, file: str, prefix: str, attribute: Attribute, count: int) -> None:
        """Adds one column with `count` rows under `prefix` (item.attr, user.attr)."""
        name, values = f"{prefix}.{attribute.name}", attribute.values[:count]
        present = np.array([v is not None for v in values], np.uint8)
        match attribute.type:
            case "string" | "strings":
                lists = [[] if v is None else v if isinstance(v, list) else [v] for v in values]
                words = list(dict.fromkeys(w for row in lists for w in row))
                index = {w: i for i, w in enumerate(words)}
                self.add_strings(file, name + ".dictionary", words)
                self.add(
                    file,
                    name + ".offsets",
                    np.concatenate([[0], np.cumsum([len(r) for r in lists])]).astype(np.uint64),
                )
                self.add(
                    file, name + ".values", np.array([index[w] for row in lists for w in row], np.uint32)
                )
            case "number" | "boolean":
                kind = np.float64 if attribute.type == "number" else np.uint8
                self.add(file, name + ".values", np.array([0 if v is None else v for v in values], kind))
                if not present.all():
                    self.add(file, name + ".present", present)
            case _:
                raise ValueError(f"attribute type {attribute.type}")

    def write(self, manifest: dict[str, Any], extra: Sequence[str] = ()) -> dict[str, Any]:
        """Writes tensors and manifest; `extra` names files that are there already. Returns the manifest."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file, tensors in self.files.items():
            save_file(tensors, self.folder / file)
            (self.folder / file).chmod(0o644)
        names = sorted(self.files) + sorted(extra)
        digests = {}
        for name in names:
            data = (self.folder / name).read_bytes()
            digests[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        manifest = {**manifest, "files": digests}
        (self.folder / "manifest.json").write_text(
            json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
        return manifest
