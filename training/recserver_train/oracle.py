"""Every stage of a request in double-precision NumPy, read from a written bundle alone.

It follows the format page and shares no code with the trainer: its numbers are the bundle's goldens.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .oracle_math import ACTIVATIONS, bucket, fnv, layer_norm, number_of, sigmoid, silu, text_of


class Oracle:
    """A bundle folder, ready to answer `/recommend` bodies with `candidates` stage by stage."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "manifest.json").read_text())
        self.raw: dict[str, np.ndarray] = {}
        for name in self.manifest["files"]:
            if name.endswith(".safetensors"):
                self.raw.update(load_file(folder / name))
        self.cache: dict[str, np.ndarray] = {}
        self.item_rows = {name: row for row, name in enumerate(self.strings("item_ids"))}
        users = self.strings("user_ids") if "user_ids.bytes" in self.raw else []
        self.user_rows = {name: row for row, name in enumerate(users)}
        self.items = self.attributes("items", "item.attr")
        self.users = self.attributes("users", "user.attr")
        self.features = {f["name"]: f for f in self.manifest.get("features", [])}

    def tensor(self, name: str) -> np.ndarray:
        """A weight or table in double precision, bytes scaled."""
        if name not in self.cache:
            value = self.raw[name].astype(np.float64)
            if name + ".scale" in self.raw:
                value *= self.raw[name + ".scale"].astype(np.float64)[:, None]
            self.cache[name] = value
        return self.cache[name]

    def strings(self, name: str) -> list[str]:
        data, at = self.raw[name + ".bytes"].tobytes(), self.raw[name + ".offsets"].astype(int)
        return [data[a:b].decode() for a, b in zip(at, at[1:])]

    def attributes(self, table: str, prefix: str) -> dict[str, list[Any]]:
        result: dict[str, list[Any]] = {}
        for entry in self.manifest.get(table, {}).get("attributes", []):
            name = f"{prefix}.{entry['name']}"
            values = self.raw[name + ".values"]
            if entry["type"] in ("string", "strings"):
                words, at = self.strings(name + ".dictionary"), self.raw[name + ".offsets"].astype(int)
                rows: list[Any] = [[words[v] for v in values[a:b]] for a, b in zip(at, at[1:])]
                if entry["type"] == "string":
                    rows = [r[0] if r else None for r in rows]
            else:
                kind = bool if entry["type"] == "boolean" else float
                present = self.raw.get(name + ".present", np.ones(len(values)))
                rows = [kind(v) if p else None for v, p in zip(values, present)]
            result[entry["name"]] = rows
        return result

    def events(self, request: dict[str, Any]) -> list[tuple[int, int, float | None]]:
        """(item row, action, time) of the known events of a request, times filled."""
        names = self.manifest.get("sequence", {}).get("actions", ["unknown"])
        known = []
        for event in request.get("history", []):
            row = self.item_rows.get(event["item_id"])
            if row is not None:
                action = event.get("action")
                known.append((row, names.index(action) if action in names else 0, event.get("timestamp")))
        times = [t for _, _, t in known if t is not None]
        last = times[0] if times else 0.0
        filled = []
        for row, action, time in known:
            last = time if time is not None else last
            filled.append((row, action, float(last)))
        return filled

    def raw_value(
        self, feature: dict[str, Any], request: dict[str, Any], candidate: dict[str, Any] | None
    ) -> Any:
        """The JSON value a feature reads: request or candidate first, then the stored attribute."""
        key = feature.get("key", feature["name"])
        if feature["from"] == "context":
            return request.get("context", {}).get(key)
        if feature["from"] == "user":
            given = request.get("user", {})
            if key in given:
                return given[key]
            row = self.user_rows.get(request.get("user_id", ""))
            return None if row is None or key not in self.users else self.users[key][row]
        given = candidate.get("features", {}) if candidate else {}
        if key in given:
            return given[key]
        return (
            self.items[key][self.item_rows[candidate["item_id"]]] if candidate and key in self.items else None
        )

    def table(self, feature: dict[str, Any]) -> np.ndarray:
        return self.tensor(feature.get("table", f"feature.{feature['name']}.weight"))

    def lookup(self, feature: dict[str, Any], value: Any) -> np.ndarray:
        """The table row of one value."""
        if feature["encode"] == "bins":
            x = number_of(value)
            row = 0 if x is None else 1 + sum(1 for b in feature["boundaries"] if b <= x)
        else:
            text = text_of(value)
            if text is None:
                row = 0
            elif feature["encode"] == "hash":
                row = 1 + fnv(text) % feature["buckets"]
            else:
                row = feature["vocabulary"].index(text) + 1 if text in feature["vocabulary"] else 0
        return self.table(feature)[row]

    def encode(
        self, name: str, request: dict[str, Any], candidate: dict[str, Any] | None, stages: dict[str, Any]
    ) -> np.ndarray:
        """The columns of one feature."""
        f = self.features[name]
        match f["encode"]:
            case "row":
                if f["from"] == "user_id":
                    return self.table(f)[self.user_rows.get(request.get("user_id", ""), -1) + 1]
                return self.table(f)[self.item_rows[candidate["item_id"]]]
            case "pool":
                names = self.manifest.get("sequence", {}).get("actions", ["unknown"])
                wanted = [names.index(a) for a in f["actions"]] if "actions" in f else range(256)
                rows = [row for row, action, _ in self.events(request) if action in wanted][-f["last"] :]
                if not rows:
                    return np.zeros(f["dimension"])
                picked = self.table(f)[rows]
                return picked.mean(0) if f["pooling"] == "mean" else picked.sum(0)
            case "stage":
                return (np.atleast_1d(stages[f["stage"]]) - f.get("mean", 0)) / f.get("std", 1)
            case "squash":
                x = number_of(self.raw_value(f, request, candidate))
                if x is None:
                    return np.array([0.0, 1.0])
                x = math.copysign(math.log1p(abs(x)), x) if f["function"] == "log1p" else x
                return np.array([(x - f["mean"]) / f["std"], 0.0])
        value = self.raw_value(f, request, candidate)
        if "pooling" not in f:
            return self.lookup(f, value)
        values = [] if value is None else value if isinstance(value, list) else [value]
        if not values:
            return np.zeros(f["dimension"])
        picked = np.stack([self.lookup(f, v) for v in values])
        return picked.mean(0) if f["pooling"] == "mean" else picked.sum(0)

    def user_vector(self, request: dict[str, Any]) -> np.ndarray:
        tower = self.manifest["tower"]
        x = np.concatenate([self.encode(name, request, None, {}) for name in tower["inputs"]])
        for i in range(tower["layers"]):
            x = self.tensor(f"tower.user.{i}.weight") @ x + self.tensor(f"tower.user.{i}.bias")
            if i + 1 < tower["layers"]:
                x = ACTIVATIONS[tower["activation"]](x)
        return x / max(np.linalg.norm(x), 1e-12) if tower["normalize"] == "l2" else x

    def retrieval_score(self, query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        match self.manifest["retrieval"]["metric"]:
            case "cosine":
                return (
                    vectors
                    @ query
                    / np.maximum(np.linalg.norm(vectors, axis=1) * np.linalg.norm(query), 1e-12)
                )
            case "l2":
                return -((vectors - query) ** 2).sum(1)
        return vectors @ query

    def window(self, events: list[Any]) -> list[Any]:
        s = self.manifest["sequence"]
        start = s["window_block"] * math.ceil(max(0, len(events) - s["max_events"]) / s["window_block"])
        return events[start:]

    def hstu(
        self, events: list[Any], now: float, candidates: list[int]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """History rows `[len, D]` and candidate rows `[m, D]` (None without a target head), one candidate at
        a time.
        """
        s, d = self.manifest["sequence"], self.manifest["sequence"]["dimension"]
        table, position = (
            self.tensor("sequence.item_embedding.weight"),
            self.tensor("sequence.position_embedding.weight"),
        )
        action = (
            self.tensor("sequence.action_embedding.weight")
            if "sequence.action_embedding.weight" in self.raw
            else None
        )
        size = len(events)
        tokens = np.stack([math.sqrt(d) * table[row] + position[i] for i, (row, _, _) in enumerate(events)])
        if action is not None:
            tokens += action[[a for _, a, _ in events]]
        times = np.array([t for _, _, t in events])
        rows = self.hstu_layers(tokens, times, now)
        if not s.get("target"):
            return rows, None
        targets = []
        for c in candidates:
            token = math.sqrt(d) * table[c] + action[-1] + position[size]
            targets.append(self.hstu_layers(np.vstack([tokens, token]), np.append(times, now), now)[-1])
        return rows, np.stack(targets)

    def hstu_layers(self, x: np.ndarray, times: np.ndarray, now: float) -> np.ndarray:
        """All rows after the last layer of a causal sequence whose following event is at `now`."""
        s = self.manifest["sequence"]
        h, dv, dqk, n = s["heads"], s["value_dimension"], s["qk_dimension"], s["normalizer"]
        size = len(x)
        distance = np.arange(size)[:, None] - np.arange(size)
        following = np.append(times[1:], now)
        for l in range(s["layers"]):
            p = f"sequence.layers.{l}."
            z = layer_norm(x, 1e-6) @ self.tensor(p + "uvqk.weight").T
            if p + "uvqk.bias" in self.raw:
                z = z + self.tensor(p + "uvqk.bias")
            u, v, q, k = np.split(silu(z), np.cumsum([h * dv, h * dv, h * dqk]), axis=1)
            bias = np.zeros((size, size))
            if s["position_bias"]:
                bias += self.tensor(p + "position_bias")[n - 1 - np.maximum(distance, 0)]
            if s["time_bias"]:
                bias += self.tensor(p + "time_bias")[bucket(following[:, None] - times)]
            outputs = []
            for head in range(h):
                a, b = slice(head * dqk, (head + 1) * dqk), slice(head * dv, (head + 1) * dv)
                scores = np.where(distance >= 0, silu(q[:, a] @ k[:, a].T + bias) / n, 0)
                outputs.append(scores @ v[:, b])
            o = np.concatenate(outputs, 1)
            x = (
                (u * layer_norm(o, 1e-6)) @ self.tensor(p + "output.weight").T
                + self.tensor(p + "output.bias")
                + x
            )
        return x

    def sasrec(self, events: list[Any]) -> np.ndarray:
        """History rows `[len, D]` after the final norm."""
        s, d = self.manifest["sequence"], self.manifest["sequence"]["dimension"]
        slots, size, heads = s["max_events"], len(events), s["heads"]
        pads = slots - size
        table, position = (
            self.tensor("sequence.item_embedding.weight"),
            self.tensor("sequence.position_embedding.weight"),
        )
        x = np.zeros((slots, d))
        x[pads:] = math.sqrt(d) * table[[row for row, _, _ in events]] + position[pads + 1 : slots + 1]
        keep = np.arange(slots) >= pads
        visible = np.tril(np.ones((slots, slots), bool))
        if not s["attend_pads"]:
            visible = visible & (keep[None, :] | np.eye(slots, dtype=bool))

        def norm(name: str, value: np.ndarray) -> np.ndarray:
            return layer_norm(value, 1e-8) * self.tensor(name + ".weight") + self.tensor(name + ".bias")

        def attention(p: str, query: np.ndarray, other: np.ndarray) -> np.ndarray:
            w, b = self.tensor(p + "attention.in_proj_weight"), self.tensor(p + "attention.in_proj_bias")
            q, k, v = (
                query @ w[:d].T + b[:d],
                other @ w[d : 2 * d].T + b[d : 2 * d],
                other @ w[2 * d :].T + b[2 * d :],
            )
            outputs, size_head = [], d // heads
            for head in range(heads):
                part = slice(head * size_head, (head + 1) * size_head)
                scores = np.where(visible, q[:, part] @ k[:, part].T / math.sqrt(size_head), -np.inf)
                weights = np.exp(scores - scores.max(1, keepdims=True))
                outputs.append(weights / weights.sum(1, keepdims=True) @ v[:, part])
            return np.concatenate(outputs, 1) @ self.tensor(p + "attention.out_proj.weight").T + self.tensor(
                p + "attention.out_proj.bias"
            )

        def ffn(p: str, z: np.ndarray) -> np.ndarray:
            inner = np.maximum(z @ self.tensor(p + "ffn.0.weight").T + self.tensor(p + "ffn.0.bias"), 0)
            return inner @ self.tensor(p + "ffn.1.weight").T + self.tensor(p + "ffn.1.bias")

        for l in range(s["layers"]):
            p = f"sequence.layers.{l}."
            x = np.where(keep[:, None], x, 0)
            match s["variant"]:
                case "original":
                    query = norm(p + "attention_norm", x)
                    x = query + attention(p, query, x)
                    z = norm(p + "ffn_norm", x)
                    x = z + ffn(p, z)
                case "pre_norm":
                    z = norm(p + "attention_norm", x)
                    x = x + attention(p, z, z)
                    x = x + ffn(p, norm(p + "ffn_norm", x))
                case "post_norm":
                    x = norm(p + "attention_norm", x + attention(p, x, x))
                    x = norm(p + "ffn_norm", x + ffn(p, x))
        return norm("sequence.final_norm", x)[pads:]

    def sequence_stages(self, request: dict[str, Any], rows: list[int]) -> dict[str, Any]:
        """All `sequence.*` values; zeros for a user without history."""
        s = self.manifest["sequence"]
        events = self.window(self.events(request))
        m, d = len(rows), s["dimension"]
        if not events:
            result = {"sequence.dot": np.zeros(m)} if "dot" in s else {}
            if s.get("target"):
                result |= {"sequence.score": np.zeros(m), "sequence.vector": np.zeros((m, d))}
            return result
        if s["family"] == "hstu":
            history, targets = self.hstu(events, float(request["now"]), rows)
        else:
            history, targets = self.sasrec(events), None
        result = {"sequence.rows": history, "sequence.last_row": history[-1]}
        if "dot" in s:
            e, picked = history[-1], self.tensor("sequence.item_embedding.weight")[rows]
            if s["dot"]["normalize"] == "l2":
                e = e / max(np.linalg.norm(e), 1e-6)
                picked = picked / np.maximum(np.linalg.norm(picked, axis=1, keepdims=True), 1e-6)
            result["sequence.dot"] = picked @ e
        if targets is not None:
            vector = layer_norm(targets, 1e-6) * self.tensor("sequence.target.norm.weight") + self.tensor(
                "sequence.target.norm.bias"
            )
            result["sequence.vector"] = vector
            result["sequence.score"] = (
                vector @ self.tensor("sequence.target.weight")[0] + self.tensor("sequence.target.bias")[0]
            )
        return result

    def ranker_logits(self, x0: np.ndarray) -> np.ndarray:
        r, x = self.manifest["ranker"], x0
        for l in range(r["cross_layers"]):
            p = f"ranker.cross.{l}."
            if r["cross_rank"]:
                product = x @ self.tensor(p + "v.weight").T @ self.tensor(p + "u.weight").T
            else:
                product = x @ self.tensor(p + "weight").T
            x = x0 * (product + self.tensor(p + "bias")) + x
        deep = x if r["structure"] == "stacked" else x0
        for i in range(len(r["deep"])):
            deep = ACTIVATIONS[r["activation"]](
                deep @ self.tensor(f"ranker.deep.{i}.weight").T + self.tensor(f"ranker.deep.{i}.bias")
            )
        top = deep if r["structure"] == "stacked" else np.concatenate([x, deep], -1)
        return top @ self.tensor("ranker.head.weight").T + self.tensor("ranker.head.bias")

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        columns = []
        for index, task in enumerate(self.manifest["ranker"]["tasks"]):
            z, c = logits[:, index], task["calibration"]
            match c["kind"]:
                case "platt":
                    columns.append(sigmoid(c["a"] * z + c["b"]))
                case "logit_offset":
                    columns.append(sigmoid(z + c["offset"]))
                case "isotonic":
                    columns.append(np.interp(sigmoid(z), c["x"], c["y"]))
                case _:
                    columns.append(sigmoid(z))
        return np.stack(columns, 1)

    def value(self, p: np.ndarray) -> np.ndarray:
        form = self.manifest["value"]
        weights = np.array([form["weights"].get(t["name"], 0) for t in self.manifest["ranker"]["tasks"]])
        match form["form"]:
            case "linear":
                return p @ weights
            case "log":
                return np.log(np.maximum(p, 1e-9)) @ weights
        return np.prod(np.maximum(p, 1e-9) ** weights, axis=1)

    def stages(self, request: dict[str, Any]) -> dict[str, np.ndarray]:
        """Every stage of the format page that this bundle has."""
        rows = [self.item_rows[c["item_id"]] for c in request["candidates"]]
        result: dict[str, np.ndarray] = {}
        per_item: dict[str, Any] = {"item.popularity": self.tensor("item.popularity")[rows]}
        if "tower" in self.manifest:
            user = self.user_vector(request)
            vectors = self.tensor("item.vector")[rows]
            result["tower.user_vector"] = user
            result["tower.score"] = self.retrieval_score(user, vectors)
            per_item |= {
                "tower.score": result["tower.score"],
                "tower.item_vector": vectors,
                "tower.user_vector": np.broadcast_to(user, vectors.shape),
            }
        if "sequence" in self.manifest:
            result |= self.sequence_stages(request, rows)
            per_item |= {
                k: result[k] for k in ("sequence.dot", "sequence.score", "sequence.vector") if k in result
            }
        if "ranker" in self.manifest:
            x0 = []
            for i, candidate in enumerate(request["candidates"]):
                own = {name: values[i] for name, values in per_item.items()}
                x0.append(
                    np.concatenate(
                        [self.encode(n, request, candidate, own) for n in self.manifest["ranker"]["inputs"]]
                    )
                )
            result["ranker.features"] = np.stack(x0)
            result["ranker.logits"] = self.ranker_logits(result["ranker.features"])
            result["ranker.probabilities"] = self.probabilities(result["ranker.logits"])
            result["value"] = self.value(result["ranker.probabilities"])
        return result
