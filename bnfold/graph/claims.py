"""Shapes that a file declares of what it computes: claims, which its own operators confirm or contradict.

The shapes of graph inputs are contracts, which a runtime checks. Those of outputs and of the values in between are
remarks that an exporter, or a tool that changed the graph since, left in the file: no runtime needs them to be true.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.inference import infer_shapes
from bnfold.graph.operators import kind_of

__all__ = ["settle_claims"]

log = logging.getLogger("bnfold.graph")
_N_NAMED = 3


def settle_claims(model: ir.Model) -> None:
    """Leave every value with the shape that follows from inputs and parameters, in place.

    What a claim adds, where nothing contradicts any of them, are ranks that cannot be inferred, and names of lengths:
    equal names help to follow a Reshape. A number that is only claimed is forgotten, or it would become a constant of
    the graph. One contradiction, and no claim is believed: they are of another graph. An output keeps what is declared,
    if nothing contradicts it and nothing could be made of it; a rank it keeps in any case, which ONNX wants.
    """
    claims = {value: value.shape for value in _computed(model) if value.shape is not None}
    for value in claims:
        value.shape = None
    infer_shapes(model)
    wrong = [value for value, claim in claims.items() if value.shape is not None and _contradict(claim, value.shape)]
    if wrong:
        named = ", ".join(
            f"`{value.name}` {_text(claims[value])}, computed {_text(value.shape)}" for value in wrong[:_N_NAMED]
        )
        more = f" and {len(wrong) - _N_NAMED} more" if len(wrong) > _N_NAMED else ""
        log.warning(
            "the file declares shapes that its own operators contradict: %s%s; none of them is used", named, more
        )
    known = _names(value.shape for value in model.graph.inputs)
    for value, claim in claims.items():
        if not wrong:
            value.shape = _of_output(value, claim) if value.is_graph_output() else _merged(value.shape, claim, known)
        elif value.shape is None and value.is_graph_output():
            value.shape = ir.Shape([None] * len(claim))


def _computed(model: ir.Model) -> Iterable[ir.Value]:
    """Every value that a node writes, subgraphs included."""
    return (value for node in ir.traversal.RecursiveGraphIterator(model.graph) for value in node.outputs)


def _contradict(a: ir.Shape, b: ir.Shape) -> bool:
    """Whether two shapes cannot both be true: other ranks, or other numbers on one axis."""
    pairs = zip(a, b, strict=False)
    return len(a) != len(b) or any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in pairs)


def _names(shapes: Iterable[ir.Shape | None]) -> set[str]:
    return {size.value for shape in shapes for size in shape or () if isinstance(size, ir.SymbolicDim) and size.value}


def _merged(inferred: ir.Shape | None, claim: ir.Shape, known: set[str]) -> ir.Shape:
    """The inferred shape, with the claim's names where it has none that an input has."""
    sizes: list[int | ir.SymbolicDim] = []
    for axis, claimed in enumerate(claim):
        size = ir.SymbolicDim(None) if inferred is None else inferred[axis]
        is_named = isinstance(size, int) or size.value in known
        sizes.append(size if is_named or isinstance(claimed, int) or claimed.value is None else claimed)
    return ir.Shape(sizes)


def _of_output(value: ir.Value, claim: ir.Shape) -> ir.Shape:
    """An output as it is declared, which is how its readers know it.

    Without numbers that nothing confirms where these could become a constant: the shape of the Reshape that writes it,
    or of what reads it in the graph.
    """
    producer = value.producer()
    if not value.uses() and (producer is None or kind_of(producer) != op.Reshape):
        return claim
    found = [None] * len(claim) if value.shape is None else [*value.shape]
    pairs = zip(claim, found, strict=True)
    return ir.Shape([None if isinstance(size, int) and size != inner else size for size, inner in pairs])


def _text(shape: ir.Shape | None) -> str:
    """`? x 1 x 8210`."""
    sizes = [size if isinstance(size, int) else size.value or "?" for size in shape or ()]
    return " x ".join(map(str, sizes)) or "one number"
