"""Pairwise equalization, as it is known: the channels between two layers in units in which both weights are as large.

    s_i = sqrt(r1_i r2_i) / r2_i        W1_i := W1_i / s_i,  b1_i := b1_i / s_i,  W2_i := s_i W2_i

with r1_i the largest magnitude of row i of the first weight, r2_i that of column i of the second, again for all pairs
until nothing moves (Nagel et al. 2019, Data-Free Quantization, section 4.1). Pairs are layers with nothing between
them but a Relu, and one reader; ReLU6 holds its units, so it ends a pair (the paper puts ReLU in its place, which is
another function). It equalizes weights and knows nothing of residual streams: bnfold's units are compared with it.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

__all__ = ["equalized"]

ROUNDS = 20


def equalized(model: ModelProto) -> ModelProto:
    """The same function in other units; the model given is not changed."""
    made = ModelProto()
    made.CopyFrom(model)
    constants = {tensor.name: numpy_helper.to_array(tensor).astype(np.float64) for tensor in made.graph.initializer}
    pairs = list(_pairs(made, constants))
    for _ in range(ROUNDS):
        moved = [_equalize(first, second, constants) for first, second in pairs]
        if not any(moved):
            break
    for tensor in made.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(constants[tensor.name].astype(np.float32), tensor.name))
    return made


def _pairs(model: ModelProto, constants: dict[str, np.ndarray]) -> list[tuple[NodeProto, NodeProto]]:
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants:
            continue
        name = node.output[0]
        behind = readers.get(name, [])
        if len(behind) == 1 and behind[0].op_type == "Relu":
            name = behind[0].output[0]
            behind = readers.get(name, [])
        if len(behind) == 1 and behind[0].op_type == "Conv" and behind[0].input[0] == name and name not in outputs:
            found.append((node, behind[0]))
    return found


def _equalize(first: NodeProto, second: NodeProto, constants: dict[str, np.ndarray]) -> bool:
    """Put the channels between two convolutions into other units; whether that moved anything."""
    w1, w2 = constants[first.input[1]], constants[second.input[1]]
    channels = len(w1)
    group = next((attribute.i for attribute in second.attribute if attribute.name == "group"), 1)
    m, per_group = w2.shape[:2]
    columns = w2.reshape(group, m // group, per_group, -1)
    r1 = np.abs(w1).reshape(channels, -1).max(axis=1)
    r2 = np.abs(columns).max(axis=(1, 3)).reshape(channels)
    live = (r1 > 0) & (r2 > 0)
    s = np.where(live, np.sqrt(r1 * r2) / np.where(live, r2, 1.0), 1.0)
    constants[first.input[1]] = w1 / s.reshape(-1, *(1,) * (w1.ndim - 1))
    if len(first.input) > 2 and first.input[2]:
        constants[first.input[2]] = constants[first.input[2]] / s
    constants[second.input[1]] = (columns * s.reshape(group, 1, per_group, 1)).reshape(w2.shape)
    return bool(np.abs(np.log(s)).max(initial=0.0) > 1e-3)
