"""Resize and Upsample of every opset in float64, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.graph.float64 import evaluate

U32 = 2.0**-24
SIZE = (5, 7)
TIMES = [(2, 2), (1.5, 1.7), (0.6, 0.5), (7 / 5, 9 / 7), (1.1, 0.9), (0.2, 1 / 7)]
NEW_SIZES = [(8, 9), (11, 1), (5, 14)]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
# A coordinate of 11 at most is rounded four times, and neighbours differ by twice the largest value; a cubic kernel
# has 16 taps of weight 1.3 at most. Weights that are divided by their sum have rounding errors in that sum, too.
N_ROUNDINGS = 4 * 11 * 2 * 16 * 2


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, *SIZE)).astype(np.float32)


def _model(opset: int, mode: str, *, times=None, sizes=None, roi=None, **attributes) -> onnx.ModelProto:
    inputs: dict[str, np.ndarray] = {}
    if opset >= 11:
        older = opset < 13  # absent inputs are empty tensors there
        inputs["roi"] = np.asarray([] if roi is None else roi, np.float32)
        inputs["scales"] = np.asarray([] if times is None else times, np.float32)
        if sizes is not None:
            inputs["sizes"] = np.asarray(sizes, np.int64)
        names = ["x", *(name if older or array.size else "" for name, array in inputs.items())]
    elif opset >= 9:
        inputs["scales"] = np.asarray(times, np.float32)
        names = ["x", "scales"]
    else:
        attributes["scales"] = [float(factor) for factor in times]
        names = ["x"]
    op_type = "Resize" if opset >= 10 else "Upsample"
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], mode=mode, **attributes)],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, *SIZE))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in inputs.items() if name in names],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _agrees(model: onnx.ModelProto, x: np.ndarray) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ours, theirs = evaluate(model, {"x": x})["y"], session.run(None, {"x": x})[0]
    assert ours.dtype == np.float64
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=N_ROUNDINGS * U32 * np.abs(x).max())


LARGER = [times for times in TIMES if min(times) >= 1]  # Upsample of ONNX Runtime makes nothing smaller


@pytest.mark.parametrize(
    ("opset", "times"), [(opset, times) for opset in (7, 9, 10) for times in (TIMES if opset == 10 else LARGER)]
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_before_coordinates_could_be_chosen(x, opset, mode, times):
    _agrees(_model(opset, mode, times=(1, 1, *times)), x)


@pytest.mark.parametrize("target", [*TIMES, *NEW_SIZES])
@pytest.mark.parametrize("how", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("opset", [11, 13, 18])
def test_modes_and_coordinates(x, opset, how, target):
    new = {"sizes": (2, 3, *target)} if target in NEW_SIZES else {"times": (1, 1, *target)}
    for rule in NEAREST:
        _agrees(_model(opset, "nearest", nearest_mode=rule, coordinate_transformation_mode=how, **new), x)
    _agrees(_model(opset, "linear", coordinate_transformation_mode=how, **new), x)
    for exclude in (0, 1):
        cubic = {"exclude_outside": exclude, "cubic_coeff_a": -0.5}
        _agrees(_model(opset, "cubic", coordinate_transformation_mode=how, **cubic, **new), x)


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_half_pixels_from_the_middle(x, mode, times):
    _agrees(_model(19, mode, times=(1, 1, *times), coordinate_transformation_mode="half_pixel_symmetric"), x)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_crop(x, mode):
    roi = (0, 0, 0.1, 0.15, 1, 1, 0.8, 1.3)
    how = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 3.0}
    _agrees(_model(13, mode, sizes=(2, 3, 8, 9), roi=roi, **how), x)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_axes_and_aspect_ratios(x, mode, policy):
    _agrees(_model(18, mode, sizes=(12, 8), axes=[2, 3], keep_aspect_ratio_policy=policy), x)
    _agrees(_model(18, mode, times=(1.7, 1.5), axes=[-1, 2]), x)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("sizes", [(3, 2), (8, 9)])
def test_antialiased(x, mode, sizes):
    _agrees(_model(18, mode, sizes=(2, 3, *sizes), antialias=1), x)
    _agrees(_model(18, mode, sizes=(2, 3, *sizes), antialias=1, exclude_outside=1), x)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("sizes", [(3, 2), (8, 9), (5, 13)])
def test_antialiased_is_what_pytorch_computes_in_float64(mode, sizes):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(4).normal(size=(2, 3, 6, 7))
    model = _model(18, mode, sizes=sizes, axes=[2, 3], antialias=1, cubic_coeff_a=-0.5, exclude_outside=1)
    (found,) = evaluate(model, {"x": x}).values()
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), size=sizes, mode={"linear": "bilinear", "cubic": "bicubic"}[mode], antialias=True
    ).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
