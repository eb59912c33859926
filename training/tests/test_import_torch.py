"""State dicts with the public names of each mapping become the tensors the format page names."""

import json
import sys
import unittest
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import import_torch  # noqa: E402


def mapping(name: str) -> dict:
    return json.loads((ROOT / "mappings" / f"{name}.json").read_text())


class ImportTorch(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = np.random.default_rng(1)

    def state(self, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
        return {name: self.rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}

    def test_hstu(self) -> None:
        d, h, n, layers = 6, 2, 21, 3
        shapes = {
            "_embedding_module._item_emb.weight": (31, d),
            "_input_features_preproc._pos_emb.weight": (n, d),
        }
        for l in range(layers):
            p = f"_hstu._attention_layers.{l}."
            shapes |= {
                p + "_uvqk": (d, 4 * h * 3),
                p + "_o.weight": (d, h * 3),
                p + "_o.bias": (d,),
                p + "_rel_attn_bias._ts_w": (129,),
                p + "_rel_attn_bias._pos_w": (2 * n - 1,),
            }
        state = self.state(**shapes) | {"_attn_mask": np.ones((n, n), bool)}
        tensors = import_torch.convert(mapping("hstu"), state)
        np.testing.assert_array_equal(
            tensors["sequence.item_embedding.weight"], state["_embedding_module._item_emb.weight"][1:]
        )
        np.testing.assert_array_equal(
            tensors["sequence.layers.2.uvqk.weight"], state["_hstu._attention_layers.2._uvqk"].T
        )
        part = import_torch.manifest(mapping("hstu"), tensors)["sequence"]
        self.assertEqual(
            (part["layers"], part["normalizer"], part["max_events"], part["time_bias"]), (3, n, n - 1, True)
        )

    def test_sasrec(self) -> None:
        d = 4
        shapes = {
            "item_emb.weight": (11, d),
            "pos_emb.weight": (9, d),
            "last_layernorm.weight": (d,),
            "last_layernorm.bias": (d,),
        }
        for l in range(2):
            shapes |= {
                f"attention_layernorms.{l}.weight": (d,),
                f"attention_layernorms.{l}.bias": (d,),
                f"attention_layers.{l}.in_proj_weight": (3 * d, d),
                f"attention_layers.{l}.in_proj_bias": (3 * d,),
                f"attention_layers.{l}.out_proj.weight": (d, d),
                f"attention_layers.{l}.out_proj.bias": (d,),
                f"forward_layernorms.{l}.weight": (d,),
                f"forward_layernorms.{l}.bias": (d,),
                f"forward_layers.{l}.conv1.weight": (d, d, 1),
                f"forward_layers.{l}.conv1.bias": (d,),
                f"forward_layers.{l}.conv2.weight": (d, d, 1),
                f"forward_layers.{l}.conv2.bias": (d,),
            }
        state = self.state(**shapes)
        tensors = import_torch.convert(mapping("sasrec"), state)
        self.assertEqual(tensors["sequence.item_embedding.weight"].shape, (10, d))
        np.testing.assert_array_equal(
            tensors["sequence.layers.1.ffn.1.weight"], state["forward_layers.1.conv2.weight"][:, :, 0]
        )
        self.assertEqual(import_torch.manifest(mapping("sasrec"), tensors)["sequence"]["max_events"], 8)

    def test_tower(self) -> None:
        state = self.state(
            **{"mlp.0.weight": (8, 5), "mlp.0.bias": (8,), "mlp.2.weight": (4, 8), "mlp.2.bias": (4,)}
        )
        tensors = import_torch.convert(mapping("mlp_tower"), state)
        np.testing.assert_array_equal(tensors["tower.user.1.weight"], state["mlp.2.weight"])
        self.assertEqual(import_torch.manifest(mapping("mlp_tower"), tensors)["tower"]["layers"], 2)

    def test_dcn_full_rank(self) -> None:
        state = self.state(
            **{
                "crossnet.kernels.0": (5, 5),
                "crossnet.bias.0": (5, 1),
                "crossnet.kernels.1": (5, 5),
                "crossnet.bias.1": (5, 1),
                "deep.0.weight": (3, 5),
                "deep.0.bias": (3,),
                "head.weight": (2, 3),
                "head.bias": (2,),
            }
        )
        tensors = import_torch.convert(mapping("dcn_v2"), state)
        self.assertEqual(tensors["ranker.cross.1.bias"].shape, (5,))
        part = import_torch.manifest(mapping("dcn_v2"), tensors)["ranker"]
        self.assertEqual((part["cross_layers"], part["cross_rank"], part["deep"]), (2, 0, [3]))

    def test_dcn_low_rank(self) -> None:
        p = "inter_arch.crossnet."
        state = self.state(
            **{
                p + "W_kernels.0": (6, 2),
                p + "V_kernels.0": (2, 6),
                p + "bias.0": (6, 1),
                "over_arch.model.0._mlp.0._linear.weight": (4, 6),
                "over_arch.model.0._mlp.0._linear.bias": (4,),
                "over_arch.model.1.weight": (1, 4),
                "over_arch.model.1.bias": (1,),
                "dense_arch.x": (1,),
            }
        )
        tensors = import_torch.convert(mapping("dcn_v2_low_rank"), state)
        np.testing.assert_array_equal(tensors["ranker.cross.0.u.weight"], state[p + "W_kernels.0"])
        self.assertEqual(
            import_torch.manifest(mapping("dcn_v2_low_rank"), tensors)["ranker"]["cross_rank"], 2
        )

    def test_dcn_linear(self) -> None:
        state = self.state(
            **{
                "crossnet.cross_layers.0.weight": (5, 5),
                "crossnet.cross_layers.0.bias": (5,),
                "parallel_dnn.mlp.0.weight": (4, 5),
                "parallel_dnn.mlp.0.bias": (4,),
                "parallel_dnn.mlp.3.weight": (3, 4),
                "parallel_dnn.mlp.3.bias": (3,),
                "fc.weight": (1, 8),
                "fc.bias": (1,),
            }
        )
        tensors = import_torch.convert(mapping("dcn_v2_linear"), state)
        np.testing.assert_array_equal(tensors["ranker.deep.1.weight"], state["parallel_dnn.mlp.3.weight"])

    def test_slices(self) -> None:
        rule = {
            "tensors": [
                {"source": "t", "target": "a", "slice": [2, 4]},
                {"source": "u", "target": "b", "reshape": [6]},
            ]
        }
        state = self.state(t=(5, 2), u=(2, 3))
        tensors = import_torch.convert(rule, state)
        np.testing.assert_array_equal(tensors["a"], state["t"][2:4])
        self.assertEqual(tensors["b"].shape, (6,))

    def test_what_does_not_fit_is_refused(self) -> None:
        for state, words in (
            ({}, "no tensor"),
            ({"t": np.ones(2, np.float32), "x": np.ones(2, np.float32)}, "not mapped"),
            ({"t": np.array([np.nan], np.float32)}, "finite"),
            ({"t": np.ones(2, np.int64)}, "floating"),
        ):
            with self.assertRaisesRegex(import_torch.MappingError, words):
                import_torch.convert({"tensors": [{"source": "t", "target": "a"}]}, state)


if __name__ == "__main__":
    unittest.main()
