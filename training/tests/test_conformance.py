"""Bundles with random weights are valid, and SASRec's JAX forward equals the oracle on all its variants."""

import json
import sys
import tempfile
import unittest
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from recserver_train.check import Checker  # noqa: E402
from recserver_train.conformance import write_all  # noqa: E402
from recserver_train.conformance_cases import CASES  # noqa: E402
from recserver_train.oracle import Oracle  # noqa: E402
from recserver_train.sasrec import SASRecConfig, init_sasrec, sasrec_rows  # noqa: E402


class Conformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.bundles = write_all(Path(cls.folder.name), goldens=12)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def test_every_case_is_valid(self) -> None:
        for bundle in self.bundles:
            self.assertEqual(Checker(bundle).run(), [], bundle.name)

    def test_sasrec_forward_equals_the_oracle(self) -> None:
        for bundle in (b for b in self.bundles if b.name.startswith("sasrec")):
            oracle, s = Oracle(bundle), CASES[bundle.name]["sequence"]
            config = SASRecConfig(
                s["dimension"],
                s["layers"],
                s["heads"],
                s["max_events"],
                s["window_block"],
                s["variant"],
                s["attend_pads"],
            )
            names = init_sasrec(config, jax.random.key(0), 1)
            params = {name: jnp.asarray(oracle.tensor("sequence." + name), jnp.float32) for name in names}
            events = np.random.default_rng(3).integers(0, 120, 7)
            padded = np.concatenate([np.zeros(config.max_events - 7, int), events])
            rows = sasrec_rows(params, config, jnp.asarray(padded)[None], jnp.asarray([7]))[0, -7:]
            expected = oracle.sasrec([(int(e), 0, 0.0) for e in events])
            np.testing.assert_allclose(rows, expected, rtol=2e-4, atol=2e-4, err_msg=bundle.name)

    def test_goldens_vary(self) -> None:
        lines = [json.loads(line) for line in (self.bundles[3] / "golden.jsonl").read_text().splitlines()]
        self.assertTrue(
            all({"history", "now", "candidates", "degrade"} <= set(line["request"]) for line in lines)
        )
        self.assertGreater(len({len(line["request"]["history"]) for line in lines}), 3)


if __name__ == "__main__":
    unittest.main()
