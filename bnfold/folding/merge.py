"""Merge linear branches: a sum of convolutions of one tensor is one convolution.

    sum_k (s_k (W_k * x) + t_k)  =  (sum_k s_k W_k) * x + sum_k t_k

The sum is described by its terms (`bnfold.folding.terms`). Terms of one source become one operator if that takes
no more multiply-adds than their convolutions did; poolings and scales count as none. Source: RepVGG (Ding et al. 2021,
arXiv:2101.03697), section 3.3, of which the blocks of MobileOne, FastViT, RepViT and RepGhost are variants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from bnfold.folding.provenance import take_over
from bnfold.folding.terms import Term, is_sum, terms_of_sum
from bnfold.graph.constants import store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.scaled import fits, largest
from bnfold.graph.shapes import static_length

if TYPE_CHECKING:
    from bnfold.numerics.convolution import Convolution

__all__ = ["merge_branches"]


@dataclass(frozen=True)
class _Merged:
    """Terms of one source as one convolution."""

    terms: tuple[Term, ...]
    conv: Convolution
    macs: int

    def joined(self, term: Term) -> _Merged | None:
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
        if in_use and is_sum(node):
            merged |= _merge_sum(graph, node)
    return merged


def _size(value: ir.Value) -> tuple[int | None, ...]:
    """The lengths of the spatial axes, None where unknown."""
    return tuple(static_length(value, axis) for axis in range(2, len(value.shape or ())))


def _merge_sum(graph: ir.Graph, root: ir.Node) -> dict[ir.Node, str]:
    terms = terms_of_sum(root)
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


def _grouped(terms: list[Term]) -> list[_Merged]:
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


def _rebuild(graph: ir.Graph, root: ir.Node, gained: list[_Merged], alone: list[Term]) -> None:
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
    take_over(total, y)
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
