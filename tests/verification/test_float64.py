"""The float64 evaluation of a graph against PyTorch in float64, operator by operator."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from bnfold.errors import InputRefused
from bnfold.graph.float64 import evaluate, to_float64

U64 = 2.0**-53


def _one_node(op_type: str, tensors: dict[str, np.ndarray], *, opset: int = 20, n_outputs: int = 1, **attributes):
    """A float32 graph of one node whose first input is x and whose others are initializers."""
    names = list(tensors)
    outputs = [f"y{i}" for i in range(n_outputs)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, outputs, **attributes)],
        "one_node",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, tensors["x"].shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in tensors.items() if name != "x"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(abs(hash(shape)) % 1000).standard_normal(shape).astype(np.float32)


def _agree(op_type: str, tensors: dict[str, np.ndarray], expected: torch.Tensor, *, opset: int = 20, **attributes):
    """Both are float64 sums of at most n terms: they agree to n u64 of the sum of magnitudes, here below n max|y|."""
    got = evaluate(_one_node(op_type, tensors, opset=opset, **attributes), {"x": tensors["x"]})["y0"]
    wanted = expected.numpy()
    assert got.dtype == np.float64
    assert got.shape == wanted.shape
    n_terms = sum(value.size for value in tensors.values())
    np.testing.assert_allclose(got, wanted, rtol=0, atol=n_terms * U64 * max(np.abs(wanted).max(), 1.0))


def _wide(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float64))


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("stride", "dilation", "padding"), [(1, 1, 0), (2, 1, 1), (1, 2, 2), (3, 2, 1)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_of_any_rank(rank, stride, dilation, padding, groups):
    x, w, b = _random(2, 4, *(9, 8, 7)[:rank]), _random(8, 4 // groups, *(3, 2, 3)[:rank]), _random(8)
    expected = getattr(functional, f"conv{rank}d")(_wide(x), _wide(w), _wide(b), stride, padding, dilation, groups)
    attributes = {"strides": [stride] * rank, "pads": [padding] * 2 * rank, "dilations": [dilation] * rank}
    _agree("Conv", {"x": x, "w": w, "b": b}, expected, group=groups, **attributes)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("placing", [(1, 1, 0, 0), (2, 1, 1, 1), (3, 2, 2, 1)])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution_of_any_rank(rank, placing, groups):
    stride, dilation, padding, extra = placing
    x, w, b = _random(2, 4, *(5, 4, 3)[:rank]), _random(4, 3, *(3, 2, 3)[:rank]), _random(3 * groups)
    function = getattr(functional, f"conv_transpose{rank}d")
    expected = function(_wide(x), _wide(w), _wide(b), stride, padding, extra, groups, dilation)
    attributes = {"strides": [stride] * rank, "pads": [padding] * 2 * rank, "dilations": [dilation] * rank}
    _agree(
        "ConvTranspose", {"x": x, "w": w, "b": b}, expected, group=groups, output_padding=[extra] * rank, **attributes
    )


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding_is_that_of_the_written_pads(mode):
    x, w = _random(1, 2, 7, 6), _random(3, 2, 2, 3)
    pads = {"SAME_UPPER": (0, 1, 0, 1), "SAME_LOWER": (0, 1, 0, 1), "VALID": (0, 0, 0, 0)}[mode]
    if mode == "SAME_UPPER":
        pads = (0, 0, 1, 1)  # 7 -> 4 at stride 2 wants 1 cell, 6 -> 3 wants 1: all of it at the end
    if mode == "SAME_LOWER":
        pads = (1, 1, 0, 0)
    written = _one_node("Conv", {"x": x, "w": w}, strides=[2, 2], pads=list(pads))
    automatic = _one_node("Conv", {"x": x, "w": w}, strides=[2, 2], auto_pad=mode)
    np.testing.assert_array_equal(evaluate(written, {"x": x})["y0"], evaluate(automatic, {"x": x})["y0"])


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 3, 1)])
def test_pooling(kernel, stride, padding, ceil_mode):
    x = _random(2, 3, 8, 9)
    attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}
    expected = functional.max_pool2d(_wide(x), kernel, stride, padding, ceil_mode=ceil_mode)
    _agree("MaxPool", {"x": x}, expected, ceil_mode=int(ceil_mode), **attributes)
    for counted in (False, True):
        expected = functional.avg_pool2d(
            _wide(x), kernel, stride, padding, ceil_mode=ceil_mode, count_include_pad=counted
        )
        attributes["count_include_pad"] = int(counted)
        _agree("AveragePool", {"x": x}, expected, ceil_mode=int(ceil_mode), **attributes)


def test_dilated_max_pooling_and_its_indices():
    x = _random(1, 2, 9, 9)
    expected, where = functional.max_pool2d(_wide(x), 3, 1, 1, 2, return_indices=True)
    attributes = {"kernel_shape": [3, 3], "dilations": [2, 2], "pads": [1] * 4}
    _agree("MaxPool", {"x": x}, expected, **attributes)
    got = evaluate(_one_node("MaxPool", {"x": x}, n_outputs=2, **attributes), {"x": x})
    np.testing.assert_array_equal(got["y1"] % 81, where.numpy())  # ONNX counts through the channels, PyTorch within one


@pytest.mark.parametrize("opset", [9, 13, 15, 20])
def test_batch_normalization_uses_running_statistics_and_the_stored_epsilon(opset):
    x, scale, bias, mean = _random(3, 5, 4, 4), _random(5), _random(6)[:5], _random(7)[:5]
    var = np.abs(_random(8)[:5]) * np.float32(1e-4)  # of epsilon's size, so that epsilon shows
    tensors = {"x": x, "scale": scale, "bias": bias, "mean": mean, "var": var}
    epsilon = float(np.float32(1e-3))
    expected = functional.batch_norm(_wide(x), _wide(mean), _wide(var), _wide(scale), _wide(bias), eps=epsilon)
    _agree("BatchNormalization", tensors, expected, opset=opset, epsilon=1e-3)


def test_group_normalization():
    x, scale, bias = _random(2, 6, 3, 3), _random(6), _random(7)[:6]
    expected = functional.group_norm(_wide(x), 3, _wide(scale), _wide(bias), eps=float(np.float32(1e-5)))
    _agree("GroupNormalization", {"x": x, "s": scale, "b": bias}, expected, opset=21, num_groups=3, epsilon=1e-5)


@pytest.mark.parametrize(
    ("op_type", "function"),
    [
        ("Erf", torch.erf),
        ("Gelu", functional.gelu),
        ("HardSwish", functional.hardswish),
        ("Mish", functional.mish),
        ("Sigmoid", torch.sigmoid),
        ("Softplus", functional.softplus),
    ],
)
def test_activations_keep_float64(op_type, function):
    x = _random(4, 25) * np.float32(3)
    _agree(op_type, {"x": x}, function(_wide(x)))


@pytest.mark.parametrize("opset", [17, 20])
def test_layer_normalization(opset):
    x, scale, bias = _random(4, 8), _random(8), _random(9)[:8]
    expected = functional.layer_norm(_wide(x), (8,), _wide(scale), _wide(bias), eps=float(np.float32(1e-5)))
    _agree("LayerNormalization", {"x": x, "s": scale, "b": bias}, expected, opset=opset, epsilon=1e-5)


@pytest.mark.parametrize(
    ("mode", "align"),
    [("nearest", None), ("bilinear", False), ("bilinear", True), ("bicubic", False)],
)
def test_resize(mode, align):
    x = _random(2, 3, 6, 5)
    expected = functional.interpolate(_wide(x), scale_factor=2.0, mode=mode, align_corners=align)
    coordinates = "asymmetric" if mode == "nearest" else "align_corners" if align else "pytorch_half_pixel"
    attributes = {"mode": {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}[mode]}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    tensors = {"x": x, "": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    model = _one_node("Resize", tensors, coordinate_transformation_mode=coordinates, cubic_coeff_a=-0.75, **attributes)
    del model.graph.initializer[0]
    got = evaluate(model, {"x": x})["y0"]
    # A pixel is a sum of at most 16 taps, fewer than x has elements, with weights below 1 apart from rounding.
    np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=x.size * U64 * np.abs(x).max())


def test_constants_casts_and_subgraphs_become_double():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 2] x, bool which) => (float[N, 2] y) {
            c = Constant <value_float = 0.1> ()
            zeros_shape = Shape (x)
            zeros = ConstantOfShape (zeros_shape)
            whole = Cast <to = 7> (x)
            back = Cast <to = 1> (whole)
            shifted = Add (back, c)
            moved = Add (shifted, zeros)
            y = If (which) <
                then_branch = t () => (float[N, 2] a) { half = Constant <value_float = 0.3> () a = Mul (moved, half) },
                else_branch = e () => (float[N, 2] b) { b = Identity (moved) }
            >
        }""")
    before = model.SerializeToString()
    x = np.array([[1.5, -2.5]], dtype=np.float32)
    got = evaluate(model, {"x": x, "which": np.array(True)})["y"]
    tenth, third = float(np.float32(0.1)), float(np.float32(0.3))
    np.testing.assert_array_equal(got, (np.trunc(x).astype(np.float64) + tenth) * third)
    assert model.SerializeToString() == before
    onnx.checker.check_model(to_float64(model), full_check=True)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = RandomNormalLike (x)", "random"),
        ("y = com.microsoft.Inverse (x)", "com.microsoft"),
        ("y, m, v = BatchNormalization <training_mode = 1> (x, x, x, x, x)", "training_mode"),
    ],
)
def test_what_has_no_float64_meaning_is_refused(body, reason):
    text = f'<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[2] x) => (float[2] y) {{ {body} }}'
    with pytest.raises(InputRefused, match=reason):
        to_float64(onnx.parser.parse_model(text))
