"""Checks a bundle folder against the format page: names, types, shapes, offsets, digests, goldens."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .oracle import Oracle

FLOATS = ("float16", "float32", "bfloat16")


class Checker:
    """Collects what is wrong in `problems` and which tensors the manifest explains in `known`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.problems = folder, []
        self.known: set[str] = set()
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.tensors: dict[str, np.ndarray] = {}

    def expect(self, condition: bool, text: str) -> bool:
        if not condition:
            self.problems.append(text)
        return condition

    def files(self) -> None:
        listed = self.manifest["files"]
        there = {p.name for p in self.folder.iterdir() if not p.name.startswith(".")}
        self.expect(
            there == set(listed) | {"manifest.json"}, f"files {sorted(there)} are not those of the manifest"
        )
        for name, entry in listed.items():
            self.expect(re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is not None, f"file name {name}")
            data = (self.folder / name).read_bytes()
            self.expect(len(data) == entry["bytes"], f"{name}: size")
            self.expect(hashlib.sha256(data).hexdigest() == entry["sha256"], f"{name}: sha256")
            if name.endswith(".safetensors"):
                tensors = load_file(self.folder / name)
                self.expect(not set(tensors) & set(self.tensors), f"{name}: a tensor name appears twice")
                self.tensors.update(tensors)

    def tensor(
        self, name: str, shape: tuple[int | None, ...], kinds: tuple[str, ...] = FLOATS, required: bool = True
    ) -> Any:
        """One tensor with its shape (None: any) and element types; floats must be finite."""
        self.known.add(name)
        if name not in self.tensors:
            self.expect(not required, f"{name} is missing")
            return None
        array = self.tensors[name]
        self.expect(str(array.dtype) in kinds, f"{name}: type {array.dtype}")
        fits = array.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, array.shape))
        self.expect(fits, f"{name}: shape {array.shape}, expected {shape}")
        if array.dtype.kind == "f":
            self.expect(bool(np.isfinite(array.astype(np.float64)).all()), f"{name}: not finite")
        return array if fits else None

    def table(self, name: str, rows: int, columns: int) -> None:
        array = self.tensor(name, (rows, columns), (*FLOATS, "int8"))
        if array is not None and array.dtype == np.int8:
            self.tensor(name + ".scale", (rows,), ("float16",))

    def offsets(self, name: str, count: int | None, total: int) -> None:
        array = self.tensor(name, (None if count is None else count + 1,), ("uint64",))
        if array is not None:
            steps = np.diff(array.astype(np.int64))
            good = len(array) > 0 and array[0] == 0 and int(array[-1]) == total and bool((steps >= 0).all())
            self.expect(good, f"{name}: not offsets from 0 to {total}")

    def strings(self, name: str, count: int | None) -> list[str]:
        data = self.tensor(name + ".bytes", (None,), ("uint8",))
        if data is None:
            return []
        self.offsets(name + ".offsets", count, len(data))
        at = self.tensors.get(name + ".offsets", np.zeros(1)).astype(int)
        return [data.tobytes()[a:b].decode() for a, b in zip(at, at[1:])]

    def attributes(self, owner: str, prefix: str, count: int) -> None:
        for entry in self.manifest[owner].get("attributes", []):
            self.expect(
                re.fullmatch(r"[a-z0-9_]{1,64}", entry["name"]) is not None, f"attribute name {entry['name']}"
            )
            name = f"{prefix}.{entry['name']}"
            if entry["type"] in ("string", "strings"):
                words = self.strings(name + ".dictionary", None)
                values = self.tensor(name + ".values", (None,), ("uint32",))
                if values is not None:
                    self.offsets(name + ".offsets", count, len(values))
                    self.expect(
                        not len(values) or int(values.max()) < len(words),
                        f"{name}: value beyond the dictionary",
                    )
                    if entry["type"] == "string":
                        steps = np.diff(self.tensors[name + ".offsets"].astype(np.int64))
                        self.expect(
                            not len(steps) or int(steps.max()) <= 1,
                            f"{name}: several values in a string column",
                        )
            else:
                self.tensor(
                    name + ".values", (count,), ("float64",) if entry["type"] == "number" else ("uint8",)
                )
                self.tensor(name + ".present", (count,), ("uint8",), required=False)

    def catalogue(self) -> None:
        m = self.manifest
        items = m["items"]["count"]
        ids = self.strings("item_ids", items)
        self.expect(len(set(ids)) == len(ids) and all(1 <= len(i.encode()) <= 128 for i in ids), "item ids")
        self.table("item.vector", items, m["retrieval"]["dimension"])
        if "item.similar" in self.tensors:
            self.table("item.similar", items, self.tensors["item.similar"].shape[-1])
        self.tensor("item.popularity", (items,), ("float32",))
        self.attributes("items", "item.attr", items)
        if "users" in m:
            users = m["users"]["count"]
            ids = self.strings("user_ids", users)
            self.expect(len(set(ids)) == len(ids), "user ids")
            self.attributes("users", "user.attr", users)
            if m["users"].get("histories"):
                rows = self.tensor("history.items", (None,), ("uint32",))
                self.offsets("history.offsets", users, len(rows))
                self.expect(not len(rows) or int(rows.max()) < items, "history.items beyond the catalogue")
                self.tensor("history.actions", (len(rows),), ("uint8",), required=False)
                self.tensor("history.timestamps", (len(rows),), ("float64",), required=False)

    def width(self, name: str) -> int:
        """Columns of a feature, its table checked."""
        m = self.manifest
        f = next((f for f in m.get("features", []) if f["name"] == name), None)
        if not self.expect(f is not None, f"feature {name} is not defined"):
            return 0
        items, users = m["items"]["count"], m.get("users", {}).get("count", 0)
        match f["encode"]:
            case "squash":
                return 2
            case "stage":
                d, s = m["retrieval"]["dimension"], m.get("sequence", {}).get("dimension", 0)
                return {"tower.user_vector": d, "tower.item_vector": d, "sequence.vector": s}.get(
                    f["stage"], 1
                )
            case "pool":
                rows = items
            case "vocabulary":
                rows = len(f["vocabulary"]) + 1
            case "hash":
                rows = f["buckets"] + 1
            case "bins":
                rows = len(f["boundaries"]) + 2
                self.expect(sorted(f["boundaries"]) == f["boundaries"], f"feature {name}: boundaries")
            case _:
                rows = users + 1 if f["from"] == "user_id" else items
        self.table(f.get("table", f"feature.{name}.weight"), rows, f["dimension"])
        return f["dimension"]

    def models(self) -> None:
        m = self.manifest
        if "tower" in m:
            t, width = m["tower"], sum(self.width(n) for n in m["tower"]["inputs"])
            for i in range(t["layers"]):
                weight = self.tensor(f"tower.user.{i}.weight", (None, width))
                width = width if weight is None else weight.shape[0]
                self.tensor(f"tower.user.{i}.bias", (width,))
            self.expect(
                width == m["retrieval"]["dimension"], "the user tower's width is not the retrieval dimension"
            )
        if "sequence" in m:
            self.sequence()
        if "ranker" in m:
            self.ranker()

    def sequence(self) -> None:
        s, items = self.manifest["sequence"], self.manifest["items"]["count"]
        d, p = s["dimension"], "sequence."
        self.table(p + "item_embedding.weight", items, d)
        positions = self.tensor(p + "position_embedding.weight", (None, d))
        self.expect(positions is None or len(positions) >= s["max_events"] + 1, "too few position rows")
        if s["family"] == "sasrec":
            names = {
                "attention.in_proj_weight": (3 * d, d),
                "attention.in_proj_bias": (3 * d,),
                "attention.out_proj.weight": (d, d),
                "attention.out_proj.bias": (d,),
                "ffn.0.weight": (None, d),
                "ffn.0.bias": (None,),
                "ffn.1.weight": (d, None),
                "ffn.1.bias": (d,),
            }
            norms = [f"{p}layers.{i}.{n}" for i in range(s["layers"]) for n in ("attention_norm", "ffn_norm")]
            for name in [*norms, p + "final_norm"]:
                self.tensor(name + ".weight", (d,))
                self.tensor(name + ".bias", (d,))
            for i in range(s["layers"]):
                for name, shape in names.items():
                    self.tensor(f"{p}layers.{i}.{name}", shape)
            return
        h, dv, dqk, n = s["heads"], s["value_dimension"], s["qk_dimension"], s["normalizer"]
        self.expect(n >= s["max_events"] + 1, "the normalizer is smaller than the window and a candidate")
        self.tensor(p + "action_embedding.weight", (len(s["actions"]) + 1, d), required=bool(s.get("target")))
        for i in range(s["layers"]):
            l = f"{p}layers.{i}."
            self.tensor(l + "uvqk.weight", (2 * h * dv + 2 * h * dqk, d))
            self.tensor(l + "uvqk.bias", (2 * h * dv + 2 * h * dqk,), required=False)
            self.tensor(l + "output.weight", (d, h * dv))
            self.tensor(l + "output.bias", (d,))
            if s["position_bias"]:
                self.tensor(l + "position_bias", (2 * n - 1,))
            if s["time_bias"]:
                self.tensor(l + "time_bias", (129,))
        if s.get("target"):
            for name, shape in (
                ("norm.weight", (d,)),
                ("norm.bias", (d,)),
                ("weight", (1, d)),
                ("bias", (1,)),
            ):
                self.tensor(p + "target." + name, shape)

    def ranker(self) -> None:
        r = self.manifest["ranker"]
        width, rank = sum(self.width(n) for n in r["inputs"]), r["cross_rank"]
        for i in range(r["cross_layers"]):
            p = f"ranker.cross.{i}."
            if rank:
                self.tensor(p + "u.weight", (width, rank))
                self.tensor(p + "v.weight", (rank, width))
            else:
                self.tensor(p + "weight", (width, width))
            self.tensor(p + "bias", (width,))
        below = width
        for i, size in enumerate(r["deep"]):
            self.tensor(f"ranker.deep.{i}.weight", (size, below))
            self.tensor(f"ranker.deep.{i}.bias", (size,))
            below = size
        top = below if r["structure"] == "stacked" else width + below
        self.tensor("ranker.head.weight", (len(r["tasks"]), top))
        self.tensor("ranker.head.bias", (len(r["tasks"]),))
        tasks = {t["name"] for t in r["tasks"]}
        self.expect(
            set(self.manifest["value"]["weights"]) <= tasks, "the value model weighs a task that is not there"
        )

    def goldens(self) -> int:
        """Recomputes every golden; returns how many there are."""
        path = self.folder / "golden.jsonl"
        if not path.exists():
            return 0
        oracle, tolerance = Oracle(self.folder), self.manifest.get("tolerances", {}).get("golden", 1e-4)
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines, 1):
            golden = json.loads(line)
            actual = oracle.stages(golden["request"])
            for stage, expected in golden["stages"].items():
                b, a = np.array(expected, np.float64), np.asarray(actual[stage], np.float64)
                if not self.expect(
                    a.shape == b.shape, f"golden {number} {stage}: shape {a.shape}, expected {b.shape}"
                ):
                    continue
                slack = tolerance * np.abs(b) + tolerance / 10 * np.sqrt((b * b).mean())
                self.expect(bool((np.abs(a - b) <= slack).all()), f"golden {number} {stage}: differs")
        return len(lines)

    def run(self) -> list[str]:
        self.files()
        self.catalogue()
        self.models()
        extra = sorted(n for n in set(self.tensors) - self.known)
        self.expect(not extra, f"tensors the format does not name: {extra}")
        if not self.problems:
            self.goldens()
        return self.problems


def main() -> int:
    """`python -m recserver_train.check DIR…`: prints what is wrong; status 1 if anything is."""
    failed = False
    for name in sys.argv[1:]:
        problems = Checker(Path(name)).run()
        failed |= bool(problems)
        print("\n".join(f"{name}: {p}" for p in problems) or f"{name}: valid")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
