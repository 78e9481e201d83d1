"""Graphs of one node, evaluated in float64 and by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from bnfold.graph.float64 import evaluate

U32 = 2.0**-24


def one_node(op_type: str, inputs, *, opset: int = 17, domain: str = "", n_outputs: int = 1, types=None, **attributes):
    """One node of x and of initializers (None: an input that is absent); outputs y0, y1, ..., float32 or of `types`."""
    names = ["" if value is None else "x" if i == 0 else f"input{i}" for i, value in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(n_outputs)]
    kinds = types or [onnx.TensorProto.FLOAT] * n_outputs
    x_type = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    graph = helper.make_graph(
        [helper.make_node(op_type, names, outputs, domain=domain, **attributes)],
        "one_node",
        [helper.make_tensor_value_info("x", x_type, inputs[0].shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(outputs, kinds, strict=True)],
        [numpy_helper.from_array(v, n) for v, n in list(zip(inputs, names, strict=True))[1:] if v is not None],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def in_runtime(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """ONNX Runtime's outputs, graph optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def both(model: onnx.ModelProto, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Our evaluation and ONNX Runtime's, output by output, of one shape."""
    ours, theirs = evaluate(model, {"x": x}), in_runtime(model, x)
    pairs = [(ours[output.name], value) for output, value in zip(model.graph.output, theirs, strict=True)]
    for our, their in pairs:
        assert our.shape == their.shape
    return pairs


def assert_close(model: onnx.ModelProto, x: np.ndarray, n_roundings: int) -> None:
    """ONNX Runtime's float32 lies no further off than so many roundings of the largest value."""
    for our, their in both(model, x):
        assert our.dtype == np.float64
        np.testing.assert_allclose(our, their, rtol=0, atol=n_roundings * U32 * max(np.abs(our).max(), 1.0))
