"""BatchNorms that an exporter, or the model itself, has taken apart, put together again: one node, one decision.

torchvision's FrozenBatchNorm2d, hand-written normalisations and Keras models that were not fused compute, with Sub,
Mul, Div and Add,

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta,    or
    y = s x + (beta - mean s)    with s = gamma / sqrt(variance + epsilon).

What tells them from any other scale and shift is the root of a constant vector plus a constant number. Without it (an
exporter has computed s and t already) the operators fold as what they are, but nothing says that they are a BatchNorm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.operands import per_channel
from bnfold.graph.computed import Computed
from bnfold.graph.constants import is_float, operand, store_constant
from bnfold.graph.inference import infer_shapes
from bnfold.graph.layers import layer_name, layer_of_parameter
from bnfold.graph.shapes import static_length
from bnfold.numerics.affine import Float64

__all__ = ["compose_batchnorms"]

_OLDEST_OPSET = 9  # from which on BatchNormalization is for inference and constants broadcast as in NumPy


@dataclass(frozen=True)
class _Affine:
    """Add, Sub, Mul or Div of data `x` and a constant, the operand at `index`."""

    node: ir.Node
    index: int

    @property
    def x(self) -> ir.Value:
        return operand(self.node, 1 - self.index)

    @property
    def constant(self) -> ir.Value:
        return operand(self.node, self.index)


@dataclass(frozen=True)
class _Parts:
    """The operators of one BatchNorm from x to y; `factor` divides by the deviation, `spread` is variance + epsilon."""

    operators: tuple[_Affine, ...]
    factor: _Affine
    spread: ir.Node
    mean: ir.Value | None

    @property
    def constants(self) -> Iterator[ir.Value]:
        """All that the parameters are computed from."""
        yield from (operator.constant for operator in self.operators)
        yield from (value for value in (*self.spread.inputs, self.mean) if value is not None)


def compose_batchnorms(model: ir.Model) -> None:
    """Replace each BatchNorm in parts along axis 1 by one BatchNormalization, in place; functions must be inlined.

    Source: Ioffe and Szegedy 2015 (arXiv:1502.03167), algorithm 2; ONNX operator BatchNormalization.
    """
    roots = [node for node in model.graph.all_nodes() if node.op_type in ("Pow", "Sqrt") and not node.domain]
    if not roots or model.opset_imports.get("", 0) < _OLDEST_OPSET:
        return
    constants = Computed(model)
    found = list(_Finder(constants).find(roots))
    if found:
        infer_shapes(model)
        values = constants.evaluate(value for parts in found for value in parts.constants)
        for parts in found:
            _replace(parts, values, constants)


class _Finder:
    def __init__(self, constants: Computed) -> None:
        self._constants = constants
        self._taken: set[ir.Node] = set()

    def find(self, roots: list[ir.Node]) -> Iterator[_Parts]:
        for root in roots:
            spread = root.inputs[0].producer() if root.inputs[0] is not None else None
            if spread is None or spread.op_type != "Add" or root.outputs[0] not in self._constants:
                continue
            for reader in self._readers(root.outputs[0]):
                factor = self._affine(reader, "Mul", "Div")
                if factor is not None:
                    yield from self._around(factor, spread)

    def _around(self, factor: _Affine, spread: ir.Node) -> Iterator[_Parts]:
        operators = (*self._before(factor), factor, *self._behind(factor))
        nodes = [operator.node for operator in operators]
        if self._taken.isdisjoint(nodes):
            self._taken.update(nodes)
            yield _Parts(operators, factor, spread, self._mean(operators, factor))

    def _readers(self, value: ir.Value) -> Iterator[ir.Node]:
        """The operators on data that read a constant, or what is computed from it."""
        for node in dict.fromkeys(use.node for use in value.uses()):
            if node.outputs[0] in self._constants:
                yield from self._readers(node.outputs[0])
            else:
                yield node

    def _affine(self, node: ir.Node | None, *operators: str) -> _Affine | None:
        if node is None or node.domain or node.op_type not in operators:
            return None
        first, second = (value in self._constants for value in node.inputs)
        if first == second or (first and node.op_type in ("Sub", "Div")):
            return None
        return _Affine(node, 0 if first else 1)

    def _before(self, factor: _Affine) -> tuple[_Affine, ...]:
        """`x - mean`, or `gamma (x - mean)`, that nothing else reads."""
        nearest = self._writer(factor, "Mul", "Sub")
        if nearest is None or nearest.node.op_type == "Sub":
            return () if nearest is None else (nearest,)
        centred = self._writer(nearest, "Sub")
        return () if centred is None else (centred, nearest)

    def _behind(self, factor: _Affine) -> tuple[_Affine, ...]:
        """`gamma y`, then `y + beta`, where nothing else reads y."""
        scaled = self._reader(factor, "Mul")
        shifted = self._reader(scaled or factor, "Add", "Sub")
        return tuple(operator for operator in (scaled, shifted) if operator is not None)

    def _writer(self, operator: _Affine, *operators: str) -> _Affine | None:
        node = operator.x.producer()
        return None if node is None or _only_reader(node) is not operator.node else self._affine(node, *operators)

    def _reader(self, operator: _Affine, *operators: str) -> _Affine | None:
        return self._affine(_only_reader(operator.node), *operators)

    def _mean(self, operators: tuple[_Affine, ...], factor: _Affine) -> ir.Value | None:
        """What is subtracted first; else m, where the last constant is beta - m s with the factor's s."""
        if operators[0].node.op_type == "Sub":
            return operators[0].constant
        difference = operators[-1].constant.producer()
        subtracted = difference.inputs[1] if difference is not None and difference.op_type == "Sub" else None
        product = None if subtracted is None else subtracted.producer()
        if product is None or product.op_type != "Mul" or factor.constant not in product.inputs:
            return None
        return product.inputs[1 - product.inputs.index(factor.constant)]


def _only_reader(node: ir.Node) -> ir.Node | None:
    """The node that alone reads the first output, in the same graph."""
    (reader,) = [use.node for use in node.outputs[0].uses()] if len(node.outputs[0].uses()) == 1 else [None]
    inside = reader is not None and reader.graph is node.graph and not node.outputs[0].is_graph_output()
    return reader if inside else None


def _replace(parts: _Parts, values: Mapping[ir.Value, np.ndarray], constants: Computed) -> None:
    """Write the BatchNormalization, unless the constants are no parameters of one."""
    first, last = parts.operators[0], parts.operators[-1].node
    graph, y = last.graph, last.outputs[0]
    parameters = _parameters(parts, values)
    if parameters is None or graph is None or first.x.dtype is None or not is_float(first.x):
        return
    arrays, epsilon = parameters
    variance = next(value for value in parts.spread.inputs if value is not None)
    node = ir.node(
        "BatchNormalization",
        [first.x, *(store_constant(graph, f"{y.name}_{kind}", array, first.x.dtype) for kind, array in arrays.items())],
        {"epsilon": epsilon},
        name=layer_of_parameter(constants.origin(variance)) or layer_name(parts.factor.node),
        metadata_props=dict(parts.factor.node.metadata_props),
    )
    nodes = [operator.node for operator in parts.operators]
    ir.convenience.replace_nodes_and_values(graph, last, nodes, [node], [y], node.outputs)


def _parameters(parts: _Parts, values: Mapping[ir.Value, np.ndarray]) -> tuple[dict[str, Float64], float] | None:
    """gamma, beta, mean, variance, each (C,), and epsilon; None where a constant does not vary along axis 1 alone.

    gamma = s sqrt(variance + epsilon), beta = t + s mean. epsilon is float32 in ONNX: the variance takes the rest.
    """
    x = parts.operators[0].x
    channels, rank = static_length(x, 1), len(x.shape or ())
    variance, epsilon = sorted((values[v] for v in parts.spread.inputs if v is not None), key=np.size, reverse=True)
    constants = [per_channel(values[operator.constant], rank, channels or 0) for operator in parts.operators]
    mean = np.zeros(1) if parts.mean is None else values[parts.mean]
    if variance.size != channels or epsilon.size != 1 or mean.size not in (1, channels):
        return None
    scale, shift = np.ones(channels), np.zeros(channels)
    for operator, constant in zip(parts.operators, constants, strict=True):
        if constant is None:
            return None
        scale, shift = _after(operator.node.op_type, constant, scale, shift)
    return _as_batchnorm(scale, shift, mean.reshape(-1), variance.reshape(-1), float(epsilon.reshape(())))


def _after(op_type: str, constant: Float64, scale: Float64, shift: Float64) -> tuple[Float64, Float64]:
    """`s x + t` after one more operator with a constant."""
    if op_type in ("Add", "Sub"):
        return scale, shift + (constant if op_type == "Add" else -constant)
    factor = constant if op_type == "Mul" else 1 / constant
    return scale * factor, shift * factor


def _as_batchnorm(
    scale: Float64, shift: Float64, mean: Float64, variance: Float64, epsilon: float
) -> tuple[dict[str, Float64], float]:
    nearest = np.float32(epsilon)
    stored = float(nearest if nearest <= epsilon else np.nextafter(nearest, np.float32(0)))
    parameters = {
        "gamma": scale * np.sqrt(variance + epsilon),
        "beta": shift + scale * mean,
        "mean": np.broadcast_to(mean, scale.shape),
        "variance": variance + (epsilon - stored),
    }
    return parameters, stored
