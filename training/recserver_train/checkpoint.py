"""Parameter trees on disk: a safetensors file whose names are the paths into dictionaries and lists."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file


def flatten(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Leaves by path, parts joined by slashes."""
    if isinstance(tree, dict):
        parts = tree.items()
    elif isinstance(tree, list):
        parts = ((str(i), part) for i, part in enumerate(tree))
    else:
        return {prefix: np.ascontiguousarray(tree)}
    return {
        k: v for name, part in parts for k, v in flatten(part, f"{prefix}/{name}" if prefix else name).items()
    }


def restore(leaves: dict[str, np.ndarray]) -> Any:
    """The tree again; dictionaries whose keys are all numbers become lists."""
    if "" in leaves:
        return jnp.asarray(leaves[""])
    groups: dict[str, dict[str, np.ndarray]] = {}
    for path, leaf in leaves.items():
        head, _, rest = path.partition("/")
        groups.setdefault(head, {})[rest] = leaf
    if all(name.isdigit() for name in groups):
        return [restore(groups[str(i)]) for i in range(len(groups))]
    return {name: restore(group) for name, group in groups.items()}


def resumed(path: Path, train: Callable[[], Any], resume: bool) -> Any:
    """What `train` returns: from `path` if that is there and wanted, else trained now and kept there."""
    if resume and path.exists():
        return restore(load_file(path))
    params = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(flatten(params), path)
    return params
