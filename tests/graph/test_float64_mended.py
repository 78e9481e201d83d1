"""Operators that ONNX's own evaluator has wrong, against ONNX Runtime and against their formulas."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from one_node import assert_close
from onnx import TensorProto, helper, numpy_helper

from bnfold.graph.float64 import evaluate

U32, U64 = 2.0**-24, 2.0**-53


def _model(op_type: str, x, others=(), *, opset: int, **attributes):
    """One node of x and of initializers; None is an input that is absent."""
    names = ["x", *("" if value is None else f"input{i}" for i, value in enumerate(others))]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], **attributes)],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, f"input{i}") for i, v in enumerate(others) if v is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _both(model: onnx.ModelProto, feed) -> tuple[np.ndarray, np.ndarray]:
    """The evaluation in float64, and ONNX Runtime's."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return evaluate(model, feed)["y"], session.run(None, feed)[0]


def _agrees(model: onnx.ModelProto, feed, n_roundings: int) -> np.ndarray:
    """Ours, which ONNX Runtime's float32 is no further from than so many roundings of the largest value."""
    ours, theirs = _both(model, feed)
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=n_roundings * U32 * np.abs(ours).max())
    return ours


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32) * np.float32(3)


AXES = (None, 0, 1, 2, 3)
AXES_SINCE_11 = (*AXES, -1, -2)


@pytest.mark.parametrize(
    ("opset", "axis"),
    [(7, axis) for axis in AXES] + [(opset, axis) for opset in (11, 12, 13, 18) for axis in AXES_SINCE_11],
)
@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_and_its_kin_of_every_opset(x, op_type, opset, axis):
    attributes = {} if axis is None else {"axis": axis}
    axis = (-1 if opset >= 13 else 1) if axis is None else axis
    axes = (axis,) if opset >= 13 else tuple(range(axis % 4, 4))
    # A sum rounds once for each term of a row, and the exponents, which are below 32, up to 32 units of the result.
    n_roundings = math.prod(x.shape[axis] for axis in axes) + 32
    got = _agrees(_model(op_type, x, opset=opset, **attributes), {"x": x}, n_roundings)
    wide = x.astype(np.float64)
    total = np.log(np.exp(wide).sum(axis=axes, keepdims=True))
    wanted = {
        "Softmax": np.exp(wide - total),
        "LogSoftmax": wide - total,
        "Hardmax": (wide == wide.max(axis=axes, keepdims=True)).astype(np.float64),
    }[op_type]
    np.testing.assert_allclose(got, wanted, rtol=0, atol=n_roundings * U64 * max(np.abs(wanted).max(), 1.0))


def test_the_logarithm_of_a_softmax_that_underflows_is_finite():
    x = np.array([[0.0, -2000.0]], np.float32)
    np.testing.assert_array_equal(_agrees(_model("LogSoftmax", x, opset=13), {"x": x}, 0), x)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("channels", [1, 3, 8])
def test_local_response_normalization(size, channels):
    x = np.random.default_rng(size).standard_normal((2, channels, 4, 5)).astype(np.float32)
    model = _model("LRN", x, opset=13, size=size, alpha=0.5, beta=0.75, bias=1.5)
    # A sum of five squares and what is added make 8 roundings at most, of which the power keeps 0.75; 4 for the power
    # itself and the quotient; two evaluations in float64 differ by twice that. ONNX Runtime takes odd sizes only.
    got = _agrees(model, {"x": x}, 10) if size % 2 else evaluate(model, {"x": x})["y"]
    wide = x.astype(np.float64)
    for c in range(channels):
        first, last = max(0, c - (size - 1) // 2), min(channels - 1, c - (-(size - 1) // 2))
        total = (wide[:, first : last + 1] ** 2).sum(axis=1)
        np.testing.assert_allclose(got[:, c], wide[:, c] / (1.5 + 0.5 / size * total) ** 0.75, rtol=20 * U64)


WIDTHS = [(0, 0, -1, -1, 0, 0, -1, -1), (0, 1, -1, 2, 0, 0, 1, -2), (1, 0, 2, 0, 0, 1, 1, 3)]


@pytest.mark.parametrize("pads", WIDTHS)
@pytest.mark.parametrize("opset", [9, 11, 13, 18, 21])
def test_constant_padding_that_adds_and_removes(x, pads, opset):
    if opset < 11:
        model = _model("Pad", x, opset=opset, pads=pads, value=0.5)
    else:
        model = _model("Pad", x, [np.array(pads, np.int64), np.float32(0.5)], opset=opset)
    got = _agrees(model, {"x": x}, 0)
    assert got.shape == tuple(n + b + e for n, b, e in zip(x.shape, pads[:4], pads[4:], strict=True))


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_padding_by_the_input(x, mode):
    pads = np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64)
    got = _agrees(_model("Pad", x, [pads], opset=18, mode=mode), {"x": x}, 0)
    np.testing.assert_array_equal(got, np.pad(x, [(0, 0), (0, 0), (1, 2), (2, 1)], mode=mode))


def test_padding_of_named_axes(x):
    others = [np.array([-1, 1, 2, 0], np.int64), np.float32(0), np.array([-1, 2], np.int64)]
    got = _agrees(_model("Pad", x, others, opset=18), {"x": x}, 0)
    np.testing.assert_array_equal(got, np.pad(x[..., 1:], [(0, 0), (0, 0), (1, 0), (0, 2)]))


@pytest.mark.parametrize(("opset", "mode"), [(16, "bilinear"), (16, "bicubic"), (16, "nearest"), (20, "linear")])
def test_the_modes_of_grid_sample(x, opset, mode):
    grid = np.random.default_rng(1).uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)
    model = _model("GridSample", x, [grid], opset=opset, mode=mode)
    # The coordinates are rounded too: by 4 u of 5 at most, where neighbours differ by 2 max|x| at most, times 16 taps.
    _agrees(model, {"x": x}, 4 * 5 * 2 * 16)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_global_pooling_by_a_norm(x, p):
    # Twenty powers, their sum and its root: a power of p counts p roundings, the root keeps 1 / p of them.
    _agrees(_model("GlobalLpPool", x, opset=13, p=p), {"x": x}, 20 + p)


@pytest.mark.parametrize("axis", [None, 1])
def test_stored_integers_are_numbers(axis):
    """(x - zero_point) scale, which needs no rounding."""
    x = np.arange(-6, 6, dtype=np.int8).reshape(2, 3, 2)
    scale, zero = np.array([0.25, 0.1, 3.0], np.float32), np.array([0, 1, -2], np.int8)
    if axis is None:
        scale, zero = scale[1], zero[1]
    node = helper.make_node(
        "DequantizeLinear", ["x", "scale", "zero"], ["y"], **({} if axis is None else {"axis": axis})
    )
    graph = helper.make_graph(
        [node],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.INT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
        [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")],
    )
    got = evaluate(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), {"x": x})["y"]
    wide, shape = scale.astype(np.float64), (-1, 1)
    wanted = (x - zero.reshape(shape).astype(np.float64)) * wide.reshape(shape)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, wanted)


def _loop(*, trips: int | None, condition: bool | None, stop_at: int = 5) -> onnx.ModelProto:
    """h <- 2 h while i < stop_at, and every h kept; y is the last h and z all of them."""
    number, flag, real = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Less", ["i", "last"], ["again"]),
            helper.make_node("Mul", ["h", "two"], ["next"]),
            helper.make_node("Identity", ["next"], ["kept"]),
        ],
        "body",
        [value("i", number, []), value("before", flag, []), value("h", real, [2, 3])],
        [value("again", flag, []), value("next", real, [2, 3]), value("kept", real, [2, 3])],
        [numpy_helper.from_array(np.float32(2), "two"), numpy_helper.from_array(np.int64(stop_at), "last")],
    )
    given = [
        ("m", None if trips is None else np.int64(trips)),
        ("c", None if condition is None else np.bool_(condition)),
    ]
    names = ["" if array is None else name for name, array in given]
    graph = helper.make_graph(
        [helper.make_node("Loop", [*names, "x"], ["last_h", "y"], body=body)],
        "loop",
        [value("x", real, [2, 3])],
        [value("y", real, None), value("last_h", real, None)],
        [numpy_helper.from_array(array, name) for name, array in given if array is not None],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("trips", "condition"), [(3, None), (3, True), (None, True), (None, None), (9, None)])
def test_a_loop_with_and_without_its_condition(trips, condition):
    x = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)
    model = _loop(trips=trips, condition=condition)
    got = _agrees(model, {"x": x}, 0)
    n_trips = 3 if trips == 3 else 6
    np.testing.assert_array_equal(got, np.stack([x.astype(np.float64) * 2.0**k for k in range(1, n_trips + 1)]))
    np.testing.assert_array_equal(evaluate(model, {"x": x})["last_h"], got[-1])


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4, 5)])
def test_batchnorm_of_every_position_by_itself(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    gamma, beta, mean, variance = np.random.default_rng(1).uniform(0.5, 2, (4, *shape[1:])).astype(np.float32)
    model = _model("BatchNormalization", x, [gamma, beta, mean, variance], opset=7, spatial=0)
    # Five operations, of which the difference may be 5 times as large as what it leaves.
    _agrees(model, {"x": x}, 5 + 5)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 4, 5)])
def test_global_pooling_over_any_number_of_axes(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    got = _agrees(_model("GlobalMaxPool", x, opset=13), {"x": x}, 0)
    assert got.shape == (2, 3, *(1,) * (len(shape) - 2))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_elements_of_fewer_lines_than_the_data_has(axis: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(4, 5)).astype(np.float32)
    index = random.integers(-4, 4, (2, 3))
    ours, theirs = _both(_model("GatherElements", x, [index], opset=13, axis=axis), {"x": x})
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("axes", [(0, 0), (1, -1), (-1, 1)])
def test_scan_goes_along_any_axis_and_backward(axes, backward):
    """h' = h + x_t, with an output per step that reads a value of the graph around the body."""
    read, written = axes
    body = onnx.parser.parse_graph(
        "body (float[3] h, float[3] x) => (float[3] k, float[3] z) { k = Add (h, x) z = Mul (k, w) }"
    )
    node = helper.make_node(
        "Scan", ["h0", "x"], ["h", "y"], body=body, num_scan_inputs=1, scan_input_axes=[read],
        scan_output_axes=[written], scan_input_directions=[int(backward)], scan_output_directions=[int(backward)],
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((5, 3) if read == 0 else (3, 5)).astype(np.float32)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("h", "y")]
    graph = helper.make_graph(
        [node], "scan", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)], values,
        [numpy_helper.from_array(np.arange(3, dtype=np.float32), name) for name in ("h0", "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert_close(model, x, 8)
