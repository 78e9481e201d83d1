"""A small network for each rewrite of the fold, with a ReLU that is off in one channel on every input."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

__all__ = ["DEAD", "NETWORKS", "SEQUENCE_RULES", "Network", "model_of"]

DEAD = 1
OFF = -1e4  # the shift in front of the ReLU, in the channel DEAD
SEQUENCE_RULES = ("LSTM", "GRU", "RNN")

IMAGES = "(float[N, 4, 5, 6] x) => (float[N, 3, P, Q] y)"
FEW = "(float[N, 4, 5, 6] x) => (float[N, 4, 5, 6] y)"
ROWS = "(float[N, 4] x) => (float[N, 3] y)"
NORMED = "b = BatchNormalization (v, bn_gamma, bn_beta, bn_mean, bn_var) r = Relu (b)"
TO_IMAGES = f"{NORMED} y = Conv (r, last_w, last_b)"
TO_ROWS = f"{NORMED} y = Gemm (r, head_w, last_b)"
SEQUENCE = """
 xt = Transpose <perm = [1, 2, 0]> (x) b = BatchNormalization (xt, bn_gamma, bn_beta, bn_mean, bn_var)
 s = Transpose <perm = [2, 0, 1]> (b) v, h = {op} <hidden_size = 3> (s, w_{op}, r_{op}, b_{op}) y = Identity (v)
"""
SEQUENCES = "(float[5, 2, 4] x) => (float[5, 1, 2, 3] y)"


@dataclasses.dataclass(frozen=True)
class Network:
    """A graph with a node whose output is `v`, or `v` and others, for one rule; `opset` of its operators."""

    signature: str
    body: str
    opset: int = 17
    written: tuple[str, ...] = ("v",)


NETWORKS: Mapping[str, Network] = {
    "Conv": Network(IMAGES, f"v = Conv <pads = [1, 1, 1, 1]> (x, conv_w, conv_b) {TO_IMAGES}"),
    "ConvTranspose": Network(IMAGES, f"v = ConvTranspose <strides = [2, 2]> (x, up_w, conv_b) {TO_IMAGES}"),
    "Gemm": Network(ROWS, f"v = Gemm (x, gemm_w, conv_b) {TO_ROWS}"),
    "MatMul": Network(ROWS, f"v = MatMul (x, gemm_w) {TO_ROWS}"),
    "Add": Network(IMAGES, f"u = Mul (x, factor) v = Add (u, places) {TO_IMAGES}"),
    "Sub": Network(IMAGES, f"u = Mul (x, factor) v = Sub (u, places) {TO_IMAGES}"),
    "Mul": Network(FEW, f"v0 = Mul (x, factor) v = Add (v0, places) {NORMED} y = Sigmoid (r)", written=("v0",)),
    "Div": Network(FEW, f"v0 = Div (x, factor) v = Add (v0, places) {NORMED} y = Sigmoid (r)", written=("v0",)),
    "LayerNormalization": Network(ROWS, f"v = LayerNormalization (x, norm_w, conv_b) {TO_ROWS}"),
    "InstanceNormalization": Network(IMAGES, f"v = InstanceNormalization (x, norm_w, conv_b) {TO_IMAGES}"),
    "GroupNormalization": Network(
        f"{IMAGES} <float[N, 4, 5, 6] v>",
        f"v = GroupNormalization <num_groups = 2> (x, norm_w, conv_b) {TO_IMAGES}",
        opset=21,
    ),
    "Gather": Network(
        "(int64[N, 7] x) => (float[N, 3, 7] y)",
        f"g = Gather (table, x) v = Transpose <perm = [0, 2, 1]> (g) {NORMED} y = Conv (r, line_w, last_b)",
        written=("g",),
    ),
    "LSTM": Network(SEQUENCES, SEQUENCE.format(op="LSTM")),
    "GRU": Network(SEQUENCES, SEQUENCE.format(op="GRU")),
    "RNN": Network(SEQUENCES, SEQUENCE.format(op="RNN")),
    "BatchNormalization": Network(
        IMAGES,
        "c = Conv (x, conv_w, conv_b) q = Relu (c) "
        "b1 = BatchNormalization (q, bn_gamma, norm_w, bn_mean, bn_var) "
        "v = BatchNormalization (b1, norm_w, bn_beta, bn_mean, bn_var) r = Relu (v) "
        "y = Conv <pads = [1, 1, 1, 1]> (r, wide_w, last_b)",
        written=("v", "b1"),
    ),
    "Max": Network(
        IMAGES,
        "c = Conv (x, conv_w, conv_b) q = Relu (c) b = BatchNormalization (q, bn_gamma, norm_w, bn_mean, bn_var) "
        "r = Relu (b) y = Conv (r, last_w, last_b)",
        written=("r", "b"),
    ),
    "merged branches": Network(
        IMAGES,
        "c1 = Conv <pads = [1, 1, 1, 1]> (x, conv_w, conv_b) c2 = Conv (x, point_w) "
        "b1 = BatchNormalization (c1, bn_gamma, norm_w, bn_mean, bn_var) "
        "b2 = BatchNormalization (c2, norm_w, bn_beta, bn_mean, bn_var) v = Add (b1, b2) r = Relu (v) "
        "y = Conv (r, last_w, last_b)",
        written=("v", "c1", "c2", "b1", "b2"),
    ),
    "removed channels": Network(
        "(float[N, 4, 5, 6] x) => (float[N, 4, P, Q] y)",
        "c = Conv (x, many_w, many_b) b = BatchNormalization (c, many_gamma, many_beta, many_mean, many_var) "
        "r = Relu (b) v = Conv (r, from_many_w, conv_b) r2 = Relu (v) y = Conv (r2, point_w)",
    ),
}


def parameters(rule: str) -> dict[str, np.ndarray]:
    """Parameters as training leaves them, but for the shift of one channel."""
    rng = np.random.default_rng(7)
    found: dict[str, np.ndarray] = {
        "conv_w": rng.normal(size=(4, 4, 3, 3)), "conv_b": rng.normal(size=4), "up_w": rng.normal(size=(4, 4, 2, 2)),
        "gemm_w": rng.normal(size=(4, 4)), "point_w": rng.normal(size=(4, 4, 1, 1)),
        "last_w": rng.normal(size=(3, 4, 1, 1)), "line_w": rng.normal(size=(3, 4, 1)),
        "head_w": rng.normal(size=(4, 3)), "wide_w": rng.normal(size=(3, 4, 3, 3)), "last_b": rng.normal(size=3),
        "factor": rng.uniform(0.5, 2, (4, 1, 1)), "places": rng.normal(size=(1, 4, 5, 6)),
        "norm_w": rng.uniform(0.5, 2, 4), "table": rng.normal(size=(11, 4)),
        "bn_gamma": rng.uniform(0.5, 2, 4), "bn_beta": rng.normal(size=4), "bn_mean": rng.normal(size=4),
        "bn_var": rng.uniform(0.5, 2, 4),
        "many_w": rng.normal(size=(32, 4, 1, 1)), "many_b": rng.normal(size=32), "many_mean": rng.normal(size=32),
        "many_var": rng.uniform(0.5, 2, 32), "many_gamma": np.where(np.arange(32) < 16, 0.0, 1.0),
        "many_beta": rng.uniform(0.5, 2, 32), "from_many_w": rng.normal(size=(4, 32, 1, 1)),
    }  # fmt: skip
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        found |= {f"w_{op}": rng.normal(size=(1, 3 * gates, 4)), f"r_{op}": rng.normal(size=(1, 3 * gates, 3))}
        found[f"b_{op}"] = rng.normal(size=(1, 6 * gates))
    if rule not in SEQUENCE_RULES:
        found["conv_b" if rule in ("removed channels",) else "bn_beta"][DEAD] = OFF
    if rule == "Max":
        found["norm_w"][DEAD] = OFF
    return found


def model_of(rule: str) -> onnx.ModelProto:
    """The network of a rule."""
    network = NETWORKS[rule]
    text = f'<ir_version: 9, opset_import: ["": {network.opset}]> g {network.signature} {{ {network.body} }}'
    model = onnx.parser.parse_model(text)
    read = {name for node in model.graph.node for name in node.input}
    for name, array in parameters(rule).items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for node in model.graph.node:
        node.name = f"layer_{node.output[0]}"
    return model
