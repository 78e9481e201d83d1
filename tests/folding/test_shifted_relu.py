"""A BatchNorm goes behind its ReLU where unpadded linear operators alone read it, and only there."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest

from bnfold.folding.shifted_relu import move_behind_relu
from bnfold.graph.constants import round_constants
from bnfold.graph.float64 import evaluate
from bnfold.graph.reading import read_model

CONSTANTS = (
    "double[2] g = {2, 0.5}, double[2] n = {2, -0.5}, double[2] o = {2, 0}, double[2] b = {1, -1}, "
    "double[2] m = {3, 4}, double[2] v = {1, 4}, double[2,2,1,1] w = {1, 2, 3, 4}, double[2,2] q = {1, 2, 3, 4}"
)
IMAGE, ROWS = "double[2,2,3,3] x", "double[2,2] x"
BN = "t = BatchNormalization (x, g, b, m, v)"


def _model(inputs: str, body: str, outputs: str = "double[] y") -> onnx.ModelProto:
    stated = "double[2,2,3,3] t, double[2,2,3,3] r" if inputs.startswith(IMAGE) else "double[2,2] t, double[2,2] r"
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({inputs}) => ({outputs}) <{stated}, {CONSTANTS}> {{ {body} }}'
    return onnx.parser.parse_model(text)


def _moved(model: onnx.ModelProto) -> tuple[list[ir.Node], onnx.ModelProto]:
    """What went behind its ReLU, and the model then; the function is the same."""
    graph = read_model(model)
    batchnorms = [node for node in graph.graph if node.op_type == "BatchNormalization"]
    moved = move_behind_relu(batchnorms)
    round_constants(graph.graph)
    after = ir.to_proto(graph)
    rng = np.random.default_rng(0)
    shapes = {i.name: [d.dim_value or 2 for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    feed = {name: 4 * rng.standard_normal(shape) for name, shape in shapes.items()}
    for before, now in zip(evaluate(model, feed).values(), evaluate(after, feed).values(), strict=True):
        np.testing.assert_allclose(now, before, rtol=0, atol=1e-12 * np.abs(before).max())
    assert set(moved) <= set(batchnorms)
    return moved, after


@pytest.mark.parametrize(
    ("inputs", "body", "outputs"),
    [
        (IMAGE, f"{BN} r = Relu (t) y = Conv (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv <auto_pad=\"VALID\"> (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv <pads=[0,0,0,0]> (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv (r, w) z = Conv (r, w)", "double[] y, double[] z"),
        (ROWS, f"{BN} r = Relu (t) y = Gemm (r, q)", "double[] y"),
        (ROWS, f"{BN} r = Relu (t) y = Gemm <transB=1> (r, q)", "double[] y"),
    ],
)  # fmt: skip
def test_it_moves_in_front_of_unpadded_linear_operators(inputs, body, outputs):
    moved, after = _moved(_model(inputs, body, outputs))
    assert len(moved) == 1
    assert [node.op_type for node in after.graph.node][:2] == ["Max", "BatchNormalization"]
    assert "Relu" not in {node.op_type for node in after.graph.node}
    (floor,) = (tensor for tensor in after.graph.initializer if tensor.name.endswith("floor"))
    assert list(floor.dims) == ([2, 1, 1] if inputs == IMAGE else [2])


@pytest.mark.parametrize(
    ("inputs", "body", "outputs"),
    [
        (IMAGE, f"{BN.replace('g', 'n', 1)} r = Relu (t) y = Conv (r, w)", "double[] y"),
        (IMAGE, f"{BN.replace('g', 'o', 1)} r = Relu (t) y = Conv (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = LeakyRelu (t) y = Conv (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv (r, w) z = Abs (t)", "double[] y, double[] z"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv (r, w)", "double[] y, double[2,2,3,3] t"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv (r, w)", "double[] y, double[2,2,3,3] r"),
        (IMAGE, f"{BN} y = Relu (t)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv <pads=[1,0,0,0]> (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv <auto_pad=\"SAME_UPPER\"> (r, w)", "double[] y"),
        (IMAGE, f"{BN} r = Relu (t) y = Conv (r, w) z = Conv <pads=[1,0,0,0]> (r, w)", "double[] y, double[] z"),
        (IMAGE, f"{BN} r = Relu (t) y = GlobalAveragePool (r)", "double[] y"),
        (f"{IMAGE}, double[2,2,1,1] i", f"{BN} r = Relu (t) y = Conv (r, i)", "double[] y"),
        (ROWS, f"{BN} r = Relu (t) y = Gemm <transA=1> (r, q)", "double[] y"),
        (ROWS, f"{BN} r = Relu (t) y = MatMul (r, q)", "double[] y"),
        (ROWS, f"{BN} r = Relu (t) y = Gemm (q, q, r)", "double[] y"),
        (ROWS, f"{BN} r = Relu (t) z = Abs (t) y = Gemm (r, q) s = Add (y, z)", "double[] s"),
        (ROWS, f"{BN} r = Relu (t)", "double[2,2] x"),
    ],
)  # fmt: skip
def test_it_stays_in_front_of_all_others(inputs, body, outputs):
    moved, after = _moved(_model(inputs, body, outputs))
    assert moved == []
    assert "Max" not in {node.op_type for node in after.graph.node}


def test_it_stays_where_the_number_of_channels_is_unknown():
    model = _model(IMAGE, f"{BN} r = Relu (t) y = Conv (r, w)")
    for value in model.graph.value_info:
        value.type.tensor_type.shape.dim[1].dim_param = "C"
    assert _moved(model)[0] == []
