"""Groups of operators that a runtime computes in one kernel, if it finds them as the exporter wrote them.

Before opset 17 a LayerNormalization is nine operators in a file, before opset 20 a Gelu five or eight. ONNX Runtime
puts them together again (gelu_fusion.cc, fast_gelu_fusion.cc, layer_norm_fusion.cc), by their operators and constants.
To take a constant out of such a group saves a multiplication and loses the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant
from bnfold.graph.operators import kind_of

__all__ = ["FusedKernel", "fused_kernels"]

_CLOSE = 1e-2  # exporters round the constants, and float16 does
_TANH_SCALE = math.sqrt(2 / math.pi)
_MOST = 8  # operators from x to the tanh, at most


@dataclass(frozen=True)
class FusedKernel:
    """One group.

    Attributes:
        name: the operator that it amounts to.
        whole: operators whose constants are part of what the runtime looks for.
        affine: the scale and the bias per channel behind a normalisation, whose values are free.
    """

    name: str
    whole: tuple[ir.Node, ...]
    affine: tuple[ir.Node, ...] = ()


def fused_kernels(graph: ir.Graph) -> Iterator[FusedKernel]:
    """The groups of a graph, not of those inside it; constants must be initializers."""
    for node in graph:
        kind = kind_of(node)
        if kind == op.Erf:
            found = _gelu(node)
        elif kind == op.Tanh:
            found = _tanh_gelu(node)
        elif kind == op.Sqrt or (kind == op.Pow and _is(node.inputs[1], 0.5)):
            found = _normalisation(node)
        else:
            continue
        if found is not None:
            yield found


def _gelu(erf: ir.Node) -> FusedKernel | None:
    """`x (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""
    scaled = _writer(erf.inputs[0], op.Div, op.Mul)
    if scaled is None:
        return None
    factor = math.sqrt(2) if kind_of(scaled) == op.Div else math.sqrt(0.5)
    gate = _gate(erf)
    return FusedKernel(op.Gelu, (scaled, erf, *gate)) if gate and _other(scaled, factor) is not None else None


def _tanh_gelu(tanh: ir.Node) -> FusedKernel | None:
    """`x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, its approximation, in any order of its factors."""
    inside, waiting = list[ir.Node](), [tanh.inputs[0]]
    while waiting:
        node = _writer(waiting.pop(), op.Add, op.Mul, op.Pow)
        if node is not None and node not in inside:
            inside.append(node)
            is_power = kind_of(node) == op.Pow or node.inputs[0] is node.inputs[1]
            waiting += [] if is_power else [value for value in node.inputs if constant(value) is None]
        if len(inside) > _MOST:
            return None
    gate = _gate(tanh)
    scales = any(_other(node, _TANH_SCALE) is not None for node in inside if kind_of(node) == op.Mul)
    return FusedKernel(op.Gelu, (*inside, tanh, *gate)) if gate and scales else None


def _gate(function: ir.Node) -> tuple[ir.Node, ...]:
    """`x (1 + f) / 2` behind the node that computes f, wherever it is halved; nothing where that is not there."""
    plus = _reader(function.outputs[0], op.Add)
    times = _reader(plus.outputs[0], op.Mul) if plus is not None and _other(plus, 1.0) is not None else None
    if plus is None or times is None:
        return ()
    halves = [_reader(times.outputs[0], op.Mul), *(_writer(value, op.Mul) for value in times.inputs)]
    return (plus, times, *(node for node in halves if node is not None and _other(node, 0.5) is not None))


def _normalisation(root: ir.Node) -> FusedKernel | None:
    """LayerNormalization (Ba et al. 2016, arXiv:1607.06450) or RMSNormalization over the last axis.

    `d / sqrt(mean(d^2) + eps) gamma + beta`, d = x - mean(x), or d = x without beta.
    """
    plus = _writer(root.inputs[0], op.Add)
    mean = _writer(_data(plus), op.ReduceMean) if plus is not None else None
    square = _writer(mean.inputs[0], op.Pow, op.Mul) if mean is not None and _is_last(mean) else None
    if plus is None or mean is None or square is None:
        return None
    quotient = _reader(root.outputs[0], op.Div, op.Reciprocal)
    if quotient is not None and (kind_of(quotient) == op.Reciprocal or constant(quotient.inputs[0]) is not None):
        quotient = _reader(quotient.outputs[0], op.Mul)
    if quotient is None:
        return None
    scale = _reader(_uncast(quotient.outputs[0]), op.Mul)
    if scale is None or _data(scale) is None:
        return None
    bias = _reader(scale.outputs[0], op.Add)
    name = op.RMSNormalization if bias is None or _data(bias) is None else op.LayerNormalization
    affine = (scale,) if bias is None or _data(bias) is None else (scale, bias)
    return FusedKernel(name, (square, mean, plus, root), affine)


def _uncast(value: ir.Value) -> ir.Value:
    cast = _reader(value, op.Cast)
    return value if cast is None else cast.outputs[0]


def _is_last(mean: ir.Node) -> bool:
    """Whether a ReduceMean is one over the last axis alone."""
    given = mean.attributes.get("axes")
    axes = constant(mean.inputs[1]) if len(mean.inputs) > 1 else None if given is None else given.as_ints()
    if axes is None or len(axes) != 1:
        return False
    shape = mean.inputs[0].shape if mean.inputs[0] is not None else None
    return int(axes[0]) == -1 or (shape is not None and int(axes[0]) == len(shape) - 1)


def _writer(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The operator that computes a value, if it is one of these kinds."""
    node = None if value is None else value.producer()
    return node if node is not None and kind_of(node) in kinds else None


def _reader(value: ir.Value, *kinds: str) -> ir.Node | None:
    """The operator that alone reads a value, if it is one of these kinds."""
    readers = [use.node for use in value.uses()]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() and kind_of(readers[0]) in kinds else None


def _data(node: ir.Node) -> ir.Value | None:
    """What an operator of two operands computes with a constant; None where neither or both are constant."""
    first, second = node.inputs[:2]
    constants = (constant(first) is not None, constant(second) is not None)
    return {(False, True): first, (True, False): second}.get(constants)


def _other(node: ir.Node, expected: float) -> ir.Value | None:
    """What an operator computes with the constant number `expected`; None where it does not."""
    data = _data(node)
    return data if data is not None and any(_is(value, expected) for value in node.inputs) else None


def _is(value: ir.Value | None, expected: float) -> bool:
    """Whether a value is a constant, one number, about the expected one."""
    array = constant(value)
    return array is not None and array.size == 1 and math.isclose(float(array.item()), expected, rel_tol=_CLOSE)
