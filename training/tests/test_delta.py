"""A delta put over its base is the bundle it was made from, and no larger than it must be."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import minimal_bundle  # noqa: E402
from recserver_train import delta  # noqa: E402
from recserver_train.delta import Tensor  # noqa: E402


def tensor(array: np.ndarray, dtype: str) -> Tensor:
    return Tensor(dtype, list(array.shape), array.tobytes())


class Difference(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(5)
        self.table = self.rng.normal(size=(50, 8)).astype(np.float32)

    def parts(self, old: np.ndarray | None, new: np.ndarray) -> dict[str, Tensor]:
        before = {} if old is None else {"t": tensor(old, "F32")}
        parts = delta.difference("t", before.get("t"), tensor(new, "F32"))
        self.assertEqual(delta.merge(before, parts, [])["t"], tensor(new, "F32"))
        return parts

    def test_what_stays_is_not_written(self) -> None:
        self.assertEqual(self.parts(self.table, self.table.copy()), {})

    def test_changed_rows_are_patched(self) -> None:
        new = self.table.copy()
        new[[3, 49]] += 1
        parts = self.parts(self.table, new)
        self.assertEqual(sorted(parts), ["patch.t.rows", "patch.t.values"])
        self.assertEqual(parts["patch.t.values"].shape, [2, 8])

    def test_new_rows_are_appended(self) -> None:
        new = np.concatenate([self.table, self.table[:4]])
        self.assertEqual(sorted(self.parts(self.table, new)), ["append.t"])
        new[7] = 0
        self.assertEqual(sorted(self.parts(self.table, new)), ["append.t", "patch.t.rows", "patch.t.values"])

    def test_a_tensor_that_changed_much_or_in_shape_is_replaced(self) -> None:
        for new in (
            self.table + 1,
            self.table[:-1],
            self.table[:, :-1].copy(),
            self.table.reshape(-1),
            self.table[:0],
        ):
            with self.subTest(new.shape):
                self.assertEqual(sorted(self.parts(self.table, new)), ["t"])
        self.assertEqual(sorted(self.parts(None, self.table)), ["t"])
        self.assertEqual(sorted(self.parts(self.table[:0], self.table)), ["t"])

    def test_any_change_is_found(self) -> None:
        for _ in range(200):
            rows = self.rng.integers(1, 60)
            new = np.resize(self.table, (rows, 8)).copy()
            for _ in range(self.rng.integers(0, 4)):
                new[self.rng.integers(rows), self.rng.integers(8)] += 1
            self.parts(self.table, new)


class Folder(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = Path(scratch.name)
        self.books = dict(minimal_bundle.BOOKS)
        self.addCleanup(lambda: (minimal_bundle.BOOKS.clear(), minimal_bundle.BOOKS.update(self.books)))
        minimal_bundle.main(self.path / "base")

    def with_one_more(self, name: str, out: str) -> Path:
        minimal_bundle.BOOKS[name] = ("The Last Ferry", "mystery", [0.7, 0.3, 0.2, 0.1])
        popularity = np.arange(len(minimal_bundle.BOOKS), dtype=np.float32)
        minimal_bundle.main(self.path / out)
        path = self.path / out / "model.safetensors"
        tensors = delta.read_tensors(path) | {"item.popularity": tensor(popularity, "F32")}
        delta.write_tensors(path, tensors)
        manifest = json.loads((self.path / out / "manifest.json").read_text())
        manifest["files"] = {
            "model.safetensors": {"sha256": delta.digest(path), "bytes": path.stat().st_size}
        }
        manifest["model_version"] = out
        (self.path / out / "manifest.json").write_text(json.dumps(manifest))
        return self.path / out

    def test_a_chain_of_deltas_is_the_last_bundle(self) -> None:
        base, first, second = self.path / "base", self.path / "first", self.path / "second"
        one, two = self.with_one_more("ferry", "one"), self.with_one_more("quay", "two")
        delta.write_delta(base, one, first)
        sizes = delta.write_delta(first, two, second, [base])
        self.assertLess(sizes["replaced"] + sizes["patched"] + sizes["appended"], sizes["whole"])
        for made, wanted in ((first, one), (second, two)):
            manifest, tensors = delta.read_bundle(made, [base, first])
            expected, expected_tensors = delta.read_bundle(wanted)
            self.assertEqual(tensors, expected_tensors)
            for key in expected.keys() - {"kind", "files"}:
                self.assertEqual(manifest[key], expected[key])
        with self.assertRaisesRegex(ValueError, "no base"):
            delta.read_bundle(second, [base])

    def test_a_bundle_that_is_read_is_not_overwritten(self) -> None:
        base = self.path / "base"
        with self.assertRaisesRegex(ValueError, "read"):
            delta.write_delta(base, base, base)
        self.assertTrue((base / "manifest.json").exists())


if __name__ == "__main__":
    unittest.main()
