"""`recserver check`: the demo bundle passes; a damaged one is refused by name, and never crashes anything."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import harness
from harness import DEMO, ROOT, copy_bundle

INDEX = ["--index-cache", str(harness.SCRATCH / "indexes")]


def files() -> list[str]:
    return sorted(json.loads((DEMO / "manifest.json").read_text())["files"])


def edit_manifest(bundle: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def sign(bundle: Path) -> None:
    """Makes the digests honest again: what is wrong then is the content."""

    def change(manifest: dict) -> None:
        for name in manifest["files"]:
            data = (bundle / name).read_bytes()
            manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    edit_manifest(bundle, change)


def sign_exact(bundle: Path) -> None:
    """`sign`, and an exact index, which needs no time to make."""
    edit_manifest(bundle, lambda manifest: manifest["retrieval"].update(index={"kind": "flat"}))
    sign(bundle)


def holder(bundle: Path, tensor: str) -> Path:
    """The file with a tensor."""
    return next(p for p in bundle.glob("*.safetensors") if tensor in load_file(p))


def edit_tensor(bundle: Path, tensor: str, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    path = holder(bundle, tensor)
    tensors = load_file(path)
    changed = change(tensors.pop(tensor).copy())
    if changed is not None:
        tensors[tensor] = np.ascontiguousarray(changed)
    save_file(tensors, path)
    sign(bundle)


def edit_bytes(path: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def setting(*indices: int, to: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[indices] = to
        return array

    return change


class Check(harness.Case):
    def check_refused(self, bundle: Path, *words: str) -> None:
        done = harness.run("check", str(bundle), *INDEX)
        text = done.stdout + done.stderr
        # 1: refused. A signal would be negative, a usage error 2 or 64.
        self.assertEqual(done.returncode, 1, text[-600:])
        for word in words:
            self.assertIn(word, text, text[-600:])
        self.assertNotIn("rash", text)

    def test_the_demo_bundle_passes(self) -> None:
        done = harness.run("check", str(DEMO), *INDEX)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for stage in [
            "tower.user_vector",
            "sequence.rows",
            "sequence.score",
            "ranker.features",
            "ranker.logits",
            "value",
            "recall",
        ]:
            self.assertIn(stage, done.stdout)
        self.assertNotIn("FAILED", done.stdout)

    def test_damaged_files_are_refused_by_their_digest(self) -> None:
        count = 0
        for name in files():
            size = (DEMO / name).stat().st_size
            damages: dict[str, Callable[[Path], object]] = {
                "empty": lambda p: p.write_bytes(b""),
                "half": lambda p, s=size: os.truncate(p, s // 2),
                "one byte short": lambda p, s=size: os.truncate(p, s - 1),
                "one byte long": lambda p: p.write_bytes(p.read_bytes() + b"\0"),
                "first bit": lambda p: edit_bytes(p, lambda d: d.__setitem__(0, d[0] ^ 1)),
                "middle bit": lambda p: edit_bytes(
                    p, lambda d: d.__setitem__(len(d) // 2, d[len(d) // 2] ^ 16)
                ),
                "last bit": lambda p: edit_bytes(p, lambda d: d.__setitem__(-1, d[-1] ^ 128)),
                "missing": lambda p: p.unlink(),
                "a folder": lambda p: (p.unlink(), p.mkdir()),
                "a link": lambda p: (p.rename(p.with_name(".kept")), p.symlink_to(".kept")),
                "a link out": lambda p, n=name: (p.unlink(), p.symlink_to(DEMO / n)),
                "a pipe": lambda p: (p.unlink(), os.mkfifo(p)),
            }
            for title, damage in damages.items():
                with self.subTest(file=name, damage=title):
                    bundle = copy_bundle("damaged")
                    damage(bundle / name)
                    self.check_refused(bundle, name)
                    count += 1
        self.assertGreaterEqual(count, 40)

    def test_what_the_folder_may_hold(self) -> None:
        cases: dict[str, Callable[[Path], object]] = {
            "extra.safetensors": lambda b: (b / "extra.safetensors").write_bytes(b""),
            "notes.txt": lambda b: (b / "notes.txt").write_text("hello"),
            "sub": lambda b: (b / "sub").mkdir(),
            "link": lambda b: (b / "link").symlink_to("/etc/passwd"),
        }
        for name, damage in cases.items():
            with self.subTest(name):
                bundle = copy_bundle("damaged")
                damage(bundle)
                self.check_refused(bundle, name)
        bundle = copy_bundle("damaged")
        (bundle / ".hidden").write_text("is nobody's business")
        self.assertEqual(harness.run("check", str(bundle), *INDEX).returncode, 0)
        self.check_refused(harness.SCRATCH / "no-such-folder", "manifest.json")

    def test_manifests_that_are_wrong(self) -> None:
        def put(*path: str, value: object) -> Callable[[dict], None]:
            def change(manifest: dict) -> None:
                for key in path[:-1]:
                    manifest = manifest[int(key) if key.isdigit() else key]
                manifest[path[-1]] = value

            return change

        name = files()[0]
        for title, change in {
            "format_version": put("format_version", value=2),
            "kind": put("kind", value="delta"),
            "model_version": put("model_version", value="a b"),
            "unknown key": put("surprise", value=1),
            "items.count": put("items", "count", value=11_999),
            "items.count 0": put("items", "count", value=0),
            "items.count huge": put("items", "count", value=2**62),
            "items.count text": put("items", "count", value="12000"),
            "users.count": put("users", "count", value=395),
            "attribute type": put("items", "attributes", "0", "type", value="text"),
            "attribute unknown": put("items", "attributes", "0", "name", value="nothing"),
            "metric": put("retrieval", "metric", value="hamming"),
            "dimension": put("retrieval", "dimension", value=31),
            "lists": put("retrieval", "index", "lists", value=0),
            "subquantizers": put("retrieval", "index", "subquantizers", value=5),
            "tower input": put("tower", "inputs", value=["no_such"]),
            "tower layers": put("tower", "layers", value=3),
            "activation": put("tower", "activation", value="swish9"),
            "sequence dimension": put("sequence", "dimension", value=48),
            "heads": put("sequence", "heads", value=3),
            "family": put("sequence", "family", value="lstm"),
            "normalizer": put("sequence", "normalizer", value=1),
            "max_events": put("sequence", "max_events", value=100_000),
            "window_block": put("sequence", "window_block", value=0),
            "ranker input": put("ranker", "inputs", value=["no_such"]),
            "cross_layers": put("ranker", "cross_layers", value=9),
            "deep": put("ranker", "deep", value=[64, 31]),
            "tasks": put("ranker", "tasks", value=[]),
            "value form": put("value", "form", value="median"),
            "value weights": put("value", "weights", value={"buy": 1}),
            "digest": put("files", name, "sha256", value="0" * 64),
            "digest short": put("files", name, "sha256", value="0" * 63),
            "bytes": put("files", name, "bytes", value=1),
            "file outside": put("files", "../manifest.json", value={"sha256": "0" * 64, "bytes": 1}),
            "file absolute": put("files", "/etc/passwd", value={"sha256": "0" * 64, "bytes": 1}),
            "tolerance": put("tolerances", value={"golden": -1}),
        }.items():
            with self.subTest(title):
                bundle = copy_bundle("damaged")
                edit_manifest(bundle, change)
                self.check_refused(bundle)
        text = (DEMO / "manifest.json").read_bytes()
        for title, data in {
            "empty": b"",
            "half": text[: len(text) // 2],
            "not UTF-8": b"\xff" + text,
            "an array": b"[]",
            "duplicate": b'{"format_version":1,' + text[1:],
            "trailing": text + b"x",
            "deep": b'{"info":' + b"[" * 100_000,
            "nothing": b"{}",
            "NUL": text + b"\0",
        }.items():
            with self.subTest(title):
                bundle = copy_bundle("damaged")
                (bundle / "manifest.json").write_bytes(data)
                self.check_refused(bundle, "manifest.json")
        bundle = copy_bundle("damaged")
        (bundle / "manifest.json").unlink()
        self.check_refused(bundle, "manifest.json")

    def test_tensors_that_are_wrong_though_their_digests_are_right(self) -> None:
        layer = "sequence.layers.0.output.weight"
        for tensor, title, change in [
            ("item.vector", "missing", lambda a: None),
            ("item.vector", "one row short", lambda a: a[:-1]),
            ("item.vector", "one column short", lambda a: a[:, :-1]),
            ("item.vector", "another type", lambda a: a.astype(np.int64)),
            ("item.popularity", "NaN", setting(7, to=np.nan)),
            ("item.popularity", "infinite", setting(0, to=np.inf)),
            ("item.popularity", "two dimensions", lambda a: a[:, None]),
            ("item_ids.offsets", "not from 0", setting(0, to=1)),
            ("item_ids.offsets", "falling", setting(5, to=0)),
            ("item_ids.offsets", "beyond the end", setting(-1, to=2**40)),
            ("item_ids.offsets", "2^63", setting(9, to=2**63)),
            ("item_ids.bytes", "not UTF-8", setting(3, to=0xFF)),
            ("item_ids.bytes", "two alike", lambda a: np.concatenate([a[:10], a[:10], a[20:]])),
            ("history.items", "no such row", setting(3, to=12_000)),
            ("history.offsets", "falling", setting(3, to=2**33)),
            ("history.actions", "no such action", setting(0, to=200)),
            ("history.timestamps", "NaN", setting(2, to=np.nan)),
            ("item.attr.year.values", "NaN", setting(2, to=np.nan)),
            ("item.attr.genres.values", "no such word", setting(2, to=10_000)),
            (layer, "transposed", lambda a: a.T[:, ::-1][:-1]),
            (layer, "missing", lambda a: None),
            (layer, "NaN", setting(0, 0, to=np.nan)),
            (layer, "infinite", setting(1, 1, to=np.inf)),
            ("ranker.head.weight", "one column more", lambda a: np.concatenate([a, a[:, :1]], 1)),
            ("ranker.head.bias", "missing", lambda a: None),
            ("tower.user.0.weight", "one column short", lambda a: a[:, :-1]),
        ]:
            with self.subTest(tensor=tensor, title=title):
                bundle = copy_bundle("damaged")
                edit_tensor(bundle, tensor, change)
                self.check_refused(bundle, tensor)
        with self.subTest("a tensor nobody knows"):
            bundle = copy_bundle("damaged")
            path = holder(bundle, "item.vector")
            save_file(load_file(path) | {"item.surprise": np.zeros(3, np.float32)}, path)
            sign(bundle)
            self.check_refused(bundle, "item.surprise")
        with self.subTest("one tensor in two files"):
            bundle = copy_bundle("damaged")
            first, second = sorted(bundle.glob("*.safetensors"))[:2]
            name = sorted(load_file(first))[0]
            save_file(load_file(second) | {name: load_file(first)[name]}, second)
            sign(bundle)
            self.check_refused(bundle, name)

    def test_safetensors_headers_that_are_wrong(self) -> None:
        name = next(n for n in files() if n.endswith(".safetensors"))
        data = (DEMO / name).read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
        first = next(key for key in header if key != "__metadata__")

        def with_header(text: bytes, size: int | None = None) -> bytes:
            text += b" " * (-len(text) % 8)
            return (len(text) if size is None else size).to_bytes(8, "little") + text + body

        def changed(**entry: object) -> bytes:
            return with_header(json.dumps(header | {first: header[first] | entry}).encode())

        good = json.dumps(header).encode()
        begin, end = header[first]["data_offsets"]
        for title, bad in {
            "length 0": with_header(good, 0),
            "length 2^64-1": with_header(good, 2**64 - 1),
            "length 2^63": with_header(good, 2**63),
            "length beyond the file": with_header(good, len(data)),
            "length 9 MB": with_header(good + b" " * 9_000_000),
            "8 bytes": data[:8],
            "7 bytes": data[:7],
            "not JSON": with_header(b"{" * 64),
            "an array": with_header(b"[]"),
            "duplicate names": with_header(good[:-1] + b"," + good[1:]),
            "dtype": changed(dtype="F12"),
            "shape negative": changed(shape=[-1]),
            "shape overflow": changed(shape=[2**32, 2**32, 2**32]),
            "shape text": changed(shape=["1"]),
            "shape too small": changed(shape=[1]),
            "offsets reversed": changed(data_offsets=[end, begin]),
            "offsets negative": changed(data_offsets=[-8, end]),
            "offsets beyond": changed(data_offsets=[begin, 2**62]),
            "offsets with a gap": changed(data_offsets=[begin + 8, end + 8]),
            "an extra key": changed(surprise=1),
            "no dtype": with_header(
                json.dumps(header | {first: {"shape": [1], "data_offsets": [0, 4]}}).encode()
            ),
        }.items():
            with self.subTest(title):
                bundle = copy_bundle("damaged")
                (bundle / name).write_bytes(bad)
                sign(bundle)
                self.check_refused(bundle, name)

    def test_goldens_that_disagree_are_named_by_stage(self) -> None:
        lines = (DEMO / "golden.jsonl").read_text().splitlines()
        golden = json.loads(lines[0])
        for stage in [
            s for s in golden["stages"] if s in ("tower.score", "sequence.score", "ranker.logits", "value")
        ]:
            with self.subTest(stage=stage):
                bundle = copy_bundle("damaged")
                other = json.loads(lines[0])
                values = other["stages"][stage]
                (values[0] if isinstance(values[0], list) else values)[0] += 0.01
                (bundle / "golden.jsonl").write_text("\n".join([json.dumps(other), *lines[1:5]]) + "\n")
                sign_exact(bundle)
                self.check_refused(bundle, stage)
                done = harness.run("serve", "--bundle", str(bundle), "--port", "0", *INDEX)
                self.assertEqual(done.returncode, 1)
                self.assertIn(stage, done.stderr)
        for title, text in {
            "not JSON": "{",
            "no request": '{"stages":{}}',
            "an unknown stage": json.dumps(golden | {"stages": {"magic": [1]}}),
            "no candidates": json.dumps({"request": {"now": 1}, "stages": {}}),
            "an unknown field": json.dumps(golden | {"more": 1}),
            "text for numbers": json.dumps(golden | {"stages": {"value": ["x"]}}),
            "too few": json.dumps(golden | {"stages": {"value": []}}),
        }.items():
            with self.subTest(title):
                bundle = copy_bundle("damaged")
                (bundle / "golden.jsonl").write_text(text + "\n")
                sign_exact(bundle)
                self.check_refused(bundle)

    def test_a_refused_bundle_does_not_serve(self) -> None:
        bundle = copy_bundle("damaged")
        edit_bytes(bundle / files()[0], lambda d: d.__setitem__(100, d[100] ^ 1))
        done = harness.run("serve", "--bundle", str(bundle), "--port", "0", *INDEX)
        self.assertEqual(done.returncode, 1)
        self.assertIn(files()[0], done.stderr)

    def test_a_damaged_index_is_made_again(self) -> None:
        self.assertEqual(harness.run("build", str(DEMO), *INDEX).returncode, 0)
        cache = harness.SCRATCH / "indexes-damaged"
        shutil.copytree(INDEX[1], cache)
        damaged = sorted(cache.glob("*.faiss"))[0]
        edit_bytes(damaged, lambda d: d.__setitem__(slice(40, 80), b"\xff" * 40))
        bad = damaged.read_bytes()
        done = harness.run("build", str(DEMO), "--index-cache", str(cache))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("damaged", done.stderr)
        self.assertNotEqual(damaged.read_bytes(), bad)

    def test_the_smallest_bundle_is_served(self) -> None:
        script = ROOT / "training/minimal_bundle.py"
        if not script.exists():
            self.skipTest("training/minimal_bundle.py is not there")
        bundle = harness.SCRATCH / "bundles" / "minimal"
        made = subprocess.run([sys.executable, str(script), str(bundle)], capture_output=True, text=True)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual(harness.run("check", str(bundle)).returncode, 0)
        daemon = self.start(bundle=bundle)
        answer = daemon.post({"n": 1})
        self.assertEqual(answer.status, 200)
        item = answer.json["items"][0]["item_id"]
        self.assertTrue(daemon.similar(item)["items"])
