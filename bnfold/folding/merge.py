"""Merge linear branches: a sum of convolutions of one tensor is one convolution.

    sum_k (s_k (W_k * x) + t_k)  =  (sum_k s_k W_k) * x + sum_k t_k

A value is described as one convolution of one source tensor: a Conv, the source itself (a Dirac kernel), an average
pooling, and BatchNorms, constant Mul and Add, sums and differences of these. Terms of one source become one operator
if that takes no more multiply-adds than they did. Source: RepVGG (Ding et al. 2021, arXiv:2101.03697), section 3.3, of
which the blocks of MobileOne, FastViT, RepViT and RepGhost are variants; ONNX operators Conv and AveragePool.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.affine import channel_affine
from bnfold.graph.constants import attribute, constant, float64_constant, store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.shapes import dims_of, static_length
from bnfold.numerics.convolution import Convolution

__all__ = ["merge_branches"]

_SUMS = frozenset({"Add", "Sub", "Sum"})


@dataclass(frozen=True)
class _Term:
    """One convolution of one source in a sum; `value` is what is added if nothing scales it on the way, else None."""

    source: ir.Value
    conv: Convolution
    nodes: tuple[ir.Node, ...] = ()
    value: ir.Value | None = None
    negative: bool = False
    macs: int = field(default=0)


def merge_branches(graph: ir.Graph) -> dict[ir.Node, str]:
    """Merge what can be merged, in place; returns the BatchNorms that went, with the layer that took each."""
    merged: dict[ir.Node, str] = {}
    for node in reversed(list(graph)):
        if node.graph is graph and _is_sum(node):
            merged |= _merge_sum(graph, node)
    return merged


def _is_sum(node: ir.Node) -> bool:
    """A sum of tensors of one shape, at least one channel axis and one spatial axis."""
    shape = dims_of(node.outputs[0])
    if node.op_type not in _SUMS or node.domain not in ("", "ai.onnx") or shape is None or len(shape) < 3:
        return False
    return all(x is not None and constant(x) is None and dims_of(x) == shape for x in node.inputs)


def _merge_sum(graph: ir.Graph, root: ir.Node) -> dict[ir.Node, str]:
    terms = _operand_terms(root)
    if terms is None:
        return {}
    groups: dict[ir.Value, list[_Term]] = {}
    for term in terms:
        groups.setdefault(term.source, []).append(term)
    sums = {source: _add_up(group) for source, group in groups.items()}
    alone = [term for source, group in groups.items() if sums[source] is None for term in group]
    gained = {source: conv for source, conv in sums.items() if conv is not None}
    if not gained or any(term.value is None for term in alone):
        return {}
    _rebuild(graph, root, gained, alone)
    name = layer_name(root)
    return {n: name for s in gained for term in groups[s] for n in term.nodes if n.op_type == "BatchNormalization"}


def _add_up(group: list[_Term]) -> Convolution | None:
    """The sum of the terms as one convolution, None if it is not one, would cost more, or saves nothing (x + x)."""
    if len(group) < 2 or not any(term.nodes for term in group):
        return None
    total = group[0].conv
    for term in group[1:]:
        if not total.adds_to(term.conv):
            return None
        total = total + term.conv
    return total if total.macs <= sum(term.macs for term in group) else None


def _operand_terms(node: ir.Node) -> list[_Term] | None:
    """The terms of a sum; None if the channels of an operand are unknown."""
    terms: list[_Term] = []
    for k, x in enumerate(node.inputs):
        inner = _terms(x) if x is not None else None
        if inner is None:
            return None
        terms += [_negated(term) for term in inner] if node.op_type == "Sub" and k == 1 else inner
    return terms


def _negated(term: _Term) -> _Term:
    minus = -np.ones_like(term.conv.bias)
    return replace(term, conv=term.conv.scaled(minus, 0 * minus), negative=not term.negative)


def _terms(value: ir.Value) -> list[_Term] | None:
    """Describe a value as a sum of convolutions; what others read as well is a source of its own."""
    node = value.producer()
    channels, rank = static_length(value, 1), len(value.shape) if value.shape is not None else 0
    if channels is None or rank < 3:
        return None
    leaf = [_Term(value, Convolution.identity(channels, rank - 2), (), value)]
    if node is None or len(value.uses()) != 1 or value.is_graph_output() or node.domain not in ("", "ai.onnx"):
        return leaf
    if node.op_type in ("Identity", "Dropout") and node.inputs[0] is not None and not node.inputs[1:]:
        return _terms(node.inputs[0])
    if _is_sum(node):
        return _operand_terms(node) or leaf
    if node.op_type in ("Conv", "AveragePool"):
        conv = _described(node)
        x = node.inputs[0]
        return [_Term(x, conv, (node,), value, macs=conv.macs)] if conv is not None and x is not None else leaf
    return _scaled_terms(node, value, channels) or leaf


def _scaled_terms(node: ir.Node, value: ir.Value, channels: int) -> list[_Term] | None:
    """The terms of a BatchNorm, or constant Mul, Div, Add, Sub per channel, of a sum."""
    found = channel_affine(node, channels)
    if found is None:
        return None
    x, scale, shift = found
    inner = _terms(x)
    if inner is None:
        return None
    single = len(inner) == 1
    terms = []
    for k, term in enumerate(inner):
        conv = term.conv.scaled(scale, shift if k == 0 else np.zeros_like(shift))
        terms.append(replace(term, conv=conv, nodes=(*term.nodes, node), value=value if single else None))
    return terms


def _described(node: ir.Node) -> Convolution | None:
    """A Conv with constant weights, or an AveragePool that divides by its kernel's size, as a Convolution."""
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    weight = _average_kernel(node) if node.op_type == "AveragePool" else float64_constant(node.inputs[1])
    if weight is None:
        return None
    bias = np.zeros(weight.shape[0])
    if node.op_type == "Conv" and len(node.inputs) > 2 and node.inputs[2] is not None:
        given = float64_constant(node.inputs[2])
        if given is None or given.shape != bias.shape:
            return None
        bias = given
    rank = weight.ndim - 2
    strides, dilations = (tuple(attribute(node, name, [1] * rank)) for name in ("strides", "dilations"))
    pads = tuple(attribute(node, "pads", [0] * 2 * rank))
    spans = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
    slack = tuple(pads[k] + pads[k + rank] - spans[k] for k in range(rank))
    group = weight.shape[0] if node.op_type == "AveragePool" else attribute(node, "group", 1)
    return Convolution(weight, bias, tuple(-p for p in pads[:rank]), slack, strides, dilations, group)


def _average_kernel(node: ir.Node) -> np.ndarray | None:
    kernel = attribute(node, "kernel_shape", ())
    channels = static_length(node.outputs[0], 1)
    padded = any(attribute(node, "pads", ()))
    if channels is None or attribute(node, "ceil_mode", 0) or (padded and not attribute(node, "count_include_pad", 0)):
        return None
    return np.full((channels, 1, *kernel), 1 / np.prod(kernel))


def _rebuild(graph: ir.Graph, root: ir.Node, gained: dict[ir.Value, Convolution], alone: list[_Term]) -> None:
    """Put the merged convolutions, plus what could not be merged, in the place of a sum."""
    y = root.outputs[0]
    metadata = dict(root.metadata_props)
    parts = [_emit(graph, root, source, conv) for source, conv in gained.items()]
    total = parts[0]
    rest = [(part, False) for part in parts[1:]] + [(t.value, t.negative) for t in alone if t.value is not None]
    for part, negative in rest:
        join = ir.node("Sub" if negative else "Add", [total, part], metadata_props=metadata)
        graph.insert_before(root, join)
        total = join.outputs[0]
        total.shape, total.type = y.shape, y.type
    ir.convenience.replace_all_uses_with(y, total, replace_graph_outputs=True)
    if total.is_graph_output():
        total.name, y.name = y.name, None
    graph.remove(root, safe=True)


def _emit(graph: ir.Graph, root: ir.Node, source: ir.Value, conv: Convolution) -> ir.Value:
    y, name = root.outputs[0], layer_name(root)
    dtype = y.dtype or ir.DataType.FLOAT
    weight = store_constant(graph, f"{name}.weight", conv.weight, dtype, rounded=False)
    inputs = [source, weight]
    if conv.bias.any():
        inputs.append(store_constant(graph, f"{name}.bias", conv.bias, dtype, rounded=False))
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": list(conv.kernel),
        "pads": list(conv.pads),
        "strides": list(conv.strides),
        "dilations": list(conv.dilations),
        "group": conv.group,
    }
    node = ir.node("Conv", inputs, attributes, metadata_props=dict(root.metadata_props))
    graph.insert_before(root, node)
    out = node.outputs[0]
    out.shape, out.type = y.shape, y.type
    return out
