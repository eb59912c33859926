"""Bundles with random weights that use every choice of the format, against the trainer's double-precision oracle; and the
trainer's own tests that need no training."""

import subprocess
import sys
import tempfile
from pathlib import Path

import harness

TRAINING = harness.ROOT / "training"


class Conformance(harness.Case):
    def test_every_choice_of_the_format_agrees_with_the_oracle(self) -> None:
        sys.path.insert(0, str(TRAINING))
        from recserver_train.conformance import write_all

        with tempfile.TemporaryDirectory() as folder:
            write_all(Path(folder))
            bundles = sorted(p for p in Path(folder).iterdir() if p.is_dir())
            self.assertGreaterEqual(len(bundles), 7)
            for bundle in bundles:
                with self.subTest(bundle.name):
                    done = harness.run("check", str(bundle))
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    self.assertIn("40 goldens", done.stdout)

    def test_imported_weights_the_evaluation_script_and_the_join_of_feedback(self) -> None:
        for module in ["tests.test_import_torch", "tests.test_evaluate_http", "tests.test_feedback"]:
            with self.subTest(module):
                done = subprocess.run(
                    [sys.executable, "-m", "unittest", module], cwd=TRAINING, capture_output=True, text=True
                )
                self.assertEqual(done.returncode, 0, done.stderr)
