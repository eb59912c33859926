"""The trainer's own forward pass against the oracle on a written bundle, and the rules both follow."""

import json
import sys
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import minimal_bundle  # noqa: E402
from recserver_train import bundle, data, dcn, hstu, losses, metrics, recipes, sequence_training, towers  # noqa: E402
from recserver_train.build import rounded, write_bundle  # noqa: E402
from recserver_train.check import Checker  # noqa: E402
from recserver_train.demo_catalogue import make_demo  # noqa: E402
from recserver_train.golden import history_before, moment  # noqa: E402
from recserver_train.oracle import Oracle  # noqa: E402
from recserver_train.ranker_training import assemble, standardise  # noqa: E402
from recserver_train.serving import RankerInputs, Stages, moments  # noqa: E402


class Calibration(unittest.TestCase):
    def test_platt_finds_the_map_also_where_whole_newton_steps_run_away(self) -> None:
        rng = np.random.default_rng(1)
        for a, b in [(0.7, -2.0), (1.5, 0.5), (0.2, -4.0)]:
            z = rng.normal(0, 3, 40_000)
            y = rng.random(len(z)) < 1 / (1 + np.exp(-(a * z + b)))
            np.testing.assert_allclose(dcn.fit_platt(z, y), (a, b), atol=0.15)
        z = np.concatenate([np.full(50, -400.0), rng.normal(-2, 1, 9950)])
        self.assertLess(np.abs(dcn.fit_platt(z, np.arange(len(z)) < 50)).max(), 1e3)


class Losses(unittest.TestCase):
    def setUp(self) -> None:
        rng = np.random.default_rng(3)
        self.queries = losses.unit(jnp.asarray(rng.normal(size=(5, 8))))
        self.items = losses.unit(jnp.asarray(rng.normal(size=(40, 8))))
        self.targets = jnp.asarray(rng.integers(0, 40, 5))
        self.counts = rng.integers(1, 50, 40).astype(np.float64)

    def test_full_softmax_is_cross_entropy(self) -> None:
        logits = self.queries @ self.items.T / 0.1
        expected = jax.nn.logsumexp(logits, -1) - logits[jnp.arange(5), self.targets]
        np.testing.assert_allclose(
            losses.full_softmax(self.queries, self.items, self.targets, 0.1), expected, rtol=1e-5
        )

    def sampled(self, queries: jnp.ndarray, negatives: np.ndarray) -> jnp.ndarray:
        return losses.corrected_logq(
            queries,
            self.items,
            self.targets,
            jnp.asarray(negatives),
            jnp.log(self.counts),
            float(np.log(self.counts.sum())),
            0.2,
        )

    def test_sampled_softmax_has_the_gradient_of_the_full_one(self) -> None:
        draws = np.random.default_rng(4).choice(40, 60_000, p=self.counts / self.counts.sum())
        full = jax.grad(lambda q: losses.full_softmax(q, self.items, self.targets, 0.2).sum())(self.queries)
        sampled = jax.grad(lambda q: self.sampled(q, draws).sum())(self.queries)
        np.testing.assert_allclose(sampled, full, atol=0.06)

    def test_accidental_hits_count_for_nothing(self) -> None:
        negatives = np.array([1, 2, 3])
        for row, target in enumerate(np.asarray(self.targets)):
            clean = negatives[negatives != target]
            padded = np.concatenate([clean, [target, target]])
            np.testing.assert_allclose(
                self.sampled(self.queries, padded)[row], self.sampled(self.queries, clean)[row], rtol=1e-5
            )

    def test_towers_train_with_either_loss(self) -> None:
        log = make_demo(3, films=400, viewers=20)
        for limit in (10, 10_000):
            config = towers.TowerConfig(
                [recipes.user_row(4), recipes.recent("recent", 8, 10)],
                dimension=8,
                hidden=8,
                batch=64,
                negatives=64,
                full_softmax_limit=limit,
            )
            config.widths = towers.feature_widths(config.inputs, {})
            params = towers.train_towers(
                log, data.split_by_time(log), config, np.zeros((400, 0), np.float32), 1, 0.05
            )
            self.assertTrue(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)))

    def test_sequence_model_trains_with_either_loss(self) -> None:
        log = make_demo(3, films=400, viewers=0)
        config = hstu.SequenceConfig(
            dimension=8,
            layers=1,
            heads=1,
            qk_dimension=4,
            value_dimension=4,
            max_events=16,
            actions=tuple(log.action_names),
            time_bias=True,
        )
        ends = np.minimum(log.offsets[:-1] + 12, log.offsets[1:])
        for limit in (10, 10_000):
            params = sequence_training.train_sequence(
                log, ends, config, np.zeros((400, 0), np.float32), 1, 1, batch=64, softmax_limit=limit
            )
            self.assertTrue(all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)))

    def test_unit_has_a_finite_gradient_at_zero(self) -> None:
        self.assertTrue(np.isfinite(jax.grad(lambda x: losses.unit(x).sum())(jnp.zeros((2, 3)))).all())


class Rules(unittest.TestCase):
    def test_window(self) -> None:
        config = hstu.SequenceConfig(max_events=10, window_block=4)
        starts = [int(hstu.window_start(total, config)) for total in range(40)]
        for total, start in enumerate(starts):
            self.assertEqual(start % 4, 0)
            self.assertLessEqual(total - start, 10)
            self.assertTrue(start == 0 or total - start > 10 - 4)
        self.assertEqual(starts[:15], [0] * 11 + [4] * 4)

    def test_splits_keep_the_future_away(self) -> None:
        log = make_demo(5, films=400, viewers=30)
        for split in (data.split_by_time(log), data.split_by_order(replace(log, times=None))):
            owner = log.owner()
            for events in (split.ranker_train, split.ranker_valid):
                self.assertTrue((events >= split.sequence_end[owner[events]]).all())
                self.assertFalse(set(events) & set(split.test))
            self.assertFalse(set(split.ranker_train) & set(split.ranker_valid))

    def test_metrics(self) -> None:
        self.assertEqual(metrics.auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0, 0, 1, 1])), 0.875)
        self.assertAlmostEqual(metrics.ndcg(np.array([0, 2, 10])), (1 + 0.5) / 3)
        with self.assertRaises(ValueError):
            metrics.auc(np.array([np.nan, 1]), np.array([0, 1]))

    def test_bytes_with_a_scale_are_close(self) -> None:
        table = np.random.default_rng(1).normal(size=(50, 16)).astype(np.float32) * 0.3
        table[3] = 0
        error = np.abs(bundle.stored(table, "I8") - table)
        self.assertTrue((error <= np.abs(table).max(1, keepdims=True) / 127 * 0.51 + 1e-6).all())

    def test_isotonic_points_ascend(self) -> None:
        rng = np.random.default_rng(2)
        p = rng.random(500)
        x, y = dcn.fit_isotonic(p, (rng.random(500) < p).astype(float))
        self.assertTrue(all(a < b for a, b in zip(x, x[1:])) and all(a < b for a, b in zip(y, y[1:])))


class Isolation(unittest.TestCase):
    def test_candidates_do_not_see_each_other(self) -> None:
        config = hstu.SequenceConfig(
            dimension=8, heads=2, qk_dimension=4, value_dimension=4, max_events=12, time_bias=True
        )
        params = hstu.init_sequence(config, jax.random.key(1), 30, 0)
        table = params["item"] * 20
        items = jnp.asarray(np.random.default_rng(1).integers(0, 30, (2, 6)))
        buckets = jnp.full((2, 6, 6), 5)
        _, kept = hstu.history_rows(params, config, table, items, items * 0, buckets)
        many = jnp.asarray([[[3, 7, 9, 3]], [[1, 2, 3, 4]]])
        lengths = jnp.asarray([[6], [4]])
        near = buckets[:, -1:]
        together = hstu.candidate_rows(params, config, table, kept, many, lengths, near)
        for i in range(4):
            alone = hstu.candidate_rows(params, config, table, kept, many[..., i : i + 1], lengths, near)
            np.testing.assert_allclose(together[..., i, :], alone[..., 0, :], rtol=1e-5, atol=1e-6)


class Written(unittest.TestCase):
    """A bundle with untrained weights: cheap, and every number is still checked."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = Path(cls.folder.name) / "bundle"
        log = make_demo(9, films=400, viewers=60)
        recipe = recipes.demo(log)
        recipe.goldens = 25
        recipe.sequence = replace(
            recipe.sequence, dimension=16, qk_dimension=8, value_dimension=8, max_events=24, window_block=8
        )
        attributes = data.attribute_matrix(log, recipe.attribute_groups, recipe.decade_of)
        key = jax.random.key(2)
        tower = recipe.tower
        tower.widths = towers.feature_widths(tower.inputs, {})
        trained = towers.init_towers(tower, key, log.exported_users, log.item_count, attributes.shape[1])
        vectors = bundle.stored(np.asarray(towers.item_vectors(trained, jnp.asarray(attributes))), "I8")
        trained = rounded({k: trained[k] for k in ("tables", "layers")}, "F16")
        sequence = hstu.init_sequence(recipe.sequence, key, log.item_count, attributes.shape[1])
        table = bundle.stored(np.asarray(hstu.item_table(sequence, jnp.asarray(attributes))) * 10, "I8")
        sequence = rounded({k: v for k, v in sequence.items() if k not in ("item", "attribute")}, "F16")
        popularity = np.log1p(data.item_counts(log, recipe.split)).astype(np.float32)
        cls.stages = Stages(
            log,
            tower,
            trained,
            vectors,
            recipe.sequence,
            {**sequence, "item": jnp.asarray(table)},
            popularity,
            recipe.retrieval,
        )
        cls.at = moments(log, recipe.split.test[np.array([0, 3, 50, 170, 410, 430])])
        cls.candidates = np.random.default_rng(4).integers(0, 400, (6, 5)).astype(np.int32)
        users = cls.stages.user_vectors(cls.at)
        history, state = cls.stages.sequence_state(cls.at)
        scores = cls.stages.sequence_scores(history, state, cls.candidates)
        config = replace(
            recipe.ranker,
            widths=towers.feature_widths(
                recipe.ranker.inputs,
                {
                    "tower.score": 1,
                    "sequence.dot": 1,
                    "sequence.score": 1,
                    "sequence.vector": 16,
                    "item.popularity": 1,
                },
            ),
        )
        encoded = RankerInputs(cls.stages, config.inputs).at(cls.at, cls.candidates, users, scores)
        encoded["candidates"] = cls.candidates
        config = standardise(config, encoded)
        ranker = dcn.init_ranker(config, key, log.exported_users, log.item_count)
        ranker["tables"] = {k: v for k, v in ranker["tables"].items() if k not in trained["tables"]}
        ranker = rounded(ranker, "F16")
        x0 = assemble(config, {**trained["tables"], **ranker["tables"]}, encoded)
        cls.expected = {
            "tower.user_vector": users,
            "sequence.dot": scores[0],
            "sequence.score": scores[1],
            "sequence.vector": scores[2],
            "ranker.features": np.asarray(x0),
            "ranker.logits": np.asarray(dcn.ranker_logits(ranker, config, x0)),
        }
        tasks = [
            {"name": "watch", "calibration": {"kind": "platt", "a": 1.2, "b": -0.1}},
            {"name": "like", "calibration": {"kind": "isotonic", "x": [0.2, 0.8], "y": [0.1, 0.9]}},
        ]
        write_bundle(
            log,
            recipe,
            cls.out,
            {
                "tower": trained,
                "vectors": vectors,
                "sequence": sequence,
                "table": table,
                "ranker": ranker,
                "config": config,
                "tasks": tasks,
                "popularity": popularity,
            },
            {},
        )
        cls.log = log

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def test_it_is_valid(self) -> None:
        self.assertEqual(Checker(self.out).run(), [])

    def test_training_forward_equals_the_oracle(self) -> None:
        oracle = Oracle(self.out)
        for i, (event, known) in enumerate(zip(self.at.events, self.at.known)):
            user = int(self.log.owner()[event])
            request = {
                "history": history_before(self.log, int(event), int(known)),
                "now": moment(self.log, int(event)),
                "candidates": [{"item_id": self.log.item_ids[c]} for c in self.candidates[i]],
                "user": {
                    a.name: a.values[user] for a in self.log.user_attributes if a.values[user] is not None
                },
                "context": {a.name: a.values[event] for a in self.log.context},
            }
            if user < self.log.exported_users:
                request["user_id"] = self.log.user_ids[user]
            actual = oracle.stages(request)
            for stage, values in self.expected.items():
                scale = np.sqrt((actual[stage] ** 2).mean())
                np.testing.assert_allclose(
                    values[i], actual[stage], rtol=1e-3, atol=2e-4 * scale + 1e-6, err_msg=stage
                )

    def test_histories_beyond_the_window_are_among_the_goldens(self) -> None:
        lengths = [
            len(json.loads(line)["request"]["history"])
            for line in (self.out / "golden.jsonl").read_text().splitlines()
        ]
        self.assertGreater(max(lengths), 24)

    def test_a_changed_byte_is_found(self) -> None:
        path = self.out / "model.safetensors"
        original = path.read_bytes()
        try:
            path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
            self.assertIn("model.safetensors: sha256", Checker(self.out).run())
        finally:
            path.write_bytes(original)


class Minimal(unittest.TestCase):
    def test_it_is_valid_and_short(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            minimal_bundle.main(Path(folder))
            self.assertEqual(Checker(Path(folder)).run(), [])
            stages = Oracle(Path(folder)).stages(
                {
                    "history": [{"item_id": "tide"}],
                    "now": 0,
                    "candidates": [{"item_id": "lighthouse"}, {"item_id": "moss"}],
                }
            )
            self.assertGreater(stages["tower.score"][0], stages["tower.score"][1])
        self.assertLessEqual(len((ROOT / "minimal_bundle.py").read_text().splitlines()), 80)


if __name__ == "__main__":
    unittest.main()
