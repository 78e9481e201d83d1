"""Quantised operators against ONNX Runtime: the same integers wherever no quotient lies at a half.

Scales are powers of two, so that quotients are exact in float32, and ties are ties on both sides.
"""

from __future__ import annotations

import numpy as np
import pytest
from one_node import assert_close, both, one_node
from onnx import TensorProto

from bnfold.graph.float64 import evaluate

TYPES = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.int8): TensorProto.INT8}
CONTRIB = "com.microsoft"


def _f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(() if len(values) == 1 else -1)


def _integers(*shape: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(dtype)


def _same(model, x) -> None:
    for ours, theirs in both(model, x):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_halves_are_rounded_to_even_and_large_values_saturate(dtype, axis):
    x = np.array([[-1e30, -2.5, -1.5], [-0.5, 0.5, 1.5], [2.5, 3e9, 1e30], [0.25, 300.0, -300.0]], np.float32)
    scale = _f32(0.5) if axis is None else _f32(0.5, 1.0, 2.0)
    zero = np.asarray(np.full(scale.shape, 3), dtype)
    attributes = {} if axis is None else {"axis": axis}
    _same(one_node("QuantizeLinear", [x, scale, zero], types=[TYPES[np.dtype(dtype)]], **attributes), x)


def test_a_dynamic_scale_is_that_of_the_range_and_zero():
    x = np.array([[-64.0, 127.5, 0.5, 31.75], [191.0, 3.0, -1.0, 12.0]], np.float32)  # 255 wide: the scale is 1
    types = [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.UINT8]
    _same_dynamic = both(one_node("DynamicQuantizeLinear", [x], n_outputs=3, types=types), x)
    for ours, theirs in _same_dynamic:
        np.testing.assert_array_equal(ours, theirs)
    constant = np.zeros((2, 2), np.float32)
    got = evaluate(one_node("DynamicQuantizeLinear", [constant], n_outputs=3, types=types), {"x": constant})
    assert (got["y1"], got["y2"], got["y0"].max()) == (1.0, 0, 0)


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 2)])
def test_convolutions_of_integers(pads):
    x, w = _integers(2, 4, 6, 5), _integers(6, 2, 3, 3, seed=1)
    zeros = [np.asarray(7, np.uint8), np.asarray(120, np.uint8)]
    model = one_node("ConvInteger", [x, w, *zeros], types=[TensorProto.INT32], pads=pads, group=2)
    _same(model, x)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_quantised_convolution(per_channel):
    x, w = _integers(2, 3, 6, 5), _integers(4, 3, 3, 3, dtype=np.int8, seed=1)
    n = 4 if per_channel else 1
    w_scale, w_zero = _f32(*(2.0**-k for k in range(n))), np.zeros(n, np.int8).reshape(-1 if per_channel else ())
    bias = np.arange(-2000, 2000, 1000, dtype=np.int32)
    inputs = [x, _f32(0.5), np.uint8(3), w, w_scale, w_zero, _f32(64.0), np.uint8(9), bias]
    _same(one_node("QLinearConv", [np.asarray(v) for v in inputs], types=[TensorProto.UINT8], pads=(1, 1, 1, 1)), x)


def test_products_of_integers():
    a, b = _integers(2, 3, 5), _integers(5, 4, seed=1)
    inputs = [a, b, np.asarray(100, np.uint8), np.array([1, 2, 3, 250], np.uint8)]
    _same(one_node("MatMulInteger", inputs, types=[TensorProto.INT32]), a)
    inputs = [a, _f32(0.5), np.uint8(9), b, _f32(0.25), np.uint8(7), _f32(64.0), np.uint8(1)]
    _same(one_node("QLinearMatMul", [np.asarray(v) for v in inputs], types=[TensorProto.UINT8]), a)


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_quantised_operators_of_two_operands(op_type):
    a, b = _integers(2, 3, 4), _integers(3, 1, seed=1)
    inputs = [a, _f32(0.5), np.uint8(128), b, _f32(0.25), np.uint8(100), _f32(2.0 if op_type == "QLinearAdd" else 64.0)]
    model = one_node(op_type, [*map(np.asarray, inputs), np.asarray(90, np.uint8)], domain=CONTRIB, types=[2])
    _same(model, a)


@pytest.mark.parametrize("op_type", ["QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool"])
def test_quantised_operators_of_one_operand(op_type):
    x = _integers(1, 8, 4, 4)
    y_scale = 2.0**-8 if op_type == "QLinearSigmoid" else 0.25
    inputs = [x, _f32(2.0**-4), np.uint8(128), _f32(y_scale), np.uint8(0 if op_type == "QLinearSigmoid" else 64)]
    attributes = {"alpha": 0.25} if op_type == "QLinearLeakyRelu" else {}
    attributes = {"channels_last": 0} if op_type == "QLinearGlobalAveragePool" else attributes
    model = one_node(op_type, [np.asarray(v) for v in inputs], domain=CONTRIB, types=[2], **attributes)
    ((ours, theirs),) = both(model, x)
    # A quotient of a logistic function or a mean of 16 is rounded in float32, and may lie at a half: one step.
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= (op_type != "QLinearLeakyRelu")


def test_quantised_operands_are_joined():
    x, other = _integers(2, 3), _integers(2, 2, seed=1)
    node = one_node(
        "QLinearConcat",
        [x, _f32(1.0), np.asarray(3, np.uint8), other, _f32(0.25), np.asarray(100, np.uint8)],
        domain=CONTRIB, types=[2], axis=1,
    )  # fmt: skip
    for name, value in (("y_scale", _f32(0.5)), ("y_zero", np.asarray(50, np.uint8))):
        from onnx import numpy_helper

        node.graph.initializer.append(numpy_helper.from_array(value, name))
    operands = list(node.graph.node[0].input)
    node.graph.node[0].input[:] = ["y_scale", "y_zero", *operands]
    _same(node, x)


def test_a_product_with_a_dynamic_scale():
    a = np.random.default_rng(0).integers(-64, 192, (3, 6)).astype(np.float32)
    a[0, :2] = -64, 191  # the scale is 1
    b = _integers(6, 4, dtype=np.int8, seed=1)
    inputs = [a, b, _f32(0.5), None, np.arange(4, dtype=np.float32)]
    assert_close(one_node("DynamicQuantizeMatMul", inputs, domain=CONTRIB), a, 4)
    x = _integers(3, 6)
    inputs = [x, b, _f32(0.5), _f32(0.25), np.asarray(5, np.uint8), np.asarray(-3, np.int8)]
    assert_close(one_node("MatMulIntegerToFloat", inputs, domain=CONTRIB), x, 4)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_an_lstm_with_quantised_weights(direction):
    n = 2 if direction == "bidirectional" else 1
    generator = np.random.default_rng(0)
    x = generator.standard_normal((5, 2, 4)).astype(np.float32)
    w, r = _integers(n, 4, 24, dtype=np.int8), _integers(n, 6, 24, dtype=np.int8, seed=1)
    scales = [np.full(n, 2.0**-8, np.float32), np.zeros(n, np.int8)] * 2
    inputs = [x, w, r, generator.standard_normal((n, 48)).astype(np.float32), *[None] * 4, *scales]
    model = one_node("DynamicQuantizeLSTM", inputs, domain=CONTRIB, n_outputs=3, direction=direction, hidden_size=6)
    assert_close(model, x, 5 * 20)  # five steps of a sum of ten and three activations; no quotient here lies at a half
