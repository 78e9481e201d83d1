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
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure, attempted
from bnfold.graph.constants import store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import Trait, kind_of
from bnfold.graph.scaled import fits, largest
from bnfold.graph.shapes import static_length
from bnfold.records.ledger import MergedBranches

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

    @property
    def is_blocked(self) -> bool:
        """Whether ONNX Runtime has a blocked kernel for a term: a convolution, or a BatchNorm of what one computes."""
        kinds = {kind_of(node) for term in self.terms for node in term.nodes}
        return op.Conv in kinds or (op.BatchNormalization in kinds and _is_convolved(self.terms[0].source))


def _is_convolved(value: ir.Value) -> bool:
    """Whether a convolution computes a value, but for operators that leave the layout in blocks."""
    node = value.producer()
    while node is not None and kind_of(node).has(Trait.KEEPS_BLOCKS) and node.inputs and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node is not None and kind_of(node) == op.Conv


def merge_branches(
    graph: ir.Graph, blocked: set[ir.Node], account: list[MergedBranches] | None = None
) -> dict[ir.Node, str]:
    """Merge what can be merged, in place.

    Args:
        graph: the graph.
        blocked: takes the Mul and Add that scale or shift in the place of a blocked convolution of ONNX Runtime, for
            `bnfold.folding.blocked_scales`.
        account: takes what was merged, sum by sum.

    Returns:
        The BatchNorms that went, with the layer that took each.
    """
    merged: dict[ir.Node, str] = {}
    for node in reversed(list(graph)):
        in_use = node.graph is graph and (node.outputs[0].uses() or node.outputs[0].is_graph_output())
        if in_use and is_sum(node):
            merged |= _merge_sum(graph, node, blocked, account)
    return merged


def _size(value: ir.Value) -> tuple[int | None, ...]:
    """The lengths of the spatial axes, None where unknown."""
    return tuple(static_length(value, axis) for axis in range(2, len(value.shape or ())))


def _merge_sum(
    graph: ir.Graph, root: ir.Node, blocked: set[ir.Node], account: list[MergedBranches] | None
) -> dict[ir.Node, str]:
    name = layer_name(root)
    found = attempted(f"merging the branches of {root.op_type}", f"`{name}`", lambda: _gained(root))
    if found is None or isinstance(found, Failure):
        return {}
    gained, alone = found
    _rebuild(graph, root, gained, alone, blocked)
    nodes = [node for group in gained for term in group.terms for node in term.nodes]
    if account is not None:
        account.append(MergedBranches(name, tuple(dict.fromkeys(layer_name(node) for node in nodes))))
    return {node: name for node in nodes if kind_of(node) == op.BatchNormalization}


def _gained(root: ir.Node) -> tuple[list[_Merged], list[Term]] | None:
    """What becomes one convolution each, and the terms that stay as they are; None where nothing is gained."""
    terms = terms_of_sum(root)
    if terms is None:
        return None
    groups = _grouped(terms)
    dtype = root.outputs[0].dtype or ir.DataType.FLOAT
    pays = [group.pays and _fits(group.conv, dtype) for group in groups]
    gained = [group for group, gain in zip(groups, pays, strict=True) if gain]
    alone = [term for group, gain in zip(groups, pays, strict=True) if not gain for term in group.terms]
    return None if not gained or any(term.value is None for term in alone) else (gained, alone)


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


def _rebuild(graph: ir.Graph, root: ir.Node, gained: list[_Merged], alone: list[Term], blocked: set[ir.Node]) -> None:
    """Put the merged convolutions, plus what could not be merged, in the place of a sum."""
    y = root.outputs[0]
    parts = [_emit(graph, root, group, blocked) for group in gained]
    rest = [(part, False) for part in parts[1:]] + [(t.value, t.negative) for t in alone if t.value is not None]
    total, unknown = parts[0], (None,) * len(gained[0].conv.kernel)
    if kind_of(root) == op.Sum and rest and not any(negative for _, negative in rest):
        total = _insert(graph, root, op.Sum, [total, *(part for part, _ in rest)], unknown)
        rest = []
    for part, negative in rest:
        total = _insert(graph, root, op.Sub if negative else op.Add, [total, part], unknown)
    total.shape = y.shape
    take_over(total, y)
    ir.convenience.replace_all_uses_with(y, total, replace_graph_outputs=True)
    if total.is_graph_output():
        total.name, y.name = y.name, None
    graph.remove(root, safe=True)


def _emit(graph: ir.Graph, root: ir.Node, group: _Merged, blocked: set[ir.Node]) -> ir.Value:
    """Write a convolution in front of `root`; one that only scales and shifts as Mul and Add."""
    source, conv = group.terms[0].source, group.conv
    name, dtype, size = layer_name(root), root.outputs[0].dtype or ir.DataType.FLOAT, conv.lengths(_size(source))
    shape = (-1, *[1] * len(conv.kernel)) if conv.is_scale else conv.weight.shape
    weight = store_constant(graph, f"{name}.weight", conv.weight.reshape(shape), dtype, rounded=False)
    bias = None
    if conv.bias.any():
        array = conv.bias.reshape(shape) if conv.is_scale else conv.bias
        bias = store_constant(graph, f"{name}.bias", array, dtype, rounded=False)
    if conv.is_scale:
        made = [_insert(graph, root, op.Mul, [source, weight], size)]
        if bias is not None:
            made.append(_insert(graph, root, op.Add, [made[0], bias], size))
        blocked |= {node for y in made if group.is_blocked and (node := y.producer()) is not None}
        return made[-1]
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": list(conv.kernel),
        "pads": list(conv.pads),
        "strides": list(conv.strides),
        "dilations": list(conv.dilations),
        "group": conv.group,
    }
    return _insert(
        graph, root, op.Conv, [source, weight] if bias is None else [source, weight, bias], size, attributes=attributes
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
