"""A value as a sum of convolutions, each of one tensor.

A term is a Conv, the tensor itself (a Dirac kernel), or an average pooling, and BatchNorms, constant Mul and Add, sums
and differences of these. ONNX operators Conv and AveragePool.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.affine import channel_affine
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, constant_shape, float64_constant
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.graph.shapes import dims_of, static_length
from bnfold.numerics.convolution import Convolution

__all__ = ["Term", "is_sum", "terms_of_sum"]

_SUMS = having(Trait.SUM)
_MAY_BE_LINEAR = _SUMS | {op.AveragePool, op.BatchNormalization, op.Conv, op.Div, op.Dropout, op.Identity, op.Mul}
# How many operators deep a value is described: blocks are a few deep, and a chain of sums would take quadratic time.
_DEEPEST = 32


@dataclass(frozen=True)
class Term:
    """One convolution of one source in a sum; `value` is what is added if nothing scales it on the way, else None.

    `macs` are the multiply-adds of the convolutions that the graph takes for it.
    """

    source: ir.Value
    conv: Convolution
    nodes: tuple[ir.Node, ...] = ()
    value: ir.Value | None = None
    negative: bool = False
    macs: int = 0


def is_sum(node: ir.Node) -> bool:
    """A sum of tensors of one rank, batch and number of channels, with one spatial axis at least.

    That terms of one source have one size follows from their padding, whatever that size is.
    """
    shape = dims_of(node.outputs[0])
    if kind_of(node) not in _SUMS or shape is None or len(shape) < 3:
        return False
    operands = [dims_of(x) if x is not None and constant(x) is None else None for x in node.inputs]
    return all(dims is not None and len(dims) == len(shape) and dims[:2] == shape[:2] for dims in operands)


def terms_of_sum(root: ir.Node) -> list[Term] | None:
    """The terms of a sum that may have a source in common; None if none can, or the channels are unknown."""
    return _operand_terms(root, _DEEPEST) if _may_share_a_source(root) else None


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
        if node is not None and len(value.uses()) == 1 and kind_of(node) in _MAY_BE_LINEAR:
            todo += node.inputs
    return False


def _operand_terms(node: ir.Node, depth: int) -> list[Term] | None:
    """The terms of a sum; None if the channels of an operand are unknown."""
    terms: list[Term] = []
    for k, x in enumerate(node.inputs):
        inner = _terms(x, node.graph, depth) if x is not None else None
        if inner is None:
            return None
        terms += [_negated(term) for term in inner] if kind_of(node) == op.Sub and k == 1 else inner
    return terms


def _negated(term: Term) -> Term:
    minus = -np.ones_like(term.conv.bias)
    return replace(term, conv=term.conv.scaled(minus, 0 * minus), negative=not term.negative)


def _terms(value: ir.Value, graph: ir.Graph | ir.Function | None, depth: int) -> list[Term] | None:
    """Describe a value as a sum of convolutions; what others read as well, or another graph computes, is a source."""
    node, channels = value.producer(), static_length(value, 1)
    if channels is None or value.shape is None or (rank := len(value.shape)) < 3:
        return None
    leaf = [Term(value, Convolution.identity(channels, rank - 2), (), value)]
    if node is None or node.graph is not graph or not depth:
        return leaf
    if len(value.uses()) != 1 or value.is_graph_output():
        return leaf
    if kind_of(node) in (op.Identity, op.Dropout) and node.inputs[0] is not None and not node.inputs[1:]:
        return _terms(node.inputs[0], graph, depth - 1)
    if is_sum(node):
        return _operand_terms(node, depth - 1) or leaf
    if kind_of(node) in (op.Conv, op.AveragePool):
        conv = _described(node)
        x = node.inputs[0]
        if conv is None or x is None:
            return leaf
        return [Term(x, conv, (node,), value, macs=conv.weight.size if kind_of(node) == op.Conv else 0)]
    return _scaled_terms(node, value, channels, depth) or leaf


def _scaled_terms(node: ir.Node, value: ir.Value, channels: int, depth: int) -> list[Term] | None:
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
    weight = _average_kernel(node) if kind_of(node) == op.AveragePool else float64_constant(node.inputs[1])
    if weight is None:
        return None
    bias = np.zeros(weight.shape[0])
    if kind_of(node) == op.Conv and len(node.inputs) > 2 and node.inputs[2] is not None:
        given = float64_constant(node.inputs[2])
        if given is None or given.shape != bias.shape:
            return None
        bias = given
    rank = weight.ndim - 2
    strides, dilations = (tuple(attribute(node, name, [1] * rank)) for name in ("strides", "dilations"))
    pads = tuple(attribute(node, "pads", [0] * 2 * rank))
    spans = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
    slack = tuple(pads[k] + pads[k + rank] - spans[k] for k in range(rank))
    group = weight.shape[0] if kind_of(node) == op.AveragePool else attribute(node, "group", 1)
    return Convolution(weight, bias, tuple(-p for p in pads[:rank]), slack, strides, dilations, group)


def _average_kernel(node: ir.Node) -> np.ndarray | None:
    kernel = attribute(node, "kernel_shape", None)
    channels = static_length(node.outputs[0], 1)
    padded = any(attribute(node, "pads", ()))
    if channels is None or attribute(node, "ceil_mode", 0) or (padded and not attribute(node, "count_include_pad", 0)):
        return None
    return np.full((channels, 1, *kernel), 1 / np.prod(kernel))
