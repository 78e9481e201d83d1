"""The least sizes at which a region can be proven: as large as its kernels, borders included, and no larger.

Axes may be shortened where every operator treats all positions along them alike: space for convolutions, poolings and
what works element by element; all axes but the last for linear layers over the last one. Else the sizes of a run stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import helper

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import NodeProto

    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.regions import Slice
    from bnfold.verification.certificate.sizes import Shape

__all__ = ["reach", "shortened", "shortened_axes"]

_ELEMENTWISE = frozenset(
    {op.Abs, op.Add, op.Cast, op.Ceil, op.Celu, op.Clip, op.Cos, op.Div, op.Dropout, op.Elu, op.Erf, op.Exp}
    | {
        op.ContribGelu,
        op.Floor,
        op.Gelu,
        op.HardSigmoid,
        op.HardSwish,
        op.Identity,
        op.LeakyRelu,
        op.Log,
        op.Max,
        op.Mean,
        op.Min,
        op.Mish,
    }
    | {op.Mul, op.Neg, op.PRelu, op.Pow, op.Reciprocal, op.Relu, op.Round, op.Selu, op.Sigmoid, op.Sign, op.Sin}
    | {op.Softplus, op.Softsign, op.Sqrt, op.Sub, op.Sum, op.Tanh, op.ThresholdedRelu, op.Where}
)
_WINDOWED = frozenset({op.AveragePool, op.Conv, op.ConvTranspose, op.LpPool, op.MaxPool})
_OVER_SPACE = frozenset(
    {op.BatchNormalization, op.GlobalAveragePool, op.GlobalMaxPool, op.InstanceNormalization}
    | {op.GroupNormalization, op.LRN}
)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def shortened_axes(parts: Sequence[tuple[Graph, Slice]], rank: int) -> str:
    """Which axes may be shortened: "space", "rows" (all but the last), or "" for none."""
    nodes = [(graph, node) for graph, part in parts for node in part.nodes]
    for name, graph in ((n, g) for g, part in parts for n in part.constants):
        if not graph.is_constant(name):
            return ""  # computed from the shapes of a run
    if rank >= 3 and all(_spatial(graph, node, rank) for graph, node in nodes):
        return "space"
    return "rows" if rank >= 2 and all(_by_row(graph, node, rank) for graph, node in nodes) else ""


def _constant_shapes(graph: Graph, node: NodeProto) -> Iterator[Shape]:
    for name in node.input:
        if name and graph.is_constant(name):
            yield graph.constant(name).shape if graph.shape(name) is None else graph.shape(name) or ()


def _spatial(graph: Graph, node: NodeProto, rank: int) -> bool:
    values = attributes(node)
    if kind_of(node) in _ELEMENTWISE:
        own = _constant_shapes(graph, node)
        return all(len(s) <= rank and all(n == 1 for k, n in enumerate(s, rank - len(s)) if k != 1) for s in own)
    if kind_of(node) in _WINDOWED:
        return "output_shape" not in values and len(node.output) == 1
    if kind_of(node) in _OVER_SPACE:
        return True
    if kind_of(node) in (op.Concat, op.Split):
        return int(values.get("axis", 0)) % rank == 1
    if kind_of(node) == op.Gather:
        return int(values.get("axis", 0)) % rank == 1 and graph.is_constant(node.input[1])
    if kind_of(node) == op.Slice and len(node.input) > 3 and node.input[3] and graph.is_constant(node.input[3]):
        return all(int(axis) % rank == 1 for axis in graph.constant(node.input[3]).ravel())
    if kind_of(node) == op.Pad and len(node.input) > 1 and graph.is_constant(node.input[1]) and len(node.input) < 4:
        return True
    if kind_of(node) == op.ReduceMean:
        axes = graph.constant(node.input[1]) if len(node.input) > 1 and graph.is_constant(node.input[1]) else None
        found = values.get("axes") if axes is None else axes.ravel()
        return found is not None and sorted(int(a) % rank for a in found) == list(range(2, rank))
    return False


def _by_row(graph: Graph, node: NodeProto, rank: int) -> bool:
    if kind_of(node) in _ELEMENTWISE:
        own = _constant_shapes(graph, node)
        return all(len(s) <= rank and all(n == 1 for n in s[:-1]) for s in own)
    if kind_of(node) == op.MatMul:
        return graph.is_constant(node.input[1]) and len(graph.shape(node.input[1]) or ()) == 2
    if kind_of(node) == op.Gemm:
        return not attributes(node).get("transA", 0) and graph.is_constant(node.input[1])
    return kind_of(node) == op.LayerNormalization and int(attributes(node).get("axis", -1)) in (-1, rank - 1)


def reach(part: Slice, graph: Graph, axis: int) -> int:
    """How far an output sees along a spatial axis (0 is the first), and one stride more."""
    total = 1
    for node in part.nodes:
        values = attributes(node)
        if kind_of(node) == op.Pad:
            total += int(abs(graph.constant(node.input[1])).max(initial=0))
        if kind_of(node) not in _WINDOWED:
            continue
        kernel = values.get("kernel_shape") or (graph.shape(node.input[1]) or ())[2:]
        if axis >= len(kernel):
            continue
        dilation = (values.get("dilations") or [1] * len(kernel))[axis]
        stride = (values.get("strides") or [1] * len(kernel))[axis]
        total += (int(kernel[axis] or 1) - 1) * dilation + stride - 1
    return total


def shortened(
    shapes: Mapping[str, tuple[int, ...]],
    how: str,
    reaches: Sequence[int],
    fixed: Mapping[str, Sequence[int]],
    rows: int,
) -> dict[str, tuple[int, ...]] | None:
    """The shapes with shorter axes; None where they cannot all be shortened alike.

    Args:
        shapes: of the values that a region reads, from a run.
        how: see `shortened_axes`.
        reaches: by spatial axis.
        fixed: axes along which units or channels differ, by value.
        rows: length of axis 0.
    """
    rank = max((len(shape) for shape in shapes.values()), default=0)
    if any(len(shape) != rank for shape in shapes.values()):
        return None
    found = {name: list(shape) for name, shape in shapes.items()}
    for axis in range(2, rank) if how == "space" else range(1, rank - 1):
        lengths = {shape[axis] for shape in shapes.values() if shape[axis] != 1}
        if len(lengths) > 1 or any(axis in fixed[name] for name in shapes):
            return None
        least = reaches[axis - 2] + axis - 1 if how == "space" else axis + 2
        for shape in found.values():
            shape[axis] = min(shape[axis], least) if shape[axis] != 1 else 1
    batches = {shape[0] for shape in shapes.values()}
    if len(batches - {1}) <= 1:
        for shape in found.values():
            shape[0] = rows if shape[0] != 1 or batches == {1} else 1
    return {name: tuple(shape) for name, shape in found.items()}
