"""The bundle's networks as ONNX graphs: `prefill` (history to keys and values) and `score` (candidates to values)."""

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
EPSILON = 1e-6
# Four blocks save three eighths of the causal attention; more cost as much in calls.
CAUSAL_BLOCKS = 4


class Graph:
    """Nodes and constants of one graph under construction."""

    def __init__(self):
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, value, dtype=np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes):
        names = [f"t{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def norm(self, x: str, width: int, weight=None, bias=None) -> str:
        weight = self.constant(np.ones(width) if weight is None else weight)
        bias = self.constant(np.zeros(width) if bias is None else bias)
        return self("LayerNormalization", x, weight, bias, axis=-1, epsilon=EPSILON)

    def silu(self, x: str) -> str:
        # QuickGelu(x) = x · sigmoid(alpha · x): one fused pass.
        return self("QuickGelu", x, domain="com.microsoft", alpha=1.0)

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        y = self("MatMul", x, self.constant(weight.T))
        return y if bias is None else self("Add", y, self.constant(bias))

    def shape(self, x: str, *extents: int) -> str:
        return self("Reshape", x, self.constant(extents, np.int64))

    def session(self, inputs, outputs, threads: int = 1) -> onnxruntime.InferenceSession:
        """Inputs and outputs are (name, shape); a name of `outputs` maps to a value of the graph."""
        for name, value, _ in outputs:
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self.nodes, "peer", [helper.make_tensor_value_info(n, FLOAT, s) for n, s in inputs],
            [helper.make_tensor_value_info(n, FLOAT, s) for n, _, s in outputs], self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
        model.ir_version = 8
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = True
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
        onnx.checker.check_model(model)
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class Sequence:
    """Shapes and weights of the HSTU."""

    def __init__(self, bundle):
        m = bundle.manifest["sequence"]
        assert m["family"] == "hstu" and m["target"] and m["position_bias"] and m["time_bias"]
        assert m["qk_dimension"] == m["value_dimension"]
        self.width, self.heads, self.depth = m["dimension"], m["heads"], m["qk_dimension"]
        self.inner = self.heads * self.depth
        self.layers, self.events, self.normalizer = m["layers"], m["max_events"], m["normalizer"]
        self.block = m["window_block"]
        self.weights = [
            {n: bundle.table(f"sequence.layers.{layer}.{n}")
             for n in ("uvqk.weight", "output.weight", "output.bias", "position_bias", "time_bias")}
            for layer in range(self.layers)]
        self.time_bias = np.stack([w["time_bias"] for w in self.weights])  # [L, 129]
        self.position_bias = np.stack([w["position_bias"] for w in self.weights])  # [L, 2n − 1]

    def heads_first(self, g: Graph, x: str, transposed: bool = False) -> str:
        x = g.shape(x, -1, self.heads, self.depth)
        return g("Transpose", x, perm=[1, 2, 0] if transposed else [1, 0, 2])

    def projections(self, g: Graph, x: str, weights: dict) -> list[str]:
        normed = g.norm(x, self.width)
        uvqk = g.silu(g.linear(normed, weights["uvqk.weight"]))
        return g("Split", uvqk, g.constant([self.inner] * 4, np.int64), outputs=4, axis=-1)

    def finish(self, g: Graph, x: str, u: str, attended: str, weights: dict) -> str:
        gated = g("Mul", u, g.norm(attended, self.inner))
        return g("Add", g.linear(gated, weights["output.weight"], weights["output.bias"]), x)


def prefill_session(s: Sequence):
    """x [n, D], bias [L, n, n] (times, positions and the causal mask) to keys [h, d, n] and values [h, n, d].

    Values carry the factor 1/n. The last layer's own output is not needed for candidates, so it is not computed.
    """
    g = Graph()
    x = "x"
    biases = g("Split", "bias", g.constant([1] * s.layers, np.int64), outputs=s.layers, axis=0)
    scale = g.constant(1 / s.normalizer)
    outputs = []
    for layer, weights in enumerate(s.weights):
        is_last = layer == s.layers - 1
        if is_last:
            rows = np.split(weights["uvqk.weight"], 4)
            vk = g.silu(g.linear(g.norm(x, s.width), np.concatenate([rows[1], rows[3]])))
            v, k = g("Split", vk, g.constant([s.inner] * 2, np.int64), outputs=2, axis=-1)
        else:
            u, v, q, k = s.projections(g, x, weights)
        keys = s.heads_first(g, k, transposed=True)
        values = s.heads_first(g, g("Mul", v, scale))
        outputs += [(f"k{layer}", keys, [s.heads, s.depth, "n"]), (f"v{layer}", values, [s.heads, "n", s.depth])]
        if not is_last:
            attended = causal(g, s.heads_first(g, q), keys, values, biases[layer], s.events)
            attended = g("Transpose", attended, perm=[1, 0, 2])
            x = s.finish(g, x, u, g.shape(attended, -1, s.inner), weights)
    return g.session([("x", ["n", s.width]), ("bias", [s.layers, "n", "n"])], outputs)


def causal(g: Graph, queries: str, keys: str, values: str, bias: str, events: int) -> str:
    """Attention of a history to itself in blocks of rows, each to no later column than its last: [h, n, d]."""
    parts = []
    step = -(-events // CAUSAL_BLOCKS)
    for first in range(0, events, step):
        rows, columns = [g.constant([x], np.int64) for x in (first, first + step)]
        zero, one, two = (g.constant([x], np.int64) for x in (0, 1, 2))
        q = g("Slice", queries, rows, columns, one)
        k = g("Slice", keys, zero, columns, two)
        v = g("Slice", values, zero, columns, one)
        b = g("Slice", g("Slice", bias, rows, columns, one), zero, columns, two)
        parts.append(g("MatMul", g.silu(g("Add", g("MatMul", q, k), b)), v))
    return g("Concat", *parts, axis=1)


def score_session(s: Sequence, bundle):
    """Candidates' rows, a history's keys and values, and features to the value of each candidate.

    The request's columns of the first cross layer are multiplied once, not once a candidate.
    """
    g = Graph()
    x = g("Add", "rows", "base")
    inputs = [("rows", ["m", s.width]), ("base", [1, s.width]), ("bias", [s.layers, 1, "n"]),
              ("own", [s.layers, 1, 1])]
    scale = g.constant(1 / s.normalizer)
    biases = g("Split", "bias", g.constant([1] * s.layers, np.int64), outputs=s.layers, axis=0)
    owns = g("Split", "own", g.constant([1] * s.layers, np.int64), outputs=s.layers, axis=0)
    for layer, weights in enumerate(s.weights):
        inputs += [(f"k{layer}", [s.heads, s.depth, "n"]), (f"v{layer}", [s.heads, "n", s.depth])]
        u, v, q, k = s.projections(g, x, weights)
        scores = g("Add", g("MatMul", s.heads_first(g, q), f"k{layer}"), biases[layer])
        attended = g("MatMul", g.silu(scores), f"v{layer}")
        attended = g("Transpose", attended, perm=[1, 0, 2])  # [m, h, d]
        self_score = g("ReduceSum", g.shape(g("Mul", q, k), -1, s.heads, s.depth), g.constant([-1], np.int64),
                       keepdims=1)
        weight = g("Mul", g.silu(g("Add", self_score, owns[layer])), scale)
        attended = g("Add", attended, g("Mul", weight, g.shape(v, -1, s.heads, s.depth)))
        x = s.finish(g, x, u, g.shape(attended, -1, s.inner), weights)
    vector = g.norm(x, s.width, bundle.table("sequence.target.norm.weight"), bundle.table("sequence.target.norm.bias"))
    score = g.linear(vector, bundle.table("sequence.target.weight"), bundle.table("sequence.target.bias"))
    value, probabilities = ranker(g, bundle, "user", ["items", score, vector])
    items = bundle.table("ranker.cross.0.weight").shape[0] - user_width(bundle) - 1 - s.width
    inputs += [("user", [1, user_width(bundle)]), ("items", ["m", items])]
    return g.session(inputs, [("value", value, ["m"]), ("probabilities", probabilities, ["m", "tasks"])])


def user_width(bundle) -> int:
    d = bundle.manifest["retrieval"]["dimension"]
    return 2 * d + sum(bundle.feature(n)["dimension"] for n in ("age", "country", "device", "hour"))


def ranker(g: Graph, bundle, user: str, parts: list[str]):
    """DCN-V2 on [user; parts], and the value model."""
    m = bundle.manifest["ranker"]
    assert m["structure"] == "stacked" and m["cross_rank"] == 0 and m["activation"] == "relu"
    assert all(t["calibration"]["kind"] == "none" for t in m["tasks"])
    item = g("Concat", *parts, axis=-1)
    head = user_width(bundle)
    rows = g("Shape", item, start=0, end=1)
    wide = g("Expand", user, g("Concat", rows, g.constant([head], np.int64), axis=0))
    x0 = g("Concat", wide, item, axis=-1)
    x = x0
    for layer in range(m["cross_layers"]):
        weight, bias = (bundle.table(f"ranker.cross.{layer}.{n}") for n in ("weight", "bias"))
        if layer == 0:
            fixed = g.linear(user, weight[:, :head], bias)
            product = g("Add", g.linear(item, weight[:, head:]), fixed)
        else:
            product = g.linear(x, weight, bias)
        x = g("Add", g("Mul", x0, product), x)
    for layer in range(len(m["deep"])):
        x = g("Relu", g.linear(x, *(bundle.table(f"ranker.deep.{layer}.{n}") for n in ("weight", "bias"))))
    logits = g.linear(x, bundle.table("ranker.head.weight"), bundle.table("ranker.head.bias"))
    probabilities = g("Sigmoid", logits)
    value = bundle.manifest["value"]
    assert value["form"] == "linear"
    weights = np.array([[value["weights"].get(t["name"], 0)] for t in m["tasks"]])
    return g.shape(g("MatMul", probabilities, g.constant(weights)), -1), probabilities
