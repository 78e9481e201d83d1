"""Operators that ONNX Runtime computes in one kernel stay as it looks for them, and the layers around them fold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest

from bnfold.export import finish
from bnfold.folding import fold, fold_model

WIDTH = 8
ACTIVATIONS = {
    "Gelu": "s = Div(h, root2) e = Erf(s) p = Add(e, one) m = Mul(h, p) a = Mul(m, half)",
    "Gelu, halved first": "s = Div(h, root2) e = Erf(s) p = Add(e, one) g = Mul(h, half) a = Mul(g, p)",
    "FastGelu": """c = Pow(h, three) d = Mul(c, cubic) i = Add(h, d) s = Mul(i, tanhscale) e = Tanh(s) p = Add(one, e)
        g = Mul(half, h) a = Mul(g, p)""",
}
NORMS = {
    "LayerNormalization": """mu = ReduceMean <axes = [-1]> (a) x0 = Sub(a, mu) q = Pow(x0, two)
        v = ReduceMean <axes = [-1]> (q) w = Add(v, eps) r = Sqrt(w) n = Div(x0, r)
        ng = Mul(n, gamma) b = Add(ng, beta)""",
    "SimplifiedLayerNormalization": """q = Pow(a, two) v = ReduceMean <axes = [-1]> (q) w = Add(v, eps) r = Sqrt(w)
        n = Div(a, r) b = Mul(n, gamma)""",
}
NUMBERS = {
    "root2": 2**0.5, "one": 1, "half": 0.5, "three": 3, "two": 2, "cubic": 0.044715, "tanhscale": (2 / np.pi) ** 0.5,
    "eps": 1e-5,
}  # fmt: skip


def network(activation: str, norm: str) -> onnx.ModelProto:
    """Gemm, BatchNormalization, activation, normalisation, Gemm, with random parameters."""
    text = f"""
        <ir_version: 8, opset_import: ["" : 14]>
        net (float[N, {WIDTH}] x) => (float[N, {WIDTH}] y) {{
            h0 = Gemm(x, w0, b0)  h = BatchNormalization(h0, gamma, beta, mean, var)
            {ACTIVATIONS[activation]}
            {NORMS[norm]}
            y = Gemm(b, w1, b1)
        }}"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    vectors = {name: rng.uniform(0.5, 1.5, WIDTH) for name in ("b0", "b1", "gamma", "beta", "mean", "var")}
    matrices = {name: rng.standard_normal((WIDTH, WIDTH)) for name in ("w0", "w1")}
    for name, array in {**NUMBERS, **vectors, **matrices}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array, np.float32), name))
    return model


def kernels(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_runtime_finds_its_kernels_after_the_fold(activation: str, norm: str, tmp_path: Path) -> None:
    source = network(activation, norm)
    before = kernels(source, tmp_path)
    assert before[activation.partition(",")[0]] == before[norm] == 1, "the source must be one that is fused"
    folded, ledger = fold(source)
    after = kernels(folded, tmp_path)
    assert (ledger.found, ledger.kept) == (1, 0)
    assert after["BatchNormalization"] == 0
    assert after == before - Counter({"BatchNormalization": 1})


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_function_stays(activation: str, norm: str) -> None:
    source = network(activation, norm)
    x = np.random.default_rng(1).standard_normal((5, WIDTH)).astype(np.float32)
    answers = [
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (source, fold(source)[0])
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-5)


def test_a_normalisation_over_channels_has_no_kernel_and_folds(tmp_path: Path) -> None:
    """ONNX Runtime fuses over last axes only: over axis 1 of an image scale and bias go into the next convolution."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 14]>
        net (float[N, 4, 6, 6] a) => (float[N, 4, 6, 6] y)
        <float two = {2}, float eps = {0.00001}, float[1, 4, 1, 1] gamma = {1, 2, 3, 4},
         float[1, 4, 1, 1] beta = {1, 2, 3, 4},
         float[4, 4, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> {
            mu = ReduceMean <axes = [1]> (a) x0 = Sub(a, mu) q = Pow(x0, two)
            v = ReduceMean <axes = [1]> (q) p = Add(v, eps) r = Sqrt(p)
            n = Div(x0, r) g = Mul(n, gamma) b = Add(g, beta) y = Conv(b, w)
        }"""
    )
    folded, _ = fold(model)
    assert Counter(node.op_type for node in folded.graph.node)["Mul"] == 0
    assert kernels(model, tmp_path)["LayerNormalization"] == 0


def test_the_simplifier_computes_no_parameters(tmp_path: Path) -> None:
    """In float32 it would round a second time; and the half in front of a convolution belongs to a Gelu."""
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 14]>
        net (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y)
        <float root2 = {1.41421356}, float one = {1}, float half = {0.5},
         float[4, 4, 1, 1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> {
            h = Conv(x, w) s = Div(h, root2) e = Erf(s) p = Add(e, one) m = Mul(h, p) a = Mul(m, half) y = Conv(a, w)
        }"""
    )
    read = ir.from_proto(model)
    fold_model(read)
    assert kernels(finish(read), tmp_path)["Gelu"] == kernels(model, tmp_path)["Gelu"] == 1
