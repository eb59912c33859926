"""A delta over the demo bundle answers like the bundle it was made from."""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import harness
from harness import DEMO, ROOT, SCRATCH, copy_bundle
from test_bundles import INDEX, edit_bytes, edit_manifest, sign

sys.path.insert(0, str(ROOT / "training"))
from recserver_train.delta import FILE, write_delta  # noqa: E402

BODIES = [
    {"now": 1.7e9, "user_id": "v7", "n": 50},
    {"now": 1.7e9, "n": 30},
    {"now": 1.7e9, "n": 10, "fields": ["title", "year"], "explain": True, "context": {"daypart": "evening"}},
]


def changed(name: str) -> Path:
    """The demo bundle after a little training: some rows, a layer, a title, and no studios."""
    bundle = copy_bundle(name)
    for path in bundle.glob("*.safetensors"):
        tensors = load_file(path)
        for tensor in list(tensors):
            if tensor.startswith("item.attr.studio"):
                del tensors[tensor]
        if "ranker.head.bias" in tensors:
            tensors["ranker.head.bias"] += 0.25
        if "item.popularity" in tensors:
            tensors["item.popularity"][[5, 700, 11_999]] += 100
        save_file(tensors, path)

    def edit(manifest: dict) -> None:
        manifest.pop("placements")  # They name studios.
        manifest["model_version"] = name
        manifest["items"]["attributes"] = [a for a in manifest["items"]["attributes"] if a["name"] != "studio"]
        manifest["features"] = [
            f | ({"from": "context"} if f["name"] == "studio" else {}) for f in manifest["features"]
        ]

    edit_manifest(bundle, edit)
    (bundle / "golden.jsonl").unlink()
    edit_manifest(bundle, lambda manifest: manifest["files"].pop("golden.jsonl"))
    sign(bundle)
    return bundle


class Delta(harness.Case):
    def test_a_delta_answers_like_the_bundle_it_was_made_from(self) -> None:
        whole = changed("whole")
        folder = SCRATCH / "bundles" / "delta"
        sizes = write_delta(DEMO, whole, folder)
        self.assertLess(sum(sizes[k] for k in ("replaced", "patched", "appended")), sizes["whole"] / 100)
        answers = []
        for bundle in (whole, folder):
            daemon = self.start(*INDEX, "--base-bundles", str(DEMO), bundle=bundle)
            answers.append([daemon.post(body).json for body in BODIES])
            answers[-1].append(daemon.similar(answers[-1][0]["items"][0]["item_id"]))
            self.assertEqual(daemon.stop(), 0)
        for ours, theirs in zip(*answers):
            for key in ("recommendation_id", "request_id", "next_cursor"):
                ours.pop(key, None), theirs.pop(key, None)
        self.assertEqual(*answers)
        self.assertTrue(answers[0][0]["items"])

    def test_a_delta_without_its_base_is_refused(self) -> None:
        # Apart from the copies of the base that other cases make.
        folder = SCRATCH / "alone" / "delta"
        folder.parent.mkdir(exist_ok=True)
        write_delta(DEMO, changed("whole-2"), folder)
        for bases in ([], ["--base-bundles", str(folder)], ["--base-bundles", "/nowhere:" + str(folder.parent)]):
            done = harness.run("check", str(folder), *INDEX, *bases)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("manifest.json: /base_sha256", done.stderr)
        for title, damage in {
            "its own file": lambda b: edit_bytes(b / FILE, lambda d: d.__setitem__(-1, d[-1] ^ 1)),
            "its digests": lambda b: edit_manifest(b, lambda m: m["files"][FILE].update(bytes=1)),
            "its base": lambda b: edit_manifest(b, lambda m: m.update(base_sha256="0" * 64)),
            "removed": lambda b: edit_manifest(b, lambda m: m.update(removed=["nothing"])),
        }.items():
            with self.subTest(title):
                bundle = copy_bundle("delta-damaged", folder)
                damage(bundle)
                done = harness.run("check", str(bundle), *INDEX, "--base-bundles", str(DEMO))
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertTrue(FILE in done.stderr or "manifest.json: /" in done.stderr, done.stderr)
        base = copy_bundle("base-damaged")
        name = next(n for n in json.loads((base / "manifest.json").read_text())["files"] if "model" in n)
        edit_bytes(base / name, lambda d: d.__setitem__(-1, d[-1] ^ 1))
        done = harness.run("check", str(folder), *INDEX, "--base-bundles", str(base))
        self.assertEqual(done.returncode, 1)
        self.assertIn("base/" + name, done.stderr)
