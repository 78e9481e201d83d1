"""Operators of ONNX Runtime's own domain against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from one_node import assert_close, one_node
from onnx import helper

from bnfold.graph.float64 import evaluate

DOMAIN = "com.microsoft"


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X = _normal(2, 3, 8)


@pytest.mark.parametrize(
    ("op_type", "others", "attributes"),
    [
        ("Gelu", [], {}),
        ("BiasGelu", [_normal(8, seed=1)], {}),
        ("FastGelu", [_normal(8, seed=1)], {}),
        ("FastGelu", [], {}),
        ("QuickGelu", [], {"alpha": 1.5}),
        ("SkipLayerNormalization", [X[::-1], _normal(8, seed=1), _normal(8, seed=2), _normal(8, seed=3)],
         {"epsilon": 1e-3}),
        ("FusedMatMul", [_normal(2, 5, 8, seed=1)], {"alpha": 0.5, "transB": 1}),
        ("FusedMatMul", [_normal(2, 3, 5, seed=1)], {"transA": 1}),
    ],
)  # fmt: skip
def test_operators_of_a_transformer(op_type, others, attributes):
    model = one_node(op_type, [X, *(np.ascontiguousarray(v) for v in others)], domain=DOMAIN, **attributes)
    assert_close(model, X, 32)  # sums of 8, and activations


@pytest.mark.parametrize(
    ("activation", "parameters"),
    [("Relu", None), ("LeakyRelu", [0.1]), ("Clip", [-0.5, 0.75]), ("HardSigmoid", [0.2, 0.4]), ("Tanh", None)],
)
def test_a_convolution_with_its_activation(activation, parameters):
    x, w, b = _normal(2, 3, 6, 5), _normal(4, 3, 3, 3, seed=1), _normal(4, seed=2)
    attributes = {"activation": activation} | ({} if parameters is None else {"activation_params": parameters})
    model = one_node("FusedConv", [x, w, b, _normal(2, 4, 4, 3, seed=3)], domain=DOMAIN, **attributes)
    assert_close(model, x, 64)  # sums of 27


def test_a_gemm_with_its_activation():
    x = _normal(3, 8)
    inputs = [x, _normal(5, 8, seed=1), _normal(5, seed=2)]
    model = one_node("FusedGemm", inputs, domain=DOMAIN, transB=1, alpha=0.5, beta=2.0, activation="Relu")
    assert_close(model, x, 32)


@pytest.mark.parametrize(("op_type", "axis"), [("LayerNormalization", -1), ("LayerNormalization", 1),
                                               ("SimplifiedLayerNormalization", -1)])  # fmt: skip
def test_layer_normalization_below_its_opset(op_type, axis):
    shape = X.shape[axis:]
    inputs = [X, _normal(*shape, seed=1), *([_normal(*shape, seed=2)] if op_type == "LayerNormalization" else [])]
    assert_close(one_node(op_type, inputs, opset=13, axis=axis, epsilon=1e-3), X, 64)


def test_operators_of_trees_and_tables_are_the_evaluators_own() -> None:
    """Domain ai.onnx.ml: ONNX's evaluator has them, in float64 where their inputs are."""
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0, 2.0], scale=[0.5, 3.0])
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 2]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(
        helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets, ir_version=8
    )
    y = evaluate(model, {"x": np.array([[1, 2], [3, 4]], np.float32)})["y"]
    np.testing.assert_array_equal(y, [[0, 0], [1, 6]])
