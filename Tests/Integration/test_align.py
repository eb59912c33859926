"""`recserver align` and `recserver check --against` on the demo bundle, turned as another training would."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import harness
from harness import DEMO, SCRATCH, copy_bundle
from test_bundles import INDEX, edit_manifest, holder, sign_exact


def turned(name: str, space: str) -> Path:
    """The demo bundle with item vectors turned and a little moved; goldens, which no longer fit, are gone."""
    bundle = copy_bundle(name)
    path = holder(bundle, "item.vector")
    tensors = load_file(path)
    vectors = tensors["item.vector"].astype(np.float32)
    if "item.vector.scale" in tensors:
        vectors *= tensors.pop("item.vector.scale").astype(np.float32)[:, None]
    rng = np.random.default_rng(3)
    rotation = np.linalg.qr(rng.normal(size=(vectors.shape[1],) * 2))[0]
    vectors = vectors @ rotation + rng.normal(size=vectors.shape) * np.abs(vectors).mean() / 5
    save_file(tensors | {"item.vector": np.ascontiguousarray(vectors.astype(np.float32))}, path)
    (bundle / "golden.jsonl").unlink()
    edit_manifest(bundle, lambda manifest: manifest["files"].pop("golden.jsonl"))
    edit_manifest(bundle, lambda manifest: manifest.update(space_version=space, model_version=name))
    sign_exact(bundle)
    return bundle


class Align(harness.Case):
    def test_a_turned_bundle_is_refused_aligned_and_then_accepted(self) -> None:
        space = json.loads((DEMO / "manifest.json").read_text())["space_version"]
        liar = turned("turned", space)
        done = harness.run("check", str(liar), "--against", str(DEMO), *INDEX)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/space_version: expected the space " + space, done.stderr)
        honest = turned("turned-named", "tonight")
        done = harness.run("check", str(honest), "--against", str(DEMO), *INDEX)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("other names", done.stdout)
        out = SCRATCH / "bundles" / "aligned"
        done = harness.run("align", "--reference", str(DEMO), "--bundle", str(honest), "--out", str(out))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"mean cosine after:  0\.9[0-9]* over 1000 shared items")
        done = harness.run("check", str(out), "--against", str(DEMO), *INDEX)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("the space is shared", done.stdout)
        manifest = json.loads((out / "manifest.json").read_text())
        self.assertEqual((manifest["space_version"], manifest["model_version"]), (space, "turned-named"))
        # The answers are those of the bundle before.
        answers = []
        for bundle in (honest, out):
            daemon = self.start(*INDEX, bundle=bundle)
            answers.append(
                daemon.post({"now": 1.7e9, "user_id": "v7", "n": 50, "deadline_ms": 10_000}).json["items"]
            )
        self.assertEqual(*([item["item_id"] for item in items] for items in answers))
        self.assert_close(*([item["score"] for item in items] for items in answers))
        # A second time the folder is taken.
        done = harness.run("align", "--reference", str(DEMO), "--bundle", str(honest), "--out", str(out))
        self.assertEqual(done.returncode, 1)
        self.assertIn("a folder without a bundle", done.stderr)

    def test_the_demo_bundle_on_itself_stays(self) -> None:
        out = SCRATCH / "bundles" / "aligned-self"
        done = harness.run("align", "--reference", str(DEMO), "--bundle", str(DEMO), "--out", str(out))
        self.assertEqual(done.returncode, 0, done.stderr)
        # The trainer's goldens hold for the written bundle.
        self.assertEqual(harness.run("check", str(out), *INDEX).returncode, 0)
