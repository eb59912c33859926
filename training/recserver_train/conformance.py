"""Tiny bundles with random weights that together use every choice of the format page, each with goldens."""

from pathlib import Path
from typing import Any

import numpy as np

from .bundle import BundleWriter
from .conformance_cases import CASES, FEATURES
from .data import Attribute, InteractionLog
from .golden import write_goldens

ITEMS, USERS = 120, 9
FILE = "model.safetensors"


def small_log(rng: np.random.Generator, actions: list[str]) -> InteractionLog:
    """A random log with every attribute type and missing values."""
    lengths = rng.integers(2, 40, USERS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    count = int(offsets[-1])
    maybe = lambda values: [v if rng.random() < 0.8 else None for v in values]  # noqa: E731
    interests = [
        [
            str(w)
            for w in rng.choice(["jazz", "chess", "boxing", "crème"], int(rng.integers(0, 4)), replace=False)
        ]
        for _ in range(count)
    ]
    return InteractionLog(
        name="conformance",
        item_ids=[f"item/{i}" for i in range(ITEMS)],
        item_attributes=[
            Attribute("title", "string", maybe([f"Título {i}" for i in range(ITEMS)])),
            Attribute(
                "tags",
                "strings",
                [
                    [str(w) for w in rng.choice(["a", "b", "ü", "z"], int(rng.integers(0, 4)), replace=False)]
                    for _ in range(ITEMS)
                ],
                filterable=True,
            ),
            Attribute(
                "price",
                "number",
                maybe([round(float(p), 2) for p in rng.gamma(3, 4, ITEMS)]),
                filterable=True,
            ),
            Attribute("new", "boolean", maybe([bool(b) for b in rng.random(ITEMS) < 0.5]), filterable=True),
        ],
        user_ids=[f"user {i}" for i in range(USERS)],
        user_attributes=[
            Attribute("age", "number", maybe([int(a) for a in rng.integers(10, 80, USERS)])),
            Attribute("income", "number", maybe([round(float(x), 1) for x in rng.normal(2e4, 3e4, USERS)])),
            Attribute(
                "city", "string", maybe([str(c) for c in rng.choice(["Kyōto", "Lima", "Oslo"], USERS)])
            ),
            Attribute("member", "boolean", maybe([bool(b) for b in rng.random(USERS) < 0.5])),
        ],
        action_names=actions,
        offsets=offsets,
        items=rng.integers(0, ITEMS, count).astype(np.int32),
        actions=rng.integers(0, len(actions), count).astype(np.uint8),
        times=1.7e9 + np.concatenate([np.cumsum(np.floor(rng.lognormal(8, 3, n))) for n in lengths]),
        liked=None,
        context=[
            Attribute("interests", "strings", interests),
            Attribute(
                "device", "string", [[*["tv", "phone"], 7, "watch"][i] for i in rng.integers(0, 4, count)]
            ),
        ],
        exported_users=USERS,
    )


def widths(case: dict[str, Any]) -> dict[str, int]:
    """Columns per feature."""
    d = case.get("sequence", {}).get("dimension", 0)
    special = {"tower_user": 6, "tower_item": 6, "vector": d, "income": 2, "price": 2}
    return {f["name"]: f.get("dimension", special.get(f["name"], 1)) for f in FEATURES}


def add_sequence(
    writer: BundleWriter, rng: np.random.Generator, case: dict[str, Any], precision: str, table: str
) -> None:
    """Random weights for the case's sequence model."""
    s = case["sequence"]
    d = s["dimension"]

    def add(name: str, *shape: int, scale: float = 0.4, centre: float = 0.0) -> None:
        writer.add(FILE, "sequence." + name, centre + scale * rng.normal(size=shape), precision)

    writer.add(FILE, "sequence.item_embedding.weight", 0.5 * rng.normal(size=(ITEMS, d)), table)
    # SASRec has exactly one row a slot and one for padding; HSTU may have more than its window and a candidate need.
    add("position_embedding.weight", s["max_events"] + (1 if s["family"] == "sasrec" else 2), d)
    if s["family"] == "sasrec":
        for i in range(s["layers"]):
            p = f"layers.{i}."
            add(p + "attention.in_proj_weight", 3 * d, d)
            add(p + "attention.in_proj_bias", 3 * d)
            add(p + "attention.out_proj.weight", d, d)
            add(p + "attention.out_proj.bias", d)
            add(p + "ffn.0.weight", 2 * d, d)
            add(p + "ffn.0.bias", 2 * d)
            add(p + "ffn.1.weight", d, 2 * d)
            add(p + "ffn.1.bias", d)
        for name in [
            f"layers.{i}.{n}" for i in range(s["layers"]) for n in ("attention_norm", "ffn_norm")
        ] + ["final_norm"]:
            add(name + ".weight", d, scale=0.2, centre=1)
            add(name + ".bias", d)
        return
    h, dv, dqk = s["heads"], s["value_dimension"], s["qk_dimension"]
    if not case.get("no_actions"):
        add("action_embedding.weight", len(s["actions"]) + 1, d)
    for i in range(s["layers"]):
        p = f"layers.{i}."
        add(p + "uvqk.weight", 2 * h * (dv + dqk), d)
        if case.get("uvqk_bias"):
            add(p + "uvqk.bias", 2 * h * (dv + dqk))
        add(p + "output.weight", d, h * dv)
        add(p + "output.bias", d)
        if s["position_bias"]:
            add(p + "position_bias", 2 * s["normalizer"] - 1)
        if s["time_bias"]:
            add(p + "time_bias", 129)
    if s["target"]:
        add("target.norm.weight", d, scale=0.2, centre=1)
        add("target.norm.bias", d)
        add("target.weight", 1, d)
        add("target.bias", 1)


def add_ranker(
    writer: BundleWriter, rng: np.random.Generator, ranker: dict[str, Any], width: int, precision: str
) -> None:
    """Random weights for a ranker of `width` inputs, small enough to keep three cross layers tame."""
    rank = ranker["cross_rank"]
    for i in range(ranker["cross_layers"]):
        p = f"ranker.cross.{i}."
        if rank:
            writer.add(FILE, p + "u.weight", 0.2 * rng.normal(size=(width, rank)), precision)
            writer.add(FILE, p + "v.weight", 0.2 * rng.normal(size=(rank, width)), precision)
        else:
            writer.add(FILE, p + "weight", 0.06 * rng.normal(size=(width, width)), precision)
        writer.add(FILE, p + "bias", 0.1 * rng.normal(size=width), precision)
    below = width
    for i, size in enumerate(ranker["deep"]):
        writer.add(
            FILE, f"ranker.deep.{i}.weight", rng.normal(size=(size, below)) / np.sqrt(below), precision
        )
        writer.add(FILE, f"ranker.deep.{i}.bias", 0.1 * rng.normal(size=size), precision)
        below = size
    top = below if ranker["structure"] == "stacked" else below + width
    writer.add(FILE, "ranker.head.weight", 0.3 * rng.normal(size=(2, top)) / np.sqrt(top), precision)
    writer.add(FILE, "ranker.head.bias", 0.1 * rng.normal(size=2), precision)


def calibration(kind: str) -> dict[str, Any]:
    extra = {
        "none": {},
        "platt": {"a": 1.3, "b": -0.4},
        "logit_offset": {"offset": -1.5},
        "isotonic": {"x": [0.2, 0.45, 0.6], "y": [0.05, 0.5, 0.9]},
    }
    return {"kind": kind, **extra[kind]}


def write_case(folder: Path, name: str, case: dict[str, Any], goldens: int, seed: int = 5) -> None:
    """Writes the bundle `folder`/`name`."""
    rng = np.random.default_rng(seed)
    out, precision, tables = folder / name, case.get("precision", "F32"), case.get("tables", "F32")
    sequence = case.get("sequence")
    log = small_log(rng, sequence["actions"] if sequence else ["unknown"])
    writer, columns, d = BundleWriter(out), widths(case), 6
    writer.add_strings(FILE, "item_ids", log.item_ids)
    writer.add_strings(FILE, "user_ids", log.user_ids)
    for prefix, attributes, count in (
        ("item.attr", log.item_attributes, ITEMS),
        ("user.attr", log.user_attributes, USERS),
    ):
        for attribute in attributes:
            writer.add_attribute(FILE, prefix, attribute, count)
    writer.add(FILE, "item.popularity", rng.gamma(2, 2, ITEMS), "F32")
    writer.add(FILE, "item.vector", rng.normal(size=(ITEMS, d)), tables)
    inputs = (
        ["recent"]
        if case.get("tower_layers") == 0
        else ["user_row", "age", "income", "city", "member", "interests", "recent"]
    )
    used = list(inputs)
    manifest: dict[str, Any] = {
        "format_version": 1,
        "kind": "full",
        "model_version": name,
        "space_version": name,
        "items": {"count": ITEMS, "attributes": [a.manifest() for a in log.item_attributes]},
        "users": {
            "count": USERS,
            "attributes": [a.manifest() for a in log.user_attributes],
            "histories": False,
        },
        "retrieval": {
            "metric": case.get("metric", "inner_product"),
            "dimension": d,
            "candidates": 50,
            "shortlist_factor": 4,
            "index": {"kind": "flat"},
            "sources": {"tower": 40, "popular": 20} | ({"sequence": 40} if sequence else {}),
        },
        "tower": {
            "inputs": inputs,
            "layers": case.get("tower_layers", 2),
            "activation": case.get("activation", "relu"),
            "normalize": case.get("normalize", "l2"),
        },
    }
    below = sum(columns[i] for i in inputs)
    for i in range(manifest["tower"]["layers"]):
        size = 7 if i == 0 else d
        writer.add(FILE, f"tower.user.{i}.weight", rng.normal(size=(size, below)) / np.sqrt(below), precision)
        writer.add(FILE, f"tower.user.{i}.bias", 0.2 * rng.normal(size=size), precision)
        below = size
    if sequence:
        manifest["sequence"] = sequence
        add_sequence(writer, rng, case, precision, tables)
    if "ranker" in case:
        used = [f["name"] for f in FEATURES if sequence or not f.get("stage", "").startswith("sequence.")]
        ranker = {
            "family": "dcn_v2",
            "inputs": used,
            **case["ranker"],
            "cross_layers": 3,
            "deep": [9, 5],
            "activation": case.get("activation", "relu"),
            "tasks": [
                {"name": n, "calibration": calibration(k)}
                for n, k in zip(("watch", "like"), case["calibrations"])
            ],
        }
        manifest |= {
            "ranker": ranker,
            "value": {"form": case["value"], "weights": {"watch": 1, "like": -0.5}},
        }
        add_ranker(writer, rng, ranker, sum(columns[n] for n in used), precision)
    manifest["features"] = [f for f in FEATURES if f["name"] in used]
    for f in manifest["features"]:
        rows = {
            "row": USERS + 1 if f["from"] == "user_id" else ITEMS,
            "hash": f.get("buckets", 0) + 1,
            "vocabulary": len(f.get("vocabulary", ())) + 1,
            "bins": len(f.get("boundaries", ())) + 2,
        }.get(f["encode"])
        if rows is not None:
            writer.add(FILE, f"feature.{f['name']}.weight", rng.normal(size=(rows, f["dimension"])), tables)
    manifest["tolerances"] = {"golden": 1e-4}
    writer.write(manifest)
    write_goldens(out, log, sequence["max_events"] if sequence else 12, goldens, seed)
    writer.write(manifest, ["golden.jsonl"])


def write_all(folder: Path, goldens: int = 40) -> list[Path]:
    """Writes every case below `folder`; returns their folders."""
    for name, case in CASES.items():
        write_case(folder, name, case, goldens)
    return [folder / name for name in CASES]
