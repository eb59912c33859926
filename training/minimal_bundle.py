"""Writes the smallest useful bundle: python3 minimal_bundle.py OUT. Needs numpy and safetensors.

Six books, a retrieval vector each, popularity, and a user tower that averages what was read last. Everything
else (known users, sequence model, ranker, goldens) is added with more tensors and more manifest keys; see the
format page.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

BOOKS = {
    "lighthouse": ("The Lighthouse Keeper", "mystery", [0.9, 0.1, 0.0, 0.1]),
    "tide": ("A Body at High Tide", "mystery", [0.8, 0.2, 0.1, 0.0]),
    "orchard": ("The Orchard in Spring", "nature", [0.1, 0.9, 0.2, 0.0]),
    "moss": ("A Year among Mosses", "nature", [0.0, 0.8, 0.3, 0.1]),
    "comet": ("Comet Season", "science", [0.1, 0.2, 0.9, 0.2]),
    "prime": ("Prime Suspects", "science", [0.4, 0.0, 0.8, 0.3]),
}


def strings(name: str, texts: list[str]) -> dict[str, np.ndarray]:
    """A string list: the bytes end to end and where each begins."""
    encoded = [text.encode() for text in texts]
    return {
        f"{name}.bytes": np.frombuffer(b"".join(encoded), np.uint8),
        f"{name}.offsets": np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.uint64),
    }


def column(name: str, texts: list[str]) -> dict[str, np.ndarray]:
    """A `string` attribute: a dictionary and one index a row."""
    words = sorted(set(texts))
    return {
        **strings(f"{name}.dictionary", words),
        f"{name}.offsets": np.arange(len(texts) + 1, dtype=np.uint64),
        f"{name}.values": np.array([words.index(text) for text in texts], np.uint32),
    }


def main(out: Path) -> None:
    titles, topics, vectors = (list(part) for part in zip(*BOOKS.values()))
    tensors = {
        **strings("item_ids", list(BOOKS)),
        **column("item.attr.title", titles),
        **column("item.attr.topic", topics),
        "item.vector": np.array(vectors, np.float32),
        "item.popularity": np.array([60, 20, 30, 5, 50, 10], np.float32),
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors")
    data = (out / "model.safetensors").read_bytes()
    manifest = {
        "format_version": 1, "kind": "full", "model_version": "books-1", "space_version": "books-1",
        "files": {"model.safetensors": {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}},
        "items": {
            "count": len(BOOKS),
            "attributes": [
                {"name": "title", "type": "string"},
                {"name": "topic", "type": "string", "filterable": True},
            ],
        },
        "features": [{"name": "recent", "from": "history", "encode": "pool", "table": "item.vector",
                      "dimension": 4, "last": 10, "pooling": "mean"}],
        "retrieval": {
            "metric": "cosine", "dimension": 4, "candidates": 6, "shortlist_factor": 4,
            "index": {"kind": "flat"}, "sources": {"tower": 6, "popular": 6},
        },
        "tower": {"inputs": ["recent"], "layers": 0, "activation": "identity", "normalize": "l2"},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
