"""The choices each conformance bundle makes, and the features they share."""

from typing import Any

SASREC = {
    "family": "sasrec",
    "dimension": 8,
    "layers": 2,
    "heads": 2,
    "max_events": 12,
    "window_block": 1,
    "actions": ["unknown"],
    "target": False,
}
HSTU = {
    "family": "hstu",
    "dimension": 8,
    "layers": 2,
    "heads": 2,
    "qk_dimension": 3,
    "value_dimension": 5,
    "max_events": 12,
    "window_block": 4,
    "normalizer": 15,
    "position_bias": True,
    "time_bias": True,
    "actions": ["unknown", "watch", "like"],
    "dot": {"normalize": "none", "temperature": 1},
    "target": True,
}

CASES: dict[str, dict[str, Any]] = {
    "sasrec-original": {
        "sequence": {
            **SASREC,
            "variant": "original",
            "attend_pads": True,
            "dot": {"normalize": "none", "temperature": 1},
        }
    },
    "sasrec-pre-norm": {
        "sequence": {
            **SASREC,
            "variant": "pre_norm",
            "attend_pads": False,
            "dot": {"normalize": "l2", "temperature": 0.05},
        },
        "activation": "silu",
    },
    "sasrec-post-norm": {
        "sequence": {
            **SASREC,
            "variant": "post_norm",
            "attend_pads": True,
            "window_block": 5,
            "dot": {"normalize": "none", "temperature": 1},
        },
        "precision": "F16",
    },
    "hstu-stacked": {
        "sequence": HSTU,
        "ranker": {"structure": "stacked", "cross_rank": 0},
        "activation": "gelu",
        "uvqk_bias": True,
        "calibrations": ["logit_offset", "none"],
        "value": "linear",
    },
    "hstu-low-rank": {
        "sequence": {**HSTU, "time_bias": False},
        "ranker": {"structure": "parallel", "cross_rank": 3},
        "metric": "cosine",
        "normalize": "none",
        "calibrations": ["isotonic", "platt"],
        "value": "log",
        "precision": "F16",
        "activation": "tanh",
    },
    "hstu-no-target": {
        "sequence": {
            **HSTU,
            "target": False,
            "position_bias": False,
            "dot": {"normalize": "l2", "temperature": 0.05},
        },
        "metric": "l2",
        "no_actions": True,
        "tables": "I8",
        "activation": "identity",
    },
    "tower-only": {
        "ranker": {"structure": "stacked", "cross_rank": 0},
        "tower_layers": 0,
        "normalize": "none",
        "calibrations": ["platt", "none"],
        "value": "power",
    },
}

FEATURES: list[dict[str, Any]] = [
    {"name": "user_row", "from": "user_id", "encode": "row", "dimension": 3},
    {"name": "age", "from": "user", "encode": "bins", "boundaries": [18, 30, 45.5], "dimension": 2},
    {"name": "income", "from": "user", "encode": "squash", "function": "log1p", "mean": 8.5, "std": 2.25},
    {"name": "city", "from": "user", "encode": "hash", "buckets": 11, "dimension": 2},
    {
        "name": "member",
        "from": "user",
        "encode": "vocabulary",
        "vocabulary": ["true", "false"],
        "dimension": 2,
    },
    {
        "name": "interests",
        "from": "context",
        "encode": "hash",
        "buckets": 7,
        "dimension": 3,
        "pooling": "sum",
    },
    {
        "name": "device",
        "from": "context",
        "encode": "vocabulary",
        "vocabulary": ["tv", "phone", "7"],
        "dimension": 2,
    },
    {
        "name": "recent",
        "from": "history",
        "encode": "pool",
        "table": "item.vector",
        "dimension": 6,
        "last": 4,
        "pooling": "sum",
    },
    {
        "name": "tags",
        "from": "item",
        "encode": "vocabulary",
        "vocabulary": ["a", "b", "ü"],
        "dimension": 2,
        "pooling": "mean",
    },
    {"name": "price", "from": "item", "encode": "squash", "function": "identity", "mean": 10.0, "std": 4.0},
    {"name": "new", "from": "item", "encode": "vocabulary", "vocabulary": ["false", "true"], "dimension": 2},
    {"name": "item_row", "from": "item_id", "encode": "row", "dimension": 3},
    {
        "name": "tower_score",
        "from": "stage",
        "encode": "stage",
        "stage": "tower.score",
        "mean": 0.1,
        "std": 0.7,
    },
    {"name": "tower_user", "from": "stage", "encode": "stage", "stage": "tower.user_vector"},
    {"name": "tower_item", "from": "stage", "encode": "stage", "stage": "tower.item_vector", "std": 2.0},
    {"name": "popularity", "from": "stage", "encode": "stage", "stage": "item.popularity", "mean": 3.0},
    {"name": "dot", "from": "stage", "encode": "stage", "stage": "sequence.dot", "std": 3.0},
    {"name": "score", "from": "stage", "encode": "stage", "stage": "sequence.score"},
    {"name": "vector", "from": "stage", "encode": "stage", "stage": "sequence.vector"},
]
