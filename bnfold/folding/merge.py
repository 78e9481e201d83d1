"""Merge linear branches: a sum of convolutions of one tensor is one convolution.

    sum_k (s_k (W_k * x) + t_k)  =  (sum_k s_k W_k) * x + sum_k t_k

A value is described as one convolution of one source tensor: a Conv, the source itself (a Dirac kernel), an average
pooling, and BatchNorms, constant Mul and Add, sums and differences of these. Terms of one source become one operator
if that takes no more multiply-adds than their convolutions did; poolings and scales count as none. Source: RepVGG
(Ding et al. 2021, arXiv:2101.03697), section 3.3, of which the blocks of MobileOne, FastViT, RepViT and RepGhost are
variants; ONNX operators Conv and AveragePool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.affine import channel_affine
from bnfold.graph.constants import attribute, constant, constant_shape, float64_constant, store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.scaled import fits, largest
from bnfold.graph.shapes import dims_of, static_length
from bnfold.numerics.convolution import Convolution

__all__ = ["merge_branches"]

_SUMS = frozenset({"Add", "Sub", "Sum"})
_MAY_BE_LINEAR = _SUMS | {"AveragePool", "BatchNormalization", "Conv", "Div", "Dropout", "Identity", "Mul"}
# How many operators deep a value is described: blocks are a few deep, and a chain of sums would take quadratic time.
_DEEPEST = 32


@dataclass(frozen=True)
class _Term:
    """One convolution of one source in a sum; `value` is what is added if nothing scales it on the way, else None.

    `macs` are the multiply-adds of the convolutions that the graph takes for it.
    """

    source: ir.Value
    conv: Convolution
    nodes: tuple[ir.Node, ...] = ()
    value: ir.Value | None = None
    negative: bool = False
    macs: int = 0


@dataclass(frozen=True)
class _Merged:
    """Terms of one source as one convolution."""

    terms: tuple[_Term, ...]
    conv: Convolution
    macs: int

    def joined(self, term: _Term) -> _Merged | None:
        """With one more term, None if that is no convolution or costs more than the two."""
        macs = self.macs + term.macs
        if not self.conv.adds_to(term.conv, _size(term.source)) or self.conv.macs_of_sum(term.conv) > macs:
            return None
        return _Merged((*self.terms, term), self.conv + term.conv, macs)

    @property
    def pays(self) -> bool:
        """Whether an operator goes: not so for x + x, nor for one term alone."""
        return len(self.terms) > 1 and any(term.nodes for term in self.terms)


def merge_branches(graph: ir.Graph) -> dict[ir.Node, str]:
    """Merge what can be merged, in place; returns the BatchNorms that went, with the layer that took each."""
    merged: dict[ir.Node, str] = {}
    for node in reversed(list(graph)):
        in_use = node.graph is graph and (node.outputs[0].uses() or node.outputs[0].is_graph_output())
        if in_use and _is_sum(node):
            merged |= _merge_sum(graph, node)
    return merged


def _is_sum(node: ir.Node) -> bool:
    """A sum of tensors of one rank, batch and number of channels, with one spatial axis at least.

    That terms of one source have one size follows from their padding, whatever that size is.
    """
    shape = dims_of(node.outputs[0])
    if node.op_type not in _SUMS or node.domain not in ("", "ai.onnx") or shape is None or len(shape) < 3:
        return False
    operands = [dims_of(x) if x is not None and constant(x) is None else None for x in node.inputs]
    return all(dims is not None and len(dims) == len(shape) and dims[:2] == shape[:2] for dims in operands)


def _size(value: ir.Value) -> tuple[int | None, ...]:
    """The lengths of the spatial axes, None where unknown."""
    return tuple(static_length(value, axis) for axis in range(2, len(value.shape or ())))


def _may_share_a_source(root: ir.Node) -> bool:
    """Whether two ways up from a sum, through what may be linear, meet: without that no arrays need be computed."""
    seen: set[ir.Value] = set()
    todo = list(root.inputs)
    while todo:
        value = todo.pop()
        if value is None or constant_shape(value) is not None:
            continue
        if value in seen:
            return True
        seen.add(value)
        node = value.producer()
        if node is not None and len(value.uses()) == 1 and node.op_type in _MAY_BE_LINEAR:
            todo += node.inputs
    return False


def _merge_sum(graph: ir.Graph, root: ir.Node) -> dict[ir.Node, str]:
    terms = _operand_terms(root, _DEEPEST) if _may_share_a_source(root) else None
    if terms is None:
        return {}
    groups = _grouped(terms)
    dtype = root.outputs[0].dtype or ir.DataType.FLOAT
    pays = [group.pays and _fits(group.conv, dtype) for group in groups]
    gained = [group for group, gain in zip(groups, pays, strict=True) if gain]
    alone = [term for group, gain in zip(groups, pays, strict=True) if not gain for term in group.terms]
    if not gained or any(term.value is None for term in alone):
        return {}
    _rebuild(graph, root, gained, alone)
    name = layer_name(root)
    nodes = (node for group in gained for term in group.terms for node in term.nodes)
    return {node: name for node in nodes if node.op_type == "BatchNormalization"}


def _fits(conv: Convolution, dtype: ir.DataType) -> bool:
    """Whether the parameters stay in the range of the type they are stored in."""
    return all(fits(largest(array), dtype) for array in (conv.weight, conv.bias))


def _grouped(terms: list[_Term]) -> list[_Merged]:
    """Merge what costs no more together; the dearest first, as what they take they hold for the others too."""
    groups: list[_Merged] = []
    for term in sorted(terms, key=lambda term: -term.macs):
        for k, group in enumerate(groups):
            if group.terms[0].source is term.source and (joined := group.joined(term)) is not None:
                groups[k] = joined
                break
        else:
            groups.append(_Merged((term,), term.conv, term.macs))
    return groups


def _operand_terms(node: ir.Node, depth: int) -> list[_Term] | None:
    """The terms of a sum; None if the channels of an operand are unknown."""
    terms: list[_Term] = []
    for k, x in enumerate(node.inputs):
        inner = _terms(x, node.graph, depth) if x is not None else None
        if inner is None:
            return None
        terms += [_negated(term) for term in inner] if node.op_type == "Sub" and k == 1 else inner
    return terms


def _negated(term: _Term) -> _Term:
    minus = -np.ones_like(term.conv.bias)
    return replace(term, conv=term.conv.scaled(minus, 0 * minus), negative=not term.negative)


def _terms(value: ir.Value, graph: ir.Graph | ir.Function | None, depth: int) -> list[_Term] | None:
    """Describe a value as a sum of convolutions; what others read as well, or another graph computes, is a source."""
    node, channels = value.producer(), static_length(value, 1)
    if channels is None or value.shape is None or (rank := len(value.shape)) < 3:
        return None
    leaf = [_Term(value, Convolution.identity(channels, rank - 2), (), value)]
    if node is None or node.graph is not graph or node.domain not in ("", "ai.onnx") or not depth:
        return leaf
    if len(value.uses()) != 1 or value.is_graph_output():
        return leaf
    if node.op_type in ("Identity", "Dropout") and node.inputs[0] is not None and not node.inputs[1:]:
        return _terms(node.inputs[0], graph, depth - 1)
    if _is_sum(node):
        return _operand_terms(node, depth - 1) or leaf
    if node.op_type in ("Conv", "AveragePool"):
        conv = _described(node)
        x = node.inputs[0]
        if conv is None or x is None:
            return leaf
        return [_Term(x, conv, (node,), value, macs=conv.weight.size if node.op_type == "Conv" else 0)]
    return _scaled_terms(node, value, channels, depth) or leaf


def _scaled_terms(node: ir.Node, value: ir.Value, channels: int, depth: int) -> list[_Term] | None:
    """The terms of a BatchNorm, or constant Mul, Div, Add, Sub per channel, of a sum."""
    found = channel_affine(node, channels)
    if found is None:
        return None
    x, scale, shift = found
    inner = _terms(x, node.graph, depth - 1)
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


def _rebuild(graph: ir.Graph, root: ir.Node, gained: list[_Merged], alone: list[_Term]) -> None:
    """Put the merged convolutions, plus what could not be merged, in the place of a sum."""
    y = root.outputs[0]
    parts = [_emit(graph, root, group.terms[0].source, group.conv) for group in gained]
    rest = [(part, False) for part in parts[1:]] + [(t.value, t.negative) for t in alone if t.value is not None]
    total, unknown = parts[0], (None,) * len(gained[0].conv.kernel)
    if root.op_type == "Sum" and rest and not any(negative for _, negative in rest):
        total = _insert(graph, root, "Sum", [total, *(part for part, _ in rest)], unknown)
        rest = []
    for part, negative in rest:
        total = _insert(graph, root, "Sub" if negative else "Add", [total, part], unknown)
    total.shape = y.shape
    ir.convenience.replace_all_uses_with(y, total, replace_graph_outputs=True)
    if total.is_graph_output():
        total.name, y.name = y.name, None
    graph.remove(root, safe=True)


def _emit(graph: ir.Graph, root: ir.Node, source: ir.Value, conv: Convolution) -> ir.Value:
    """Write a convolution in front of `root`; one that only scales and shifts as Mul and Add."""
    name, dtype, size = layer_name(root), root.outputs[0].dtype or ir.DataType.FLOAT, conv.lengths(_size(source))
    shape = (-1, *[1] * len(conv.kernel)) if conv.is_scale else conv.weight.shape
    weight = store_constant(graph, f"{name}.weight", conv.weight.reshape(shape), dtype, rounded=False)
    bias = None
    if conv.bias.any():
        array = conv.bias.reshape(shape) if conv.is_scale else conv.bias
        bias = store_constant(graph, f"{name}.bias", array, dtype, rounded=False)
    if conv.is_scale:
        scaled = _insert(graph, root, "Mul", [source, weight], size)
        return scaled if bias is None else _insert(graph, root, "Add", [scaled, bias], size)
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": list(conv.kernel),
        "pads": list(conv.pads),
        "strides": list(conv.strides),
        "dilations": list(conv.dilations),
        "group": conv.group,
    }
    return _insert(
        graph, root, "Conv", [source, weight] if bias is None else [source, weight, bias], size, attributes=attributes
    )


def _insert(
    graph: ir.Graph,
    root: ir.Node,
    op_type: str,
    inputs: list[ir.Value],
    size: tuple[int | None, ...],
    *,
    attributes: dict[str, int | list[int]] | None = None,
) -> ir.Value:
    """A new node in front of `root`, of the same layer; its output is like the root's, with spatial axes of `size`."""
    node = ir.node(op_type, inputs, attributes or {}, metadata_props=dict(root.metadata_props))
    graph.insert_before(root, node)
    y, out = root.outputs[0], node.outputs[0]
    out.shape, out.type = ir.Shape([*list(y.shape or ())[:2], *size]), y.type
    return out
