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
from bnfold.graph.layers import layer_name
from bnfold.graph.reading import read_model
from bnfold.records.causes import Cause, Holder
from bnfold.records.sentences import REFUSALS

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


AFFINE, LAYOUT, LINEAR, POOLING, POINTWISE, SEQUENCE, NORMS, MAXIMUM, REGISTRY, ATTENTION, SELECTION = (
    f"relations/{name}.py:"
    for name in (
        "affine", "layout", "linear", "pooling", "pointwise", "sequence", "norms", "maximum", "registry", "attention",
        "selection",
    )
)  # fmt: skip
BATCHNORM = "y = BatchNormalization{} (x, g, b, m, v)"
BN_CONSTANTS = "float[4] g = {1,1,1,1}, float[4] b = {1,1,1,1}, float[4] m = {1,1,1,1}, float[4] v = {1,1,1,1}"
BN_PARAMETERS = f"{AFFINE}batchnorm_parameters: "
TWICE = "float[4] k = {1,2,3,4}"

CASES = [
    _(f"{BN_PARAMETERS}training_mode", X4, BATCHNORM.format("<training_mode=1>"), BN_CONSTANTS),
    _(f"{BN_PARAMETERS}no_rule spatial", X2, BATCHNORM.format("<spatial=0>"),
      BN_CONSTANTS, opset=7),
    _(f"{BN_PARAMETERS}batch_statistics", X4, "y, s, t = BatchNormalization (x, g, b, m, v)", BN_CONSTANTS,
      outputs="float[] y, float[] s"),
    _(f"{BN_PARAMETERS}batch_statistics", X4,
      "y, s, t = BatchNormalization (x, g, b, m, v) z = Relu (t) w = Relu (s)", BN_CONSTANTS),
    _(f"{BN_PARAMETERS}replaceable",
      f"{X4}, float[4] v = {{1,1,1,1}}", BATCHNORM.format(""), BN_CONSTANTS.replace(", float[4] v = {1,1,1,1}", "")),
    _(f"{BN_PARAMETERS}not_constant parameters", f"{X4}, float[4] v", BATCHNORM.format(""),
      BN_CONSTANTS.replace(", float[4] v = {1,1,1,1}", "")),
    _(f"{BN_PARAMETERS}not_constant parameters", f"{X4}, float[4] g",
      BATCHNORM.format(""), BN_CONSTANTS.replace("float[4] g = {1,1,1,1}, ", "")),
    _(f"{BN_PARAMETERS}invalid parameters", X4, BATCHNORM.format(""),
      BN_CONSTANTS.replace("float[4] m = {1,1,1,1}", "float[1] m = {1}")),
    _(f"{BN_PARAMETERS}invalid parameters", X4, BATCHNORM.format(""),
      BN_CONSTANTS.replace("float[4]", "float[2,2]")),
    _(f"{AFFINE}relate_batchnorm: unknown_shape channels",
      "float[4] x", BATCHNORM.format(""), BN_CONSTANTS),
    _(f"{AFFINE}relate_batchnorm: unknown_shape channels",
      X2, BATCHNORM.format(""), BN_CONSTANTS, absent=0),
    _(f"{AFFINE}relate_batchnorm: invalid channels", "float[N,3,6] x", BATCHNORM.format(""),
      BN_CONSTANTS),
    _(f"{AFFINE}relate_add: no_rule broadcast", X2, "y = Add (x, k)", "float[1,1,4] k = {1,2,3,4}"),
    _(f"{AFFINE}relate_add: no_rule minuend", X2, "y = Sub (k, x)", TWICE),
    _(f"{AFFINE}relate_mul: no_rule broadcast", X2, "y = Mul (x, k)",
      "float[1,1,4] k = {1,2,3,4}"),
    _(f"{AFFINE}relate_mul: nonlinear divisor", X2, "y = Div (k, x)", TWICE),
    _(f"{AFFINE}relate_mul: invalid divisor", X2, "y = Div (x, k)", "float[4] k = {1,0,3,4}"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4] x, float[4,3] w",
      "y = MatMul (x, w)", outputs="float[N,3] y"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x, float[N,4,3] w",
      "s = Softmax (x) y = MatMul (s, w)", "float[N,4,4] s"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x, float[N,4,3] w",
      "s = Softmax <axis=1> (x) y = MatMul (s, w)", "float[N,4,4] s", outputs="float[N,4,3] y"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x, float[N,4,3] w",
      "s = Softmax (x) y = MatMul (s, w)", "float[N,4,4] s", outputs="float[N,4,3] y", opset=12),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x, float[N,4,3] w",
      "s = Sigmoid (x) y = MatMul (s, w)", "float[N,4,4] s", outputs="float[N,4,3] y"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[4] x, float[4,3] w",
      "s = Softmax (x) y = MatMul (s, w)", "float[4] s", outputs="float[3] y"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x",
      "s = Softmax <axis=2> (x) y = MatMul (k, s)", "float[N,4,4] s, float[4,4] k = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}",
      outputs="float[N,4,4] y"),
    _(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x",
      "s = Softmax <axis=1> (x) y = MatMul (k, s)", "float[N,4,4] s, float[4,4] k = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}",
      outputs="float[N,4,4] y"),
    *(_(f"{ATTENTION}relate_weighted_mean: not_constant weight", "float[N,4,4] x, float[N,4,3] w",
        f"{body} y = MatMul (s, w)", f"float[N,4,4] s, {held}", outputs="float[N,4,3] y")
      for body, held in [
          ("s = of.another.Softmax (x)", "float[1] k = {1}"),
          ("p = Softmax (x) i = Cast <to=7> (p) s = Cast <to=1> (i)", "float[N,4,4] p, int64[N,4,4] i"),
          ("p = Softmax (x) s = Dropout (p, r, t)", "float[N,4,4] p, float r = {0.5}, bool t = {1}"),
          ("p = Softmax (x) s = Transpose <perm=[0,2,1]> (p)", "float[N,4,4] p"),
          ("p = Softmax <axis=1> (x) s = Transpose <perm=[1,0,2]> (p)", "float[4,N,4] s, float[N,4,4] p"),
          ("p = Softmax (x) s = Mul (p, k)", "float[N,4,4] p, float[1] k = {2}"),
      ]),
    _(f"{LAYOUT}relate_identity: training_mode", X2, "y = Dropout (x, r, t)",
      "float r = {0.5}, bool t = {1}"),
    _(f"{LAYOUT}relate_identity: training_mode", f"{X2}, bool t", "y = Dropout (x, r, t)",
      "float r = {0.5}"),
    _(f"{LAYOUT}relate_cast: nonlinear cast", "int64[N,4] x", "y = Cast <to=1> (x)",
      outputs="float[N,4] y"),
    _(f"{LAYOUT}relate_cast: nonlinear cast", X2, "y = Cast <to=7> (x)",
      outputs="int64[N,4] y"),
    _(f"{LAYOUT}relate_cast: nonlinear cast", X2, "y = Cast <to=1> (x)", absent=0),
    _(f"{LAYOUT}relate_reshape: unknown_shape shapes", X2, "y = Reshape (x, s)", "int64[1] s = {-1}"),
    _(f"{LAYOUT}relate_reshape: unknown_shape shapes", X2, "y = Flatten (x)", outputs="float[N,4] y", absent=0),
    _(f"{LAYOUT}relate_reshape: unknown_shape regrouped axes",
      "float[4,5] x, int64[2] s",
      "z = MatMul (x, w) y = Reshape (z, s)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}",
      outputs="float[A,B] y"),
    _(f"{LAYOUT}relate_squeeze: not_constant axes", X3, "y = Squeeze (x)", outputs="float[4,6] y"),
    _(f"{LAYOUT}relate_squeeze: not_constant axes", "float[] x", "y = Squeeze (x)"),
    _(f"{LAYOUT}relate_squeeze: invalid squeezed axis", "float[4,5] x",
      "z = MatMul (x, w) y = Squeeze (z, a)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}, int64[1] a = {1}"),
    _(f"{LAYOUT}relate_squeeze: invalid squeezed axis", X3, "y = Squeeze (x, a)",
      "int64[1] a = {1}", absent=0),
    _(f"{LAYOUT}relate_unsqueeze: not_constant axes", f"{X2}, int64[1] a", "y = Unsqueeze (x, a)"),
    _(f"{LAYOUT}relate_expand: unknown_shape output", f"{X2}, int64[3] s", "y = Expand (x, s)"),
    _(f"{SELECTION}relate_slice: not_constant bounds", f"{X2}, int64[1] s", "y = Slice (x, s, e)",
      "int64[1] e = {1}"),
    _(f"{SELECTION}relate_slice: not_constant bounds", f"{X2}, int64[1] e", "y = Slice (x, s, e)",
      "int64[1] s = {1}"),
    _(f"{SELECTION}relate_slice: not_constant axes or steps", f"{X2}, int64[1] a", "y = Slice (x, s, e, a)",
      "int64[1] s = {0}, int64[1] e = {1}"),
    _(f"{SELECTION}relate_slice: not_constant axes or steps", f"{X2}, int64[1] t", "y = Slice (x, s, e, a, t)",
      "int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {1}"),
    _(f"{SELECTION}relate_slice: invalid input", X2, "y = Slice (x, s, e)", "int64[1] s = {0}, int64[1] e = {1}",
      absent=0),
    _(f"{SELECTION}relate_slice: unknown_shape sliced axis", "float[4,5] x",
      "z = MatMul (x, w) y = Slice (z, s, e, a)",
      "float[4,A] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}, int64[1] s = {0}, int64[1] e = {1}, int64[1] a = {1}"),
    _(f"{SELECTION}relate_split: invalid input", X2, "y, z = Split <axis=1> (x)", absent=0),
    _(f"{SELECTION}relate_split: unknown_shape parts", "float[4,5] x, int64[2] s",
      "m = MatMul (x, w) y, z = Split <axis=1> (m, s)", "float[4,2] m, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}",
      outputs="float[4,A] y, float[4,B] z"),
    _(f"{SELECTION}relate_split: unknown_shape parts", "float[4,5] x, int64[2] s",
      "m = MatMul (x, w) y, z = Split <axis=1> (m, s)", "float[4,2] m, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}",
      outputs="float[4,1] y, float[4,2] z"),
    _(f"{SELECTION}relate_concat: unknown_shape output", X2, "y = Concat <axis=1> (x, x)"),
    _(f"{SELECTION}relate_concat: no_rule constant part", X2, "y = Concat <axis=1> (x, k)", "float[1,4] k = {1,2,3,4}",
      outputs="float[N,8] y"),
    _(f"{SELECTION}relate_concat: no_rule constant part", X2, "y = Concat <axis=1> (x, x)", outputs="float[N,8] y",
      absent=1),
    _(f"{SELECTION}relate_concat: unknown_shape parts", X2, "y = Concat <axis=0> (x, x)",
      outputs="float[M,4] y"),
    _(f"{SELECTION}relate_depth_to_space: unknown_shape input", X3, "y = DepthToSpace <blocksize=2> (x)"),
    _(f"{SELECTION}relate_depth_to_space: unknown_shape input", X4, "y = DepthToSpace <blocksize=2> (x)",
      absent=0),
    _(f"{SELECTION}relate_pad: not_constant widths", f"{X2}, int64[4] p", "y = Pad (x, p)"),
    _(f"{SELECTION}relate_pad: not_constant widths", X2, "y = Pad (x, p)", "int64[4] p = {0,0,0,1}", absent=0),
    _(f"{SELECTION}relate_pad: not_constant axes", f"{X2}, int64[1] a", "y = Pad (x, p, , a)",
      "int64[2] p = {0,1}"),
    _(f"{SELECTION}relate_pad: no_rule channel padding", "float[4,5] x",
      "z = MatMul (x, w) y = Pad (z, p)",
      "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}, int64[4] p = {0,0,0,1}"),
    _(f"{SELECTION}relate_pad: padding fill", X3, "y = Pad <pads=[0,0,1,0,0,0],value=5.0> (x)",
      opset=10),
    _(f"{SELECTION}relate_pad: padding fill", X3, "y = Pad (x, p, f)",
      "int64[6] p = {0,0,1,0,0,0}, float f = {5}"),
    _(f"{SELECTION}relate_pad: padding fill", f"{X3}, float f", "y = Pad (x, p, f)",
      "int64[6] p = {0,0,1,0,0,0}"),
    _(f"{LINEAR}_weights: not_constant weight", f"{X3}, float[3,4,1] w", "y = Conv (x, w)"),
    _(f"{LINEAR}_weights: not_constant weight", f"{X2}, float[4,3] w", "y = Gemm (x, w)"),
    _(f"{LINEAR}_weights: not_constant bias", f"{X3}, float[1] b", "y = Conv (x, w, b)",
      "float[1,4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}_weights: invalid bias", X3, "y = Conv (x, w, b)",
      "float[1,4,1] w = {1,2,3,4}, float[1,1] b = {1}"),
    _(f"{LINEAR}_channels_read: unknown_shape input", X2, "y = Conv (x, w)", "float[1,4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}_channels_read: unknown_shape input", X3, "y = ConvTranspose (x, w)",
      "float[4,1,1] w = {1,2,3,4}", absent=0),
    _(f"{LINEAR}relate_gemm: no_rule beta", X2, "y = Gemm <beta=0.0> (x, w, b)",
      "float[4,1] w = {1,2,3,4}, float[1] b = {1}"),
    _(f"{LINEAR}relate_gemm: unknown_shape input", "float[] x", "y = Gemm (x, w)",
      "float[4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}relate_gemm: unknown_shape input", X2, "y = Gemm (x, w)", "float[4,1] w = {1,2,3,4}",
      absent=0),
    _(f"{LINEAR}relate_matmul: no_rule matrix", "float[4] x", "y = MatMul (x, w)",
      "float[4,1] w = {1,2,3,4}"),
    _(f"{LINEAR}relate_matmul: no_rule matrix", X2, "y = MatMul (x, w)",
      "float[4] w = {1,2,3,4}"),
    _(f"{MAXIMUM}relate_max: no_rule maximum of data", f"{X2}, float[N,4] z",
      "y = Max (x, z)"),
    _(f"{MAXIMUM}relate_max: no_rule constant per channel", X2, "y = Max (x, k)",
      "float[2,2] k = {1,2,3,4}"),
    _(f"{MAXIMUM}relate_max: no_rule constant per channel", X2, "y = Max (x, k)",
      "float[1,1,4] k = {1,2,3,4}"),
    _(f"{NORMS}relate_norm: not_constant scale and bias", f"{X2}, float[4] s",
      "y = LayerNormalization (x, s)", outputs="float[N,4] y"),
    _(f"{NORMS}relate_norm: not_constant scale and bias", f"{X2}, float[4] b",
      "y = LayerNormalization (x, k, b)", TWICE, outputs="float[N,4] y"),
    _(f"{NORMS}relate_norm: not_constant scale and bias", X2,
      "y = LayerNormalization (x, k)", "float[1,4] k = {1,2,3,4}", outputs="float[N,4] y"),
    _(f"{NORMS}relate_norm: not_constant scale and bias", X2,
      "y = LayerNormalization (x, k)", TWICE, outputs="float[N,4] y", absent=0),
    _(f"{NORMS}relate_norm: unknown_shape output", X2, "y = LayerNormalization (x, k)", TWICE),
    _(f"{NORMS}relate_norm: no_rule axes", "float[N,4,4] x",
      "y = LayerNormalization <axis=1> (x, k)", TWICE, outputs="float[N,4,4] y"),
    _(f"{NORMS}relate_norm: no_rule scale per group", X4, "y = GroupNormalization <num_groups=2> (x, k, k)",
      "float[2] k = {1,2}", outputs="float[N,4,6,6] y", opset=18),
    _(f"{POINTWISE}relate_relu: invalid input", X2, "y = Relu (x)", absent=0),
    _(f"{POINTWISE}relate_relu: not_constant slope", f"{X2}, float[4] s", "y = PRelu (x, s)"),
    *(_(f"{POINTWISE}relate_clip: nonlinear bounds", inputs, body, held,
        opset=opset)
      for inputs, body, held, opset in [
          (X2, "y = Clip (x)", "", 20), (X2, "y = Clip (x, k)", "float k = {1}", 20),
          (f"{X2}, float k", "y = Clip (x, k)", "", 20), (X2, "y = Clip (x, k, m)", "float k = {0}, float m = {6}", 20),
          (X2, "y = Clip (x, , m)", "float m = {6}", 20), (X2, "y = Clip <min=0.0, max=6.0> (x)", "", 10),
          (X2, "y = Clip <min=1.0> (x)", "", 10), (X2, "y = Clip (x)", "", 10),
      ]),
    _(f"{POINTWISE}relate_sum: unknown_shape operands", f"{X2}, float[N,4] z",
      "y = Add (x, z)"),
    _(f"{POINTWISE}relate_sum: unknown_shape operands", f"{X2}, float[] z",
      "y = Sum (x, z)", outputs="float[N,4] y"),
    _(f"{POINTWISE}relate_sum: unknown_shape operands", X2, "y = Add (k, k)", TWICE,
      outputs="float[4] y"),
    _(f"{POINTWISE}relate_product: unknown_shape operands", f"{X2}, float[N,4] z", "y = Mul (x, z)"),
    _(f"{POINTWISE}relate_product: unknown_shape operands", f"{X2}, float[N,4] z", "y = Mul (x, z)",
      outputs="float[N,4] y", absent=0),
    _(f"{POINTWISE}relate_product: unknown_shape operands", f"{X2}, float[N,4] z", "y = Div (x, z)",
      outputs="float[N,4] y", absent=1),
    _(f"{POINTWISE}relate_sum_operator: no_rule constant operand", X2, "y = Sum (x, k)", TWICE),
    _(f"{POOLING}_spatial: unknown_shape input", X2, "y = GlobalAveragePool (x)"),
    _(f"{POOLING}_spatial: unknown_shape input", X3, "y = AveragePool <kernel_shape=[2]> (x)", absent=0),
    _(f"{POOLING}_spatial: unknown_shape input", X2,
      "y = AveragePool <kernel_shape=[2], pads=[1,1], count_include_pad=1> (x)"),
    _(f"{POOLING}_spatial: unknown_shape input", X2, "y = MaxPool <kernel_shape=[2]> (x)"),
    _(f"{POOLING}relate_max_pool: no_rule indices", X3,
      "y, i = MaxPool <kernel_shape=[2]> (x) j = Cast <to=1> (i)"),
    _(f"{POOLING}relate_reduce_mean: not_constant axes", X3, "y = ReduceMean (x)"),
    _(f"{POOLING}relate_reduce_mean: not_constant axes", f"{X3}, int64[1] a",
      "y = ReduceMax (x, a)"),
    _(f"{POOLING}relate_reduce_mean: not_constant axes", X3, "y = ReduceMean (x, a)",
      "int64[0] a = {}"),
    _(f"{POOLING}relate_reduce_mean: not_constant axes", "float[] x", "y = ReduceMean (x, a)",
      "int64[1] a = {1}"),
    _(f"{POOLING}relate_reduce_mean: not_constant axes", X3, "y = ReduceMean (x, a)",
      "int64[1] a = {1}", absent=0),
    _(f"{POOLING}relate_resize: unknown_shape shapes", X3, "y = Resize (x, , s)", "float[3] s = {1,1,2}"),
    _(f"{POOLING}relate_resize: unknown_shape shapes", X3, "y = Resize (x, , s)", "float[3] s = {1,1,2}",
      outputs="float[N,4,12] y", absent=0),
    _(f"{POOLING}relate_resize: padding extrapolation", X3,
      'y = Resize <coordinate_transformation_mode="tf_crop_and_resize"> (x, r, s)',
      "float[6] r = {0,0,0,1,1,1}, float[3] s = {1,1,2}", outputs="float[N,4,12] y"),
    _(f"{POOLING}relate_resize: no_rule resized axes", X3, "y = Resize (x, , s)",
      "float[3] s = {1,2,1}", outputs="float[N,8,6] y"),
    _(f"{POOLING}relate_resize: no_rule resized axes", "float[2,4,6] x", "y = Resize (x, , s)",
      "float[3] s = {2,1,1}", outputs="float[4,4,6] y"),
    _(f"{POOLING}relate_resize: no_rule resized axes", X3, "y = Resize (x, , , s)",
      "int64[3] s = {1,8,6}", outputs="float[N,8,6] y"),
    _(f"{REGISTRY}unhandled_attributes: no_rule attribute", X3, "y = Conv <gain=2> (x, w)",
      "float[1,4,1] w = {1,2,3,4}"),
    _(f"{REGISTRY}unhandled_attributes: no_rule attribute value", "float[4,N] x",
      "y = Gemm <transA=1> (x, w)", "float[4,1] w = {1,2,3,4}"),
    _(f"{SEQUENCE}relate_recurrent: not_constant input weights",
      "float[S,N,4] x, float[1,1,4] w", "y = RNN <hidden_size=1> (x, w, r)", "float[1,1,1] r = {1}"),
    _(f"{SEQUENCE}relate_recurrent: not_constant input weights",
      "float[S,N,4] x, float[1,2] b", "y = RNN <hidden_size=1> (x, w, r, b)",
      "float[1,1,4] w = {1,2,3,4}, float[1,1,1] r = {1}"),
    _(f"{SEQUENCE}relate_recurrent: unknown_shape input", X2, "y = RNN <hidden_size=1> (x, w, r)",
      "float[1,1,4] w = {1,2,3,4}, float[1,1,1] r = {1}"),
    _(f"{SEQUENCE}relate_recurrent: unknown_shape input", "float[S,N,4] x",
      "y = RNN <hidden_size=1> (x, w, r)", "float[1,1,4] w = {1,2,3,4}, float[1,1,1] r = {1}", absent=0),
    _(f"{SEQUENCE}relate_gather: no_rule table", "int64[3] i",
      "y = Gather <axis=1> (k, i)", "float[1,4] k = {1,2,3,4}", outputs="float[1,3] y"),
    _(f"{SEQUENCE}relate_gather: no_rule table", "int64[3] i",
      "y = Gather (k, i)", TWICE, outputs="float[3] y"),
    _(f"{SEQUENCE}relate_gather: no_rule table", "int64[3] i",
      "y = Gather (k, i)", "float[1,4] k = {1,2,3,4}"),
    _(f"{SEQUENCE}relate_gather: unknown_shape indices", "float[4,5] x, int64[] i",
      "z = MatMul (x, w) y = Gather (z, i)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}"),
    _(f"{SEQUENCE}relate_gather: not_constant positions", "float[4,5] x, int64[3] i",
      "z = MatMul (x, w) y = Gather <axis=1> (z, i)", "float[4,2] z, float[5,2] w = {1,2,3,4,5,6,7,8,9,10}"),
    _("relate.py:_related: unknown_shape input", "float[] x", "y = Relu (x)", whole=True),
    _("relate.py:part_of: fused_kernel", X2, "y = Mul (x, k)", "float k = {0.5}", whole=True, kernel="Gelu"),
    _(f"{AFFINE}relate_add: no_rule scalar", "float x", "y = Add (x, k)", "float k = {1}"),
    _(f"{AFFINE}relate_mul: no_rule scalar", "float x", "y = Mul (x, k)", "float k = {2}"),
]  # fmt: skip

# Where the rule applies, and holds some of the units for a reason of its own.
PINS = [
    _(f"{AFFINE}relate_mul: no_rule constant of several axes", "float[N,2,2] x", "y = Mul (x, k)",
      "float[2,2] k = {1,2,3,4}", outputs="float[N,2,2] y"),
    _(f"{POINTWISE}relate_product: no_rule gate", f"{X2}, float[N,4] z", "y = Mul (x, z)", outputs="float[N,4] y"),
]  # fmt: skip


def test_every_refusal_has_a_case():
    cases = {case.site for case in (*CASES, *PINS)}
    missing = sites() - cases
    assert not missing, "no case of " + ", ".join(sorted(missing))
    unknown = cases - sites()
    assert not unknown, "no such refusal: " + ", ".join(sorted(unknown))


def test_every_refusal_has_a_sentence():
    """And there is none of a refusal that nobody makes."""
    made = {site.rpartition(": ")[2].removesuffix(" {}") for site in sites()}
    elsewhere = {Cause.FAILED_RULE, Cause.NO_PARAMETER}  # bnfold/graph/attempts.py and bnfold/modules
    assert made == {f"{cause.value} {part}".rstrip() for cause, part in REFUSALS if cause not in elsewhere}


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
    unknown = any(value is not None and value.shape is None for value in node.inputs)  # asked before any rule
    site = "relate.py:_related: unknown_shape input" if unknown else case.site
    for value in node.outputs:
        if value.dtype is not None and value.dtype.is_floating_point():
            assert not np.any(units.of(value))
            assert _is_of(units.unruled[value], node, site)
    pins = [pin for pin in units.scale_pins if pin.node is node]
    assert all(_is_of(pin.holder, node, site) for pin in pins)
    pinned = {i for pin in pins for i in pin.ids.tolist()}
    for value in node.inputs:
        if value is not None and value in units.ids:
            assert set(units.of(value).flat) <= pinned | {0}


def _is_of(holder: Holder, node: ir.Node, site: str) -> bool:
    """Whether what holds a value is the node, for the reason of a site."""
    refusal = holder.refusal
    assert refusal is not None
    key = f"{refusal.cause.value} {'{}' if refusal.cause == Cause.FAILED_RULE else refusal.part}".rstrip()
    is_named = (holder.operator, holder.name, holder.cause) == (node.op_type, layer_name(node), refusal.cause)
    return is_named and site.endswith(f": {key}")


@pytest.mark.parametrize("case", PINS, ids=lambda case: case.site.split(":")[1])
def test_a_rule_that_applies_holds_units_for_its_reason(case):
    graph = case.graph()
    units = relate_graph(graph)
    node = graph[-1]
    assert not units.refused
    held = [pin.holder for pin in (*units.scale_pins, *units.offset_pins) if pin.node is node and pin.holder.refusal]
    assert held
    assert all(_is_of(holder, node, case.site) for holder in held)


@pytest.mark.parametrize(
    ("operator", "cause"), [("Softmax", "nonlinear"), ("Abs", "no_rule"), ("of.another.Softmax", "no_rule")]
)
def test_around_an_operator_without_a_rule_units_are_pinned(operator, cause):
    """A curve is told from an operator that may get a rule one day."""
    graph = Meets("", "float[N,2,3] x", f"z = MatMul (x, w) y = {operator} (z)", "float[3,2] w = {1,2,3,4,5,6}").graph()
    units = relate_graph(graph)
    (y,) = graph.outputs
    holder = Holder(Cause(cause), "y", operator.rpartition(".")[2])
    assert units.unruled[y] == holder
    assert {pin.holder for pin in units.scale_pins if pin.node is graph[-1]} == {holder}
