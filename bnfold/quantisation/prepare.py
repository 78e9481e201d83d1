"""The folded graph in the form that has integer kernels: the same function, in float.

    ReduceMean over space = GlobalAveragePool           MatMul + Add of constants = Gemm
    Cast of bytes, Pad of zeros = Pad, Cast             Concat(a, b, c) = Concat(Concat(a, b), c), where a, b is one
    Conv 1x1, AveragePool = AveragePool, Conv 1x1

ONNX Runtime fuses a pooling between DequantizeLinear and QuantizeLinear, and a Gemm with its bias; the left hand sides
stay several kernels, or float. It gives every reader of integers a DequantizeLinear of its own: in a DenseNet, where
the Concat before a layer takes all earlier layers' outputs, their number grows with the square of the depth.
"""

from __future__ import annotations

import re
from typing import Any

import onnx
import onnx.shape_inference
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, is_float
from bnfold.graph.edit import drop_unused_initializers
from bnfold.graph.operators import Trait, having, is_onnx, kind_of
from bnfold.graph.reading import read_model
from bnfold.quantisation.operators import WEIGHTED
from bnfold.quantisation.pixels import cast_last

__all__ = ["OLDEST_OPSET", "prepared"]

OLDEST_OPSET = 13  # DequantizeLinear has an axis from here on
_CONTRIB = "com.microsoft"
_QUANTISED_CONTRIB = re.compile("Q(Attention|Embed|Gemm|Linear|MoE|Ordered)")  # QuickGelu is none
_QUANTISED = frozenset(known.name for known in having(Trait.QUANTISED))  # com.microsoft has some of them too


def prepared(folded: onnx.ModelProto, *, where: str) -> ir.Model:
    """A copy of a folded float graph whose operators are those that have integer kernels, where there are any.

    Args:
        folded: of opset 13 or newer, external data loaded.
        where: the source, for messages.

    Raises:
        InputRefused: the graph is quantised already, or of an opset without scales per channel.
    """
    opset = next((entry.version for entry in folded.opset_import if is_onnx(entry.domain)), 0)
    if opset < OLDEST_OPSET:
        raise InputRefused(
            "the opset has no scales per channel", where=where, found=f"opset {opset}",
            expected=f"opset {OLDEST_OPSET} or newer",
            remedy="convert it with bnfold fold-export --opset 13, and quantize that",
        )  # fmt: skip
    _refuse_quantised(folded, where)
    inferred = onnx.shape_inference.infer_shapes(folded, data_prop=True)
    model = read_model(inferred)
    for node in list(model.graph):
        if kind_of(node) == op.ReduceMean:
            _pool_instead(model, node)
        elif kind_of(node) == op.MatMul:
            _gemm_instead(model, node)
        elif kind_of(node) == op.AveragePool:
            _pool_first(model.graph, node)
    _concatenate_once(model.graph)
    cast_last(model.graph)
    drop_unused_initializers(model.graph)
    return model


def _refuse_quantised(folded: onnx.ModelProto, where: str) -> None:
    for node in folded.graph.node:
        if node.op_type in _QUANTISED or (node.domain == _CONTRIB and _QUANTISED_CONTRIB.match(node.op_type)):
            raise InputRefused(
                "the source is quantised already", where=f"{where}, node {node.name or node.output[0]}",
                found=node.op_type, expected="a float network",
                remedy="quantize the file that it was made from, or use it as it is",
            )  # fmt: skip


def _pool_instead(model: ir.Model, node: ir.Node) -> None:
    """y = mean of x over all axes behind the channels: GlobalAveragePool, and a Flatten where they are dropped."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None or len(x.shape) < 3 or x.dtype != ir.DataType.FLOAT:
        return
    rank = len(x.shape)
    listed = constant(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "axes", None)
    if listed is None or sorted(int(axis) % rank for axis in listed) != list(range(2, rank)):
        return
    keeps = bool(attribute(node, "keepdims", 1))
    pool = ir.node(op.GlobalAveragePool, [x], name=node.name)
    made = [pool]
    if not keeps:
        made.append(ir.node(op.Flatten, [pool.outputs[0]], attributes={"axis": 1}, name=f"{node.name}/Flatten"))
        pooled = pool.outputs[0]
        pooled.name, pooled.type = f"{y.name}/pooled", y.type
        pooled.shape = ir.Shape([*list(x.shape)[:2], *[1] * (rank - 2)])
    _replace(model.graph, node, made)


def _gemm_instead(model: ir.Model, node: ir.Node) -> None:
    """y = x W + b of a matrix x, W and b constant: Gemm."""
    x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if x is None or x.shape is None or len(x.shape) != 2 or constant(w) is None or y.is_graph_output():
        return
    users = list(y.uses())
    if len(users) != 1 or kind_of(users[0].node) != op.Add or not is_float(x):
        return
    add = users[0].node
    b = next((value for value in add.inputs if value is not y), None)
    offset = constant(b)
    weight = constant(w)
    if offset is None or weight is None or weight.ndim != 2 or offset.shape != (weight.shape[1],):
        return
    gemm = ir.node(op.Gemm, [x, w, b], name=node.name)
    _replace(model.graph, add, [gemm])
    model.graph.remove(node, safe=True)


def _pool_first(graph: ir.Graph, pool: ir.Node) -> None:
    """AveragePool(W x + b) = W AveragePool(x) + b of a convolution with a 1x1 kernel, where no layer writes x.

    A transition of a DenseNet is one. The convolution and the QuantizeLinear in front of it then have fewer positions,
    and the pool, which is slow in integers, is float.
    """
    y, out = pool.inputs[0], pool.outputs[0]
    conv = y.producer() if y is not None else None
    if y is None or conv is None or kind_of(conv) != op.Conv or len(list(y.uses())) != 1 or y.is_graph_output():
        return
    weight, x = constant(conv.inputs[1]), conv.inputs[0]
    if weight is None or set(weight.shape[2:]) != {1} or _is_moved(conv) or _is_moved(pool, steps=False):
        return
    if x is None or out.shape is None or y.shape is None or x.shape is None or _is_of_layer(x):
        return
    first = ir.node(op.AveragePool, [x], attributes=_attributes(pool), name=pool.name)
    pooled = first.outputs[0]
    pooled.name, pooled.type = f"{y.name}/pooled", x.type
    pooled.shape = ir.Shape([x.shape[0], x.shape[1], *list(out.shape)[2:]])
    moved = ir.node(op.Conv, [pooled, *conv.inputs[1:]], attributes=_attributes(conv), name=conv.name)
    _replace(graph, pool, [first, moved])
    graph.remove(conv, safe=True)


def _is_moved(node: ir.Node, *, steps: bool = True) -> bool:
    """Whether a window of a node may reach over the border, or, where that counts too, leave positions out."""
    padded = any(attribute(node, "pads", None) or ()) or str(attribute(node, "auto_pad", "NOTSET")) != "NOTSET"
    strides = attribute(node, "strides", None) or ()
    return padded or (steps and any(stride != 1 for stride in strides))


def _is_of_layer(x: ir.Value) -> bool:
    """Whether a layer with weights, or the activation behind one, writes a value; or it is an input."""
    node = x.producer()
    while node is not None and kind_of(node) in (op.Relu, op.Clip) and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is None or kind_of(node) in WEIGHTED


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {name: each.value for name, each in node.attributes.items()}


def _concatenate_once(graph: ir.Graph) -> None:
    """A Concat whose inputs begin with those of one before it, over the same axis, takes that one's output instead."""
    written: dict[tuple[object, ...], ir.Value] = {}
    for node in graph:
        if kind_of(node) != op.Concat:
            continue
        axis, inputs = attribute(node, "axis", 0), list(node.inputs)
        shared = (n for n in range(len(inputs) - 1, 1, -1) if (axis, *inputs[:n]) in written)
        written.setdefault((axis, *inputs), node.outputs[0])
        n = next(shared, 0)
        if n:
            for index, value in enumerate([written[axis, *inputs[:n]], *inputs[n:]]):
                node.replace_input_with(index, value)
            node.resize_inputs(1 + len(inputs) - n)


def _replace(graph: ir.Graph, node: ir.Node, made: list[ir.Node]) -> None:
    """Put nodes in the place of one; the last writes its output, under its name."""
    old, new = node.outputs[0], made[-1].outputs[0]
    graph.insert_before(node, made)
    new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    name, old.name = old.name, None
    new.name = name
    graph.remove(node, safe=True)
