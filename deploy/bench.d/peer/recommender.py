"""The pipeline of a request: user tower, FAISS with exact re-ranking, HSTU and DCN-V2 in onnxruntime, the page."""

from collections import OrderedDict

import faiss
import numpy as np

from bundle import Bundle
from graphs import Sequence, prefill_session, score_session


class Recommender:
    """One thread's recommender.

    cache_bytes: budget of histories' keys and values kept between requests; 0 computes them every time.
    chunk: candidates that go through the networks together.
    """

    def __init__(self, path: str, index: str, cache_bytes: int, chunk: int):
        faiss.omp_set_num_threads(1)
        self.chunk = chunk
        self.bundle = bundle = Bundle(path)
        retrieval = bundle.manifest["retrieval"]
        assert retrieval["metric"] == "inner_product"
        self.count, self.factor = retrieval["candidates"], retrieval["shortlist_factor"]
        self.codes, self.exact = faiss.read_index(index), faiss.IndexFlatIP(retrieval["dimension"])
        self.exact.add(bundle.table("item.vector"))
        shape = self.exact.ntotal, self.exact.d
        self.vectors = faiss.rev_swig_ptr(self.exact.get_xb(), shape[0] * shape[1]).reshape(shape)
        # Re-ranking inside FAISS: half the time of a gather and a product in NumPy.
        self.index = faiss.IndexRefine(self.codes, self.exact)
        self.parameters = faiss.IndexRefineSearchParameters(
            k_factor=self.factor, base_index_params=faiss.SearchParametersIVF(nprobe=retrieval["index"]["probes"]))
        self.item_ids = bundle.strings("item_ids")
        self.item_rows = {item: row for row, item in enumerate(self.item_ids)}
        self.user_rows = {user: row for row, user in enumerate(bundle.strings("user_ids"))}
        names = ("category", "brand", "tags", "price", "age_days", "rating")
        self.items = np.concatenate([bundle.column("item", n) for n in names], axis=1)
        self.users = np.concatenate(
            [bundle.table("feature.user_row.weight")[1:], bundle.column("user", "age"),
             bundle.column("user", "country")], axis=1)
        self.context = {n: (bundle.feature(n), bundle.table(f"feature.{n}.weight")) for n in ("device", "hour")}
        self.recent = bundle.feature("recent")["last"]
        self.tower = bundle.table("tower.user.0.weight"), bundle.table("tower.user.0.bias")
        self.load_sequence()
        self.cache = Cache(cache_bytes)

    def load_sequence(self):
        bundle = self.bundle
        self.sequence = s = Sequence(bundle)
        self.offsets = bundle.tensor("history.offsets").astype(np.int64)
        self.history = (np.array(bundle.tensor("history.items")), np.array(bundle.tensor("history.actions")),
                        np.array(bundle.tensor("history.timestamps")))
        self.rows = bundle.table("sequence.item_embedding.weight")
        self.rows *= np.float32(np.sqrt(s.width))
        self.actions = bundle.table("sequence.action_embedding.weight")
        self.positions = bundle.table("sequence.position_embedding.weight")
        n, N = s.normalizer, s.events
        step = np.arange(N)
        places = (n - 1) - (step[:, None] - step[None, :])
        # −10⁴ through SiLU is 0: the causal mask costs nothing.
        self.toeplitz = np.where(step[None, :] <= step[:, None], s.position_bias[:, places], np.float32(-1e4))
        self.prefill_graph, self.score_graph = prefill_session(s), score_session(s, bundle)

    # Sequence model

    def window(self, user: int):
        first, last = self.offsets[user], self.offsets[user + 1]
        total = int(last - first)
        block, surplus = self.sequence.block, total - self.sequence.events
        start = -(-surplus // block) * block if surplus > 0 else 0
        return slice(first + start, last)

    def buckets(self, differences: np.ndarray) -> np.ndarray:
        logarithms = np.log(np.maximum(np.abs(differences), 1))
        return np.minimum(128, logarithms / 0.301).astype(np.intp)

    def prefill(self, part: slice, now: float) -> dict:
        """Keys and values of a window, as the score graph's inputs."""
        s = self.sequence
        items, actions, times = (column[part] for column in self.history)
        n = len(items)
        x = self.rows.take(items, axis=0) + self.actions.take(actions, axis=0) + self.positions[:n]
        following = np.append(times[1:], now)
        classes = self.buckets(following[:, None] - times[None, :])
        bias = np.take(s.time_bias, classes, axis=1)
        bias += self.toeplitz[:, :n, :n]
        names = [name for layer in range(s.layers) for name in (f"k{layer}", f"v{layer}")]
        return dict(zip(names, self.prefill_graph.run(names, {"x": x, "bias": bias})))

    def prefix(self, user: int, now: float):
        """Keys and values, the part of the history, its time classes, and whether they came from the cache."""
        part = self.window(user)
        classes = self.buckets(now - self.history[2][part])
        kept = self.cache.get(user)
        # The last event's row depends on `now` through these classes.
        if kept is not None and np.array_equal(kept[1], classes):
            return kept[0], part, classes, True
        prefix = self.prefill(part, now)
        self.cache.put(user, (prefix, classes), sum(a.nbytes for a in prefix.values()))
        return prefix, part, classes, False

    # Pipeline

    def retrieve(self, query: np.ndarray):
        scores, rows = self.index.search(query[None, :], self.count, params=self.parameters)
        found = rows[0] >= 0
        return rows[0][found], scores[0][found]

    def recommend(self, request: dict) -> dict:
        user = self.user_rows[request["user_id"]]
        now = request["now"]
        prefix, part, classes, hit = self.prefix(user, now)
        d = self.vectors.shape[1]
        known = self.users[user]
        recent = self.vectors.take(self.history[0][part][-self.recent:], axis=0).mean(axis=0)
        personal = np.concatenate([known[:d], recent, known[d:]])
        query = self.tower[0] @ personal + self.tower[1]
        query /= max(np.sqrt(query @ query), 1e-12)
        if "candidates" in request:
            rows = np.array([self.item_rows[c["item_id"]] for c in request["candidates"]])
            scores = self.vectors[rows] @ query
        else:
            rows, scores = self.retrieve(query)
        values = self.rank(rows, scores, prefix, classes, personal, request.get("context", {}))
        n = min(request.get("n", len(rows)), len(rows))
        best = np.argpartition(values, len(values) - n)[-n:] if n < len(values) else np.arange(n)
        best = best[np.argsort(-values[best])]
        ids = self.item_ids
        items = [{"item_id": ids[row], "score": value}
                 for row, value in zip(rows[best].tolist(), values[best].tolist())]
        return {"items": items, "history": {"events": len(classes), "cache": "hit" if hit else "miss"}}

    def rank(self, rows, scores, prefix, classes, personal, context) -> np.ndarray:
        s = self.sequence
        n = len(classes)
        device, hour = self.context["device"], self.context["hour"]
        user = np.concatenate(
            [personal, device[1][self.bundle.vocabulary_row(device[0], context.get("device"))],
             hour[1][self.bundle.bin_row(hour[0], context.get("hour"))]])
        position = s.position_bias[:, s.normalizer - 1 - n:s.normalizer]
        feed = {
            **prefix, "base": (self.actions[-1] + self.positions[n])[None, :], "user": user[None, :],
            "bias": (s.time_bias[:, classes] + position[:, :n])[:, None, :],
            "own": (s.time_bias[:, 0] + position[:, n])[:, None, None],
        }
        embedded = self.rows.take(rows, axis=0)
        items = np.concatenate(
            [self.vectors.take(rows, axis=0), self.items.take(rows, axis=0), scores[:, None]], axis=1)
        values = []
        for first in range(0, len(rows), self.chunk):
            part = slice(first, first + self.chunk)
            values += self.score_graph.run(["value"], {**feed, "rows": embedded[part], "items": items[part]})
        return values[0] if len(values) == 1 else np.concatenate(values)


class Cache:
    """Least recently used entries within a byte budget."""

    def __init__(self, budget: int):
        self.budget, self.used, self.entries = budget, 0, OrderedDict()

    def get(self, key):
        entry = self.entries.get(key)
        if entry is None:
            return None
        self.entries.move_to_end(key)
        return entry[0]

    def put(self, key, value, size: int):
        if size > self.budget:
            return
        old = self.entries.pop(key, None)
        self.used += size - (old[1] if old else 0)
        self.entries[key] = (value, size)
        while self.used > self.budget:
            self.used -= self.entries.popitem(last=False)[1][1]
