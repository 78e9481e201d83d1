"""Every refusal has a case, a node that meets it; the values around that node keep their units, with the reason.

A graph is one or more operators in ONNX's text form; the last one refuses. `float[] v` is a value of unknown rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from refusal_sites import noted, sites

from bnfold.folding.relate import relate_graph
from bnfold.folding.relations import RULES
from bnfold.folding.units import Refusal, Units
from bnfold.graph.attempts import Failure
from bnfold.graph.reading import read_model

X4, X3, X2 = "float[N,4,6,6] x", "float[N,4,6] x", "float[N,4] x"


@dataclass(frozen=True)
class Meets:
    """A graph `inputs => outputs {body}` whose last node refuses.

    `absent`: an input that it lacks though ONNX wants it.
    `whole`: it is the collection of relations that refuses, before it asks a rule.
    `fails`: what of the rule raises, "relate" now or "rewrite" in an earlier attempt.
    `kernel`: what the node is part of, as a runtime computes it.
    """

    site: str
    inputs: str
    body: str
    constants: str = ""
    outputs: str = "float[] y"
    opset: int = 20
    absent: int | None = None
    whole: bool = False
    fails: str | None = None
    kernel: str | None = None

    def graph(self) -> ir.Graph:
        held = f"<{self.constants}>" if self.constants else ""
        opsets = f'["": {self.opset}, "of.another": 1]'
        text = f"<ir_version: 10, opset_import: {opsets}> g ({self.inputs}) => ({self.outputs}) {held}"
        graph = read_model(onnx.parser.parse_model(f"{text} {{ {self.body} }}")).graph
        if self.absent is not None:
            graph[-1].replace_input_with(self.absent, None)
        return graph

    def relations(self, graph: ir.Graph, monkeypatch: pytest.MonkeyPatch) -> Units:
        """The relations of the graph, the rule of its last node having failed where it shall."""
        node = graph[-1]
        if self.fails == "relate":
            monkeypatch.setattr(RULES[node.op_type], "relate", lambda *_: [].pop())
        failed = {node: Failure("the rule", "IndexError")} if self.fails == "rewrite" else None
        return relate_graph(graph, failed, None if self.kernel is None else {node: self.kernel})


def _(site: str, *rest: str, **more) -> Meets:
    return Meets(site, *rest, **more)


AFFINE, LAYOUT, LINEAR, POOLING, POINTWISE, SEQUENCE, NORMS, MAXIMUM, REGISTRY, ATTENTION = (
    f"relations/{name}.py:"
    for name in (
        "affine", "layout", "linear", "pooling", "pointwise", "sequence", "norms", "maximum", "registry", "attention",
    )
)  # fmt: skip
BATCHNORM = "y = BatchNormalization{} (x, g, b, m, v)"
BN_CONSTANTS = "float[4] g = {1,1,1,1}, float[4] b = {1,1,1,1}, float[4] m = {1,1,1,1}, float[4] v = {1,1,1,1}"
BN_PARAMETERS = f"{AFFINE}batchnorm_parameters: "
TWICE = "float[4] k = {1,2,3,4}"

CASES = [
    _(f"{BN_PARAMETERS}it is in training mode", X4, BATCHNORM.format("<training_mode=1>"), BN_CONSTANTS),
    _(f"{BN_PARAMETERS}it normalises every position by itself (spatial=0)", X2, BATCHNORM.format("<spatial=0>"),
      BN_CONSTANTS, opset=7),
    _(f"{BN_PARAMETERS}its statistics are outputs", X4, "y, s, t = BatchNormalization (x, g, b, m, v)", BN_CONSTANTS,
      outputs="float[] y, float[] s"),
    _(f"{BN_PARAMETERS}its statistics are outputs", X4,
      "y, s, t = BatchNormalization (x, g, b, m, v) z = Relu (t) w = Relu (s)", BN_CONSTANTS),
    _(f"{BN_PARAMETERS}`{{}}` is an input, whose value a caller may replace: take it off the graph's inputs",
      f"{X4}, float[4] v = {{1,1,1,1}}", BATCHNORM.format(""), BN_CONSTANTS.replace(", float[4] v = {1,1,1,1}", "")),
    _(f"{BN_PARAMETERS}its parameters are not constants", f"{X4}, float[4] v", BATCHNORM.format(""),
      BN_CONSTANTS.replace(", float[4] v = {1,1,1,1}", "")),
    _(f"{BN_PARAMETERS}its parameters are not constants", f"{X4}, float[4] g",
      BATCHNORM.format(""), BN_CONSTANTS.replace("float[4] g = {1,1,1,1}, ", "")),
    _(f"{BN_PARAMETERS}its parameters are not one for each channel", X4, BATCHNORM.format(""),
      BN_CONSTANTS.replace("float[4] m = {1,1,1,1}", "float[1] m = {1}")),
    _(f"{BN_PARAMETERS}its parameters are not one for each channel", X4, BATCHNORM.format(""),
      BN_CONSTANTS.replace("float[4]", "float[2,2]")),
    _(f"{AFFINE}relate_batchnorm: its input has an unknown number of axes, or no axis of as many channels",
      "float[4] x", BATCHNORM.format(""), BN_CONSTANTS),
    _(f"{AFFINE}relate_batchnorm: its input has an unknown number of axes, or no axis of as many channels",
      X2, BATCHNORM.format(""), BN_CONSTANTS, absent=0),
    _(f"{AFFINE}relate_batchnorm: its input has another number of channels", "float[N,3,6] x", BATCHNORM.format(""),
      BN_CONSTANTS),
    _(f"{AFFINE}relate_add: its constant adds axes to the data", X2, "y = Add (x, k)", "float[1,1,4] k = {1,2,3,4}"),
    _(f"{AFFINE}relate_add: it subtracts the data from a constant", X2, "y = Sub (k, x)", TWICE),
    _(f"{AFFINE}relate_mul: it is not the data times a constant of its own rank", X2, "y = Mul (x, k)",
      "float[1,1,4] k = {1,2,3,4}"),
    _(f"{AFFINE}relate_mul: it is not the data times a constant of its own rank", X2, "y = Div (k, x)", TWICE),
    _(f"{AFFINE}relate_mul: it divides by 0", X2, "y = Div (x, k)", "float[4] k = {1,0,3,4}"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4] x, float[4,3] w",
      "y = MatMul (x, w)", outputs="float[N,3] y"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x, float[N,4,3] w",
      "s = Softmax (x) y = MatMul (s, w)", "float[N,4,4] s"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x, float[N,4,3] w",
      "s = Softmax <axis=1> (x) y = MatMul (s, w)", "float[N,4,4] s", outputs="float[N,4,3] y"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x, float[N,4,3] w",
      "s = Softmax (x) y = MatMul (s, w)", "float[N,4,4] s", outputs="float[N,4,3] y", opset=12),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x, float[N,4,3] w",
      "s = Sigmoid (x) y = MatMul (s, w)", "float[N,4,4] s", outputs="float[N,4,3] y"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[4] x, float[4,3] w",
      "s = Softmax (x) y = MatMul (s, w)", "float[4] s", outputs="float[3] y"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x",
      "s = Softmax <axis=2> (x) y = MatMul (k, s)", "float[N,4,4] s, float[4,4] k = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}",
      outputs="float[N,4,4] y"),
    _(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x",
      "s = Softmax <axis=1> (x) y = MatMul (k, s)", "float[N,4,4] s, float[4,4] k = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}",
      outputs="float[N,4,4] y"),
    *(_(f"{ATTENTION}relate_weighted_mean: its weight is not a constant", "float[N,4,4] x, float[N,4,3] w",
        f"{body} y = MatMul (s, w)", f"float[N,4,4] s, {held}", outputs="float[N,4,3] y")
      for body, held in [
          ("s = of.another.Softmax (x)", "float[1] k = {1}"),
          ("p = Softmax (x) i = Cast <to=7> (p) s = Cast <to=1> (i)", "float[N,4,4] p, int64[N,4,4] i"),
          ("p = Softmax (x) s = Dropout (p, r, t)", "float[N,4,4] p, float r = {0.5}, bool t = {1}"),
          ("p = Softmax (x) s = Transpose <perm=[0,2,1]> (p)", "float[N,4,4] p"),
          ("p = Softmax <axis=1> (x) s = Transpose <perm=[1,0,2]> (p)", "float[4,N,4] s, float[N,4,4] p"),
          ("p = Softmax (x) s = Mul (p, k)", "float[N,4,4] p, float[1] k = {2}"),
      ]),
    _(f"{LAYOUT}relate_identity: this Dropout is in training mode", X2, "y = Dropout (x, r, t)",
      "float r = {0.5}, bool t = {1}"),
    _(f"{LAYOUT}relate_identity: this Dropout is in training mode", f"{X2}, bool t", "y = Dropout (x, r, t)",
      "float r = {0.5}"),
    _(f"{LAYOUT}relate_cast: it casts between floats and other types", "int64[N,4] x", "y = Cast <to=1> (x)",
      outputs="float[N,4] y"),
    _(f"{LAYOUT}relate_cast: it casts between floats and other types", X2, "y = Cast <to=7> (x)",
      outputs="int64[N,4] y"),
    _(f"{LAYOUT}relate_cast: it casts between floats and other types", X2, "y = Cast <to=1> (x)", absent=0),
    _(f"{LAYOUT}relate_reshape: its shapes are unknown", X2, "y = Reshape (x, s)", "int64[1] s = {-1}"),
    _(f"{LAYOUT}relate_reshape: its shapes are unknown", X2, "y = Flatten (x)", outputs="float[N,4] y", absent=0),
    _(f"{LAYOUT}relate_reshape: its shapes are not known well enough to follow the channels",
      "float[4,5] x, int64[2] s",
      "z = MatMul (x, w) y = Reshape (z, s)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}",
      outputs="float[A,B] y"),
    _(f"{LAYOUT}relate_squeeze: the axes it removes are not constant", X3, "y = Squeeze (x)", outputs="float[4,6] y"),
    _(f"{LAYOUT}relate_squeeze: the axes it removes are not constant", "float[] x", "y = Squeeze (x)"),
    _(f"{LAYOUT}relate_squeeze: it removes an axis whose length is not 1", "float[4,5] x",
      "z = MatMul (x, w) y = Squeeze (z, a)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}, int64[1] a = {1}"),
    _(f"{LAYOUT}relate_squeeze: it removes an axis whose length is not 1", X3, "y = Squeeze (x, a)",
      "int64[1] a = {1}", absent=0),
    _(f"{LAYOUT}relate_unsqueeze: the axes it adds are not constant", f"{X2}, int64[1] a", "y = Unsqueeze (x, a)"),
    _(f"{LAYOUT}relate_expand: the rank of its output is unknown", f"{X2}, int64[3] s", "y = Expand (x, s)"),
    _(f"{LAYOUT}relate_slice: its bounds are not constant", f"{X2}, int64[1] s", "y = Slice (x, s, e)",
      "int64[1] e = {1}"),
    _(f"{LAYOUT}relate_slice: its bounds are not constant", f"{X2}, int64[1] e", "y = Slice (x, s, e)",
      "int64[1] s = {1}"),
    _(f"{LAYOUT}relate_slice: its axes or steps are not constant", f"{X2}, int64[1] a", "y = Slice (x, s, e, a)",
      "int64[1] s = {0}, int64[1] e = {1}"),
    _(f"{LAYOUT}relate_slice: its axes or steps are not constant", f"{X2}, int64[1] t", "y = Slice (x, s, e, a, t)",
      "int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {1}"),
    _(f"{LAYOUT}relate_slice: its input is missing", X2, "y = Slice (x, s, e)", "int64[1] s = {0}, int64[1] e = {1}",
      absent=0),
    _(f"{LAYOUT}relate_slice: the length of the axis it slices is unknown", "float[4,5] x",
      "z = MatMul (x, w) y = Slice (z, s, e, a)",
      "float[4,A] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}, int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {1}"),
    _(f"{LAYOUT}relate_split: its input is missing", X2, "y, z = Split <axis=1> (x)", absent=0),
    _(f"{LAYOUT}relate_split: the lengths of its parts are unknown", "float[4,5] x, int64[2] s",
      "m = MatMul (x, w) y, z = Split <axis=1> (m, s)", "float[4,2] m, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}",
      outputs="float[4,A] y, float[4,B] z"),
    _(f"{LAYOUT}relate_split: the lengths of its parts are unknown", "float[4,5] x, int64[2] s",
      "m = MatMul (x, w) y, z = Split <axis=1> (m, s)", "float[4,2] m, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}",
      outputs="float[4,1] y, float[4,2] z"),
    _(f"{LAYOUT}relate_concat: the rank of its output is unknown", X2, "y = Concat <axis=1> (x, x)"),
    _(f"{LAYOUT}relate_concat: it joins a constant", X2, "y = Concat <axis=1> (x, k)", "float[1,4] k = {1,2,3,4}",
      outputs="float[N,8] y"),
    _(f"{LAYOUT}relate_concat: it joins a constant", X2, "y = Concat <axis=1> (x, x)", outputs="float[N,8] y",
      absent=1),
    _(f"{LAYOUT}relate_concat: the lengths of its parts are unknown", X2, "y = Concat <axis=0> (x, x)",
      outputs="float[M,4] y"),
    _(f"{LAYOUT}relate_depth_to_space: the rank of its input is unknown", X3, "y = DepthToSpace <blocksize=2> (x)"),
    _(f"{LAYOUT}relate_depth_to_space: the rank of its input is unknown", X4, "y = DepthToSpace <blocksize=2> (x)",
      absent=0),
    _(f"{LAYOUT}relate_pad: its widths are not constant", f"{X2}, int64[4] p", "y = Pad (x, p)"),
    _(f"{LAYOUT}relate_pad: its widths are not constant", X2, "y = Pad (x, p)", "int64[4] p = {0,0,0,1}", absent=0),
    _(f"{LAYOUT}relate_pad: its axes are not constant", f"{X2}, int64[1] a", "y = Pad (x, p, , a)",
      "int64[2] p = {0,1}"),
    _(f"{LAYOUT}relate_pad: it pads the axis along which the units differ", "float[4,5] x",
      "z = MatMul (x, w) y = Pad (z, p)",
      "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}, int64[4] p = {0,0,0,1}"),
    _(f"{LAYOUT}relate_pad: it pads with a constant other than 0", X3, "y = Pad <pads=[0,0,1,0,0,0],value=5.0> (x)",
      opset=10),
    _(f"{LAYOUT}relate_pad: it pads with a constant other than 0", X3, "y = Pad (x, p, f)",
      "int64[6] p = {0,0,1,0,0,0}, float f = {5}"),
    _(f"{LAYOUT}relate_pad: it pads with a constant other than 0", f"{X3}, float f", "y = Pad (x, p, f)",
      "int64[6] p = {0,0,1,0,0,0}"),
    _(f"{LINEAR}_weights: its weight is not a constant", f"{X3}, float[3,4,1] w", "y = Conv (x, w)"),
    _(f"{LINEAR}_weights: its weight is not a constant", f"{X2}, float[4,3] w", "y = Gemm (x, w)"),
    _(f"{LINEAR}_weights: its bias is not a constant", f"{X3}, float[1] b", "y = Conv (x, w, b)",
      "float[1,4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}_weights: its bias has {{}} axes", X3, "y = Conv (x, w, b)",
      "float[1,4,1] w = {1,2,3,4}, float[1,1] b = {1}"),
    _(f"{LINEAR}_channels_read: the rank of its input is unknown", X2, "y = Conv (x, w)", "float[1,4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}_channels_read: the rank of its input is unknown", X3, "y = ConvTranspose (x, w)",
      "float[4,1,1] w = {1,2,3,4}", absent=0),
    _(f"{LINEAR}relate_gemm: with beta = 0 it ignores its bias", X2, "y = Gemm <beta=0.0> (x, w, b)",
      "float[4,1] w = {1,2,3,4}, float[1] b = {1}"),
    _(f"{LINEAR}relate_gemm: the rank of its input is unknown", "float[] x", "y = Gemm (x, w)",
      "float[4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}relate_gemm: the rank of its input is unknown", X2, "y = Gemm (x, w)", "float[4,1] w = {1,2,3,4}",
      absent=0),
    _(f"{LINEAR}relate_matmul: it is not (..., K) times a constant matrix (K, N)", "float[4] x", "y = MatMul (x, w)",
      "float[4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}relate_matmul: it is not (..., K) times a constant matrix (K, N)", X2, "y = MatMul (x, w)",
      "float[4] w = {1,2,3,4}"),
    _(f"{MAXIMUM}relate_max: it does not compare the data with one constant", f"{X2}, float[N,4] z",
      "y = Max (x, z)"),
    _(f"{MAXIMUM}relate_max: its constant is not one per channel", X2, "y = Max (x, k)",
      "float[2,2] k = {1,2,3,4}"),
    _(f"{MAXIMUM}relate_max: its constant is not one per channel", X2, "y = Max (x, k)",
      "float[1,1,4] k = {1,2,3,4}"),
    _(f"{NORMS}relate_norm: its scale and bias are not constants of one axis", f"{X2}, float[4] s",
      "y = LayerNormalization (x, s)", outputs="float[N,4] y"),
    _(f"{NORMS}relate_norm: its scale and bias are not constants of one axis", f"{X2}, float[4] b",
      "y = LayerNormalization (x, k, b)", TWICE, outputs="float[N,4] y"),
    _(f"{NORMS}relate_norm: its scale and bias are not constants of one axis", X2,
      "y = LayerNormalization (x, k)", "float[1,4] k = {1,2,3,4}", outputs="float[N,4] y"),
    _(f"{NORMS}relate_norm: its scale and bias are not constants of one axis", X2,
      "y = LayerNormalization (x, k)", TWICE, outputs="float[N,4] y", absent=0),
    _(f"{NORMS}relate_norm: the rank of its output is unknown", X2, "y = LayerNormalization (x, k)", TWICE),
    _(f"{NORMS}relate_norm: it normalises over several axes", "float[N,4,4] x",
      "y = LayerNormalization <axis=1> (x, k)", TWICE, outputs="float[N,4,4] y"),
    _(f"{NORMS}relate_norm: its scale is per group", X4, "y = GroupNormalization <num_groups=2> (x, k, k)",
      "float[2] k = {1,2}", outputs="float[N,4,6,6] y", opset=18),
    _(f"{POINTWISE}relate_relu: its input is missing", X2, "y = Relu (x)", absent=0),
    _(f"{POINTWISE}relate_relu: its slope is not a constant", f"{X2}, float[4] s", "y = PRelu (x, s)"),
    *(_(f"{POINTWISE}relate_clip: its bounds are given in the units of its input", inputs, body, held,
        opset=opset)
      for inputs, body, held, opset in [
          (X2, "y = Clip (x)", "", 20), (X2, "y = Clip (x, k)", "float k = {1}", 20),
          (f"{X2}, float k", "y = Clip (x, k)", "", 20), (X2, "y = Clip (x, k, m)", "float k = {0}, float m = {6}", 20),
          (X2, "y = Clip (x, , m)", "float m = {6}", 20), (X2, "y = Clip <min=0.0, max=6.0> (x)", "", 10),
          (X2, "y = Clip <min=1.0> (x)", "", 10), (X2, "y = Clip (x)", "", 10),
      ]),
    _(f"{POINTWISE}relate_sum: the shapes of its operands are unknown", f"{X2}, float[N,4] z",
      "y = Add (x, z)"),
    _(f"{POINTWISE}relate_sum: the shapes of its operands are unknown", f"{X2}, float[] z",
      "y = Sum (x, z)", outputs="float[N,4] y"),
    _(f"{POINTWISE}relate_sum: the shapes of its operands are unknown", X2, "y = Add (k, k)", TWICE,
      outputs="float[4] y"),
    _(f"{POINTWISE}relate_product: its operands are unknown", f"{X2}, float[N,4] z", "y = Mul (x, z)"),
    _(f"{POINTWISE}relate_product: its operands are unknown", f"{X2}, float[N,4] z", "y = Mul (x, z)",
      outputs="float[N,4] y", absent=0),
    _(f"{POINTWISE}relate_product: its operands are unknown", f"{X2}, float[N,4] z", "y = Div (x, z)",
      outputs="float[N,4] y", absent=1),
    _(f"{POINTWISE}relate_sum_operator: it adds a constant", X2, "y = Sum (x, k)", TWICE),
    _(f"{POOLING}_spatial: the rank of its input is unknown", X2, "y = GlobalAveragePool (x)"),
    _(f"{POOLING}_spatial: the rank of its input is unknown", X3, "y = AveragePool <kernel_shape=[2]> (x)", absent=0),
    _(f"{POOLING}_spatial: the rank of its input is unknown", X2,
      "y = AveragePool <kernel_shape=[2], pads=[1,1], count_include_pad=1> (x)"),
    _(f"{POOLING}_spatial: the rank of its input is unknown", X2, "y = MaxPool <kernel_shape=[2]> (x)"),
    _(f"{POOLING}relate_max_pool: the indices of its maxima are used", X3,
      "y, i = MaxPool <kernel_shape=[2]> (x) j = Cast <to=1> (i)"),
    _(f"{POOLING}relate_reduce_mean: the axes it reduces are not constant", X3, "y = ReduceMean (x)"),
    _(f"{POOLING}relate_reduce_mean: the axes it reduces are not constant", f"{X3}, int64[1] a",
      "y = ReduceMax (x, a)"),
    _(f"{POOLING}relate_reduce_mean: the axes it reduces are not constant", X3, "y = ReduceMean (x, a)",
      "int64[0] a = {}"),
    _(f"{POOLING}relate_reduce_mean: the axes it reduces are not constant", "float[] x", "y = ReduceMean (x, a)",
      "int64[1] a = {1}"),
    _(f"{POOLING}relate_reduce_mean: the axes it reduces are not constant", X3, "y = ReduceMean (x, a)",
      "int64[1] a = {1}", absent=0),
    _(f"{POOLING}relate_resize: its shapes are unknown", X3, "y = Resize (x, , s)", "float[3] s = {1,1,2}"),
    _(f"{POOLING}relate_resize: its shapes are unknown", X3, "y = Resize (x, , s)", "float[3] s = {1,1,2}",
      outputs="float[N,4,12] y", absent=0),
    _(f"{POOLING}relate_resize: it extrapolates with a constant", X3,
      'y = Resize <coordinate_transformation_mode="tf_crop_and_resize"> (x, r, s)',
      "float[6] r = {0,0,0,1,1,1}, float[3] s = {1,1,2}", outputs="float[N,4,12] y"),
    _(f"{POOLING}relate_resize: it resizes the batch or the channels", X3, "y = Resize (x, , s)",
      "float[3] s = {1,2,1}", outputs="float[N,8,6] y"),
    _(f"{POOLING}relate_resize: it resizes the batch or the channels", "float[2,4,6] x", "y = Resize (x, , s)",
      "float[3] s = {2,1,1}", outputs="float[4,4,6] y"),
    _(f"{POOLING}relate_resize: it resizes the batch or the channels", X3, "y = Resize (x, , , s)",
      "int64[3] s = {1,8,6}", outputs="float[N,8,6] y"),
    _(f"{REGISTRY}unhandled_attributes: attribute {{}} of {{}} is not known here", X3, "y = Conv <gain=2> (x, w)",
      "float[1,4,1] w = {1,2,3,4}"),
    _(f"{REGISTRY}unhandled_attributes: {{}}={{}} of {{}} is not supported", "float[4,N] x",
      "y = Gemm <transA=1> (x, w)", "float[4,1] w = {1,2,3,4}"),
    _(f"{SEQUENCE}relate_recurrent: its input weights are not constants",
      "float[S,N,4] x, float[1,1,4] w", "y = RNN <hidden_size=1> (x, w, r)", "float[1,1,1] r = {1}"),
    _(f"{SEQUENCE}relate_recurrent: its input weights are not constants",
      "float[S,N,4] x, float[1,2] b", "y = RNN <hidden_size=1> (x, w, r, b)",
      "float[1,1,4] w = {1,2,3,4}, float[1,1,1] r = {1}"),
    _(f"{SEQUENCE}relate_recurrent: the rank of its input is unknown", X2, "y = RNN <hidden_size=1> (x, w, r)",
      "float[1,1,4] w = {1,2,3,4}, float[1,1,1] r = {1}"),
    _(f"{SEQUENCE}relate_recurrent: the rank of its input is unknown", "float[S,N,4] x",
      "y = RNN <hidden_size=1> (x, w, r)", "float[1,1,4] w = {1,2,3,4}, float[1,1,1] r = {1}", absent=0),
    _(f"{SEQUENCE}relate_gather: it neither reads a constant table nor picks constant positions", "int64[3] i",
      "y = Gather <axis=1> (k, i)", "float[1,4] k = {1,2,3,4}", outputs="float[1,3] y"),
    _(f"{SEQUENCE}relate_gather: it neither reads a constant table nor picks constant positions", "int64[3] i",
      "y = Gather (k, i)", TWICE, outputs="float[3] y"),
    _(f"{SEQUENCE}relate_gather: it neither reads a constant table nor picks constant positions", "int64[3] i",
      "y = Gather (k, i)", "float[1,4] k = {1,2,3,4}"),
    _(f"{SEQUENCE}relate_gather: the rank of its indices is unknown", "float[4,5] x, int64[] i",
      "z = MatMul (x, w) y = Gather (z, i)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}"),
    _(f"{SEQUENCE}relate_gather: it picks positions that are not constant", "float[4,5] x, int64[3] i",
      "z = MatMul (x, w) y = Gather <axis=1> (z, i)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}"),
    _("relate.py:_relate_node: {} has no rule", X2, "y = Softmax (x)", whole=True),
    _("relate.py:_related: the rank of its input is unknown", "float[] x", "y = Relu (x)", whole=True),
    _("relate.py:_related: {}", X2, "y = Relu (x)", whole=True, fails="relate"),
    _("relate.py:_relate_node: {}", X2, "y = Relu (x)", whole=True, fails="rewrite"),
    _("relate.py:_relate_node: part of a {}", X2, "y = Mul (x, k)", "float k = {0.5}", whole=True, kernel="Gelu"),
    _(f"{AFFINE}relate_add: it adds to one number", "float x", "y = Add (x, k)", "float k = {1}"),
    _(f"{AFFINE}relate_mul: it multiplies one number", "float x", "y = Mul (x, k)", "float k = {2}"),
]  # fmt: skip


def test_every_refusal_has_a_case():
    missing = sites() - {case.site for case in CASES}
    assert not missing, "no case of " + ", ".join(sorted(missing))
    unknown = {case.site for case in CASES} - sites()
    assert not unknown, "no such refusal: " + ", ".join(sorted(unknown))


def asked(nodes: list[ir.Node]) -> object:
    """What the rule of the last node says, those before it having been related."""
    units = Units()
    *before, last = nodes
    for node in before:
        if node.op_type in RULES:
            RULES[node.op_type].relate(node, units)
    for value in last.inputs:
        if value is not None and value.const_value is None and value.dtype is not None and value not in units.ids:
            units.of(value)
    return RULES[last.op_type].relate(last, units)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.site.split(':')[1]}-{case.body[:40]}")
@pytest.mark.usefixtures("rules_may_fail")
def test_refusal_is_met(case, monkeypatch):
    with noted() as met:
        graph = case.graph()
        if case.whole:
            case.relations(graph, monkeypatch)
        else:
            assert isinstance(asked(_up_to_the_refusing(graph)), Refusal)
    assert met[-1] == case.site


def _up_to_the_refusing(graph: ir.Graph) -> list[ir.Node]:
    """Readers that only make use of an output stand behind the node that refuses."""
    nodes = list(graph)
    while nodes[-1].op_type in ("Relu", "Cast") and len(nodes) > 1:
        nodes.pop()
    return nodes


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.site.split(':')[1]}-{case.body[:40]}")
@pytest.mark.usefixtures("rules_may_fail")
def test_around_a_refusal_units_are_pinned_for_its_reason(case, monkeypatch):
    graph = case.graph()
    node = _up_to_the_refusing(graph)[-1]
    units = case.relations(graph, monkeypatch)
    for value in node.outputs:
        if value.dtype is not None and value.dtype.is_floating_point():
            assert not np.any(units.of(value))
            assert units.unruled[value].startswith(node.op_type)
    pinned = {i for pin in units.scale_pins if pin.node is node for i in pin.ids.tolist()}
    for value in node.inputs:
        if value is not None and value in units.ids:
            assert set(units.of(value).flat) <= pinned | {0}
