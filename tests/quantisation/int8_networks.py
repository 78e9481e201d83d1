"""A small network with every kind of operator in integers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from bnfold.records import InputSpec

SPECS = (InputSpec("x", (None, 3, 13, 13), "float32"),)
TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 3, 13, 13] x) => (float[N, 5] y)
<float low = {0.0}, float high = {6.0}, int64[2] axes = {2, 3}> {
  [stem] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]> (x, stem_weight, stem_bias)
  [stem_act] b = Relu (a)
  [pool] p = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [1, 1]> (b)
  [wide] c = Conv <kernel_shape = [1, 1]> (p, wide_weight, wide_bias)
  [wide_act] d = Clip (c, low, high)
  [deep] e = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 16> (d, deep_weight, deep_bias)
  [deep_act] f = Clip (e, low, high)
  [narrow] g = Conv <kernel_shape = [1, 1]> (f, narrow_weight, narrow_bias)
  [add] h = Add (g, p)
  [add_act] i = Relu (h)
  [last] j = Conv <kernel_shape = [3, 3], group = 2> (i, last_weight)
  [cat] k = Concat <axis = 1> (j, j)
  [average] l = AveragePool <kernel_shape = [2, 2]> (k)
  [mean] m = ReduceMean <keepdims = 0> (l, axes)
  [fc] y = Gemm <transB = 1> (m, fc_weight, fc_bias)
}
"""
SHAPES = {
    "stem_weight": (8, 3, 3, 3), "stem_bias": (8,), "wide_weight": (16, 8, 1, 1), "wide_bias": (16,),
    "deep_weight": (16, 1, 3, 3), "deep_bias": (16,), "narrow_weight": (8, 16, 1, 1), "narrow_bias": (8,),
    "last_weight": (6, 4, 3, 3), "fc_weight": (5, 12), "fc_bias": (5,),
}  # fmt: skip


def with_parameters(text: str, shapes: dict[str, tuple[int, ...]], seed: int = 0) -> onnx.ModelProto:
    """The model of a text, with random parameters of a size that keeps the signal's."""
    rng = np.random.default_rng(seed)
    model = onnx.parser.parse_model(text)
    for name, shape in shapes.items():
        n = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        array = (rng.standard_normal(shape) / np.sqrt(max(n, 1)) * 1.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model)
    return model
