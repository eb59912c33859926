"""Writes a delta bundle, the difference of two bundles, and puts one together again (format page §5)."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1}
FILE = "delta.safetensors"
DELTAS_MAX = 8


@dataclass
class Tensor:
    """A tensor's bytes as they lie in a file, so that types NumPy does not know pass through."""

    dtype: str
    shape: list[int]
    data: bytes

    def rows(self) -> np.ndarray:
        """[rows, bytes in a row]."""
        count = self.shape[0]
        return np.frombuffer(self.data, np.uint8).reshape(count, len(self.data) // max(1, count))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = Tensor(entry["dtype"], entry["shape"], data[start + begin : start + end])
    return tensors


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes a safetensors file: by falling alignment, so that no padding is needed."""
    ordered = sorted(tensors.items(), key=lambda item: (-SIZES[item[1].dtype], item[0]))
    header, offset = {}, 0
    for name, tensor in ordered:
        end = offset + len(tensor.data)
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.data)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_bundle(folder: Path, bases: Sequence[Path] = ()) -> tuple[dict, dict[str, Tensor]]:
    """Manifest and tensors of a bundle; `bases` are the folders where a delta's base may be."""
    return _read(folder, bases, 0)


def _read(folder: Path, bases: Sequence[Path], depth: int) -> tuple[dict, dict[str, Tensor]]:
    manifest = json.loads((folder / "manifest.json").read_text())
    own: dict[str, Tensor] = {}
    for name, entry in manifest["files"].items():
        if digest(folder / name) != entry["sha256"]:
            raise ValueError(f"{folder / name}: expected sha256 {entry['sha256']}")
        if name.endswith(".safetensors"):
            own |= read_tensors(folder / name)
    if manifest["kind"] == "full":
        return manifest, own
    found = [base for base in bases if digest(base / "manifest.json") == manifest["base_sha256"]]
    if not found or depth == DELTAS_MAX:
        raise ValueError(f"{folder}: no base with sha256 {manifest['base_sha256']}")
    tensors = _read(found[0], bases, depth + 1)[1]
    return manifest, merge(tensors, own, manifest.get("removed", []))


def merge(base: dict[str, Tensor], delta: dict[str, Tensor], removed: Sequence[str]) -> dict[str, Tensor]:
    """The tensors that a delta makes of its base's."""
    merged = {name: tensor for name, tensor in base.items() if name not in removed}
    for name, tensor in delta.items():
        if not name.startswith(("patch.", "append.")):
            merged[name] = tensor
    for name, tensor in delta.items():
        if name.startswith("patch.") and name.endswith(".values"):
            target = name.removeprefix("patch.").removesuffix(".values")
            rows = np.frombuffer(delta[f"patch.{target}.rows"].data, np.uint32)
            changed = merged[target].rows().copy()
            changed[rows] = tensor.rows()
            merged[target] = Tensor(tensor.dtype, merged[target].shape, changed.tobytes())
    for name, tensor in delta.items():
        if name.startswith("append."):
            target = name.removeprefix("append.")
            old = merged[target]
            shape = [old.shape[0] + tensor.shape[0], *old.shape[1:]]
            merged[target] = Tensor(old.dtype, shape, old.data + tensor.data)
    return merged


def difference(name: str, old: Tensor | None, new: Tensor) -> dict[str, Tensor]:
    """The fewest bytes that make `new` of `old`: nothing, changed and added rows, or the whole tensor."""
    if old == new:
        return {}
    if old and old.shape and old.dtype == new.dtype and len(old.shape) == len(new.shape):
        count, width = old.shape[0], new.shape[1:]
        if old.shape[1:] == width and 0 < count <= new.shape[0]:
            before, after = old.rows(), new.rows()
            rows = np.flatnonzero((before != after[:count]).any(1)).astype(np.uint32)
            parts = {}
            if len(rows):
                parts[f"patch.{name}.rows"] = Tensor("U32", [len(rows)], rows.tobytes())
                parts[f"patch.{name}.values"] = Tensor(new.dtype, [len(rows), *width], after[rows].tobytes())
            if new.shape[0] > count:
                parts[f"append.{name}"] = Tensor(
                    new.dtype, [new.shape[0] - count, *width], after[count:].tobytes()
                )
            if sum(len(part.data) for part in parts.values()) < len(new.data):
                return parts
    return {name: new}


def write_delta(base: Path, new: Path, out: Path, bases: Sequence[Path] = ()) -> dict[str, int]:
    """Writes to `out` what makes the bundle `new` of the bundle `base`; returns bytes by part of the name."""
    old_tensors = read_bundle(base, bases)[1]
    manifest, new_tensors = read_bundle(new, bases)
    parts: dict[str, Tensor] = {}
    for name, tensor in new_tensors.items():
        parts |= difference(name, old_tensors.get(name), tensor)
    if out.exists():
        if out.resolve() in (folder.resolve() for folder in (base, new, *bases)):
            raise ValueError(f"{out} is one of the bundles that are read")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    names = [name for name in manifest["files"] if not name.endswith(".safetensors")]
    for name in names:
        shutil.copyfile(new / name, out / name)
    if parts:
        write_tensors(out / FILE, parts)
        names.append(FILE)
    manifest |= {"kind": "delta", "base_sha256": digest(base / "manifest.json")}
    manifest["removed"] = sorted(old_tensors.keys() - new_tensors.keys())
    manifest["files"] = {
        name: {"sha256": digest(out / name), "bytes": (out / name).stat().st_size} for name in names
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    sizes = {"replaced": 0, "patched": 0, "appended": 0}
    for name, tensor in parts.items():
        kind = {"patch": "patched", "append": "appended"}.get(name.split(".")[0], "replaced")
        sizes[kind] += len(tensor.data)
    return sizes | {"whole": sum(len(tensor.data) for tensor in new_tensors.values())}
