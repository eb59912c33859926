"""Renames a PyTorch state dict into bundle tensors: import_torch.py MAPPING.json STATE.safetensors
OUT.safetensors.

STATE is a state dict already saved as safetensors; PyTorch is not needed. MAPPING is one of mappings/*.json
or your own:

    {"tensors": [{"source": "layers.{}.weight", "target": "tower.user.{}.weight", "transpose": true}, …],
     "ignore": ["*.num_batches_tracked"], "manifest": {…}}

`{}` stands for a number; the numbers found are counted from 0 in ascending order in the target's name. In
this order are applied: `slice` [from, to] of the first axis, `drop_padding_row` (row 0 goes), `squeeze` (axes
of length 1 go; a list names them), `transpose`, `reshape`. `optional` sources may be absent. Every tensor of
STATE must be mapped or match an `ignore` pattern. `manifest` is printed with what can be read off the shapes:
paste it and fill in the rest.
"""

import argparse
import fnmatch
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


class MappingError(Exception):
    """The mapping and the state dict do not fit."""


def matches(pattern: str, names: list[str]) -> list[tuple[int | None, str]]:
    """The names a source pattern covers, with the number at `{}`, ascending."""
    if "{}" not in pattern:
        return [(None, pattern)] if pattern in names else []
    expression = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)", 1))
    found = [(int(m.group(1)), name) for name in names if (m := expression.fullmatch(name))]
    return sorted(found)


def changed(array: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    """`array` after the entry's operations."""
    if "slice" in entry:
        array = array[slice(*entry["slice"])]
    if entry.get("drop_padding_row"):
        array = array[1:]
    if squeeze := entry.get("squeeze"):
        array = np.squeeze(array) if squeeze is True else np.squeeze(array, tuple(squeeze))
    if entry.get("transpose"):
        array = array.T
    if "reshape" in entry:
        array = array.reshape(entry["reshape"])
    if not np.issubdtype(array.dtype, np.floating) and str(array.dtype) != "bfloat16":
        raise MappingError(f"{entry['source']} is {array.dtype}, not floating")
    wide = array.astype(np.float32)
    if not np.isfinite(wide).all():
        raise MappingError(f"{entry['source']} holds values that are not finite")
    return np.ascontiguousarray(wide)


def convert(mapping: dict[str, Any], state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bundle tensors, F32."""
    result: dict[str, np.ndarray] = {}
    used: set[str] = set()
    for entry in mapping["tensors"]:
        found = matches(entry["source"], list(state))
        if not found and not entry.get("optional"):
            raise MappingError(f"no tensor {entry['source']} in the state dict")
        for position, (_, name) in enumerate(found):
            target = entry["target"].replace("{}", str(position), 1)
            if target in result:
                raise MappingError(f"{target} is mapped twice")
            result[target] = changed(state[name], entry)
            used.add(name)
    left = [
        n
        for n in state
        if n not in used and not any(fnmatch.fnmatchcase(n, p) for p in mapping.get("ignore", []))
    ]
    if left:
        raise MappingError(f"not mapped: {', '.join(sorted(left))}")
    return result


def count(tensors: dict[str, np.ndarray], pattern: str) -> int:
    """How many tensors are numbered by `pattern`."""
    return len(matches(pattern, list(tensors)))


def manifest(mapping: dict[str, Any], tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """The mapping's manifest part with layers, widths and positions read off the shapes."""
    part = json.loads(json.dumps(mapping.get("manifest", {})))
    if "tower" in part:
        part["tower"]["layers"] = count(tensors, "tower.user.{}.weight")
    if (sequence := part.get("sequence")) is not None:
        sequence["dimension"] = int(tensors["sequence.item_embedding.weight"].shape[1])
        rows = int(tensors["sequence.position_embedding.weight"].shape[0])
        if sequence["family"] == "hstu":
            sequence["layers"] = count(tensors, "sequence.layers.{}.uvqk.weight")
            sequence["normalizer"] = (int(tensors["sequence.layers.0.position_bias"].shape[0]) + 1) // 2
            sequence["max_events"] = min(rows, sequence["normalizer"]) - 1
            sequence["time_bias"] = "sequence.layers.0.time_bias" in tensors
        else:
            sequence["layers"] = count(tensors, "sequence.layers.{}.ffn.0.weight")
            sequence["max_events"] = rows - 1
    if (ranker := part.get("ranker")) is not None:
        low_rank = "ranker.cross.0.v.weight" in tensors
        ranker["cross_layers"] = count(tensors, "ranker.cross.{}.bias")
        ranker["cross_rank"] = int(tensors["ranker.cross.0.v.weight"].shape[0]) if low_rank else 0
        ranker["deep"] = [
            int(tensors[f"ranker.deep.{i}.bias"].shape[0])
            for i in range(count(tensors, "ranker.deep.{}.bias"))
        ]
    return part


def main() -> int:
    arguments = argparse.ArgumentParser(description="Renames a PyTorch state dict into bundle tensors.")
    for name, text in (
        ("mapping", "a mapping file"),
        ("state", "the state dict as safetensors"),
        ("out", "file to write"),
    ):
        arguments.add_argument(name, type=Path, help=text)
    options = arguments.parse_args()
    mapping = json.loads(options.mapping.read_text())
    try:
        tensors = convert(mapping, load_file(options.state))
    except MappingError as error:
        print(f"{options.mapping.name}: {error}", file=sys.stderr)
        return 1
    save_file(tensors, options.out)
    for name, array in tensors.items():
        print(f"{name} {list(array.shape)}", file=sys.stderr)
    print(json.dumps(manifest(mapping, tensors), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
