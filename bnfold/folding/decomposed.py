"""Where a graph holds a decomposed BatchNorm: affine operators around one that divides by sqrt(variance + epsilon).

The forms are those of `compose.py`. Operators and order are matched here, values are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.computed import Computed
from bnfold.graph.constants import operand
from bnfold.graph.operators import kind_of

__all__ = ["Affine", "Decomposed", "find_decomposed"]

_ROOTS = (op.Pow, op.Sqrt)


@dataclass(frozen=True)
class Affine:
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
class Decomposed:
    """The operators of one BatchNorm from x to y; `factor` divides by `root`, that of variance + epsilon."""

    operators: tuple[Affine, ...]
    factor: Affine
    root: ir.Node

    @property
    def spread(self) -> tuple[ir.Value, ir.Value]:
        """Variance and epsilon, in either order."""
        total = operand(self.root).producer()
        if total is None:
            raise ValueError(f"{self.root.name} reads no sum")
        return operand(total, 0), operand(total, 1)

    @property
    def mean(self) -> ir.Value | None:
        """What is subtracted first, else what the last constant says."""
        first = self.operators[0]
        return first.constant if kind_of(first.node) == op.Sub else self._mean_in_shift()

    def _mean_in_shift(self) -> ir.Value | None:
        """m, where the last constant is added and is beta - m s with the factor's s."""
        last = self.operators[-1]
        difference = last.constant.producer() if kind_of(last.node) == op.Add else None
        subtracted = difference.inputs[1] if difference is not None and kind_of(difference) == op.Sub else None
        product = None if subtracted is None else subtracted.producer()
        if product is None or kind_of(product) != op.Mul or self.factor.constant not in product.inputs:
            return None
        return product.inputs[1 - product.inputs.index(self.factor.constant)]

    @property
    def constants(self) -> Iterator[ir.Value]:
        """All that the parameters are computed from."""
        yield from (operator.constant for operator in self.operators)
        yield from self.spread
        yield from (value for value in (*self.root.inputs[1:], self._mean_in_shift()) if value is not None)


def find_decomposed(model: ir.Model, constants: Computed) -> list[Decomposed]:
    """Every decomposed BatchNorm, subgraphs included; no operator is part of two."""
    return _Finder(constants, list(model.graph.all_nodes())).find()


class _Finder:
    """Looks for operators around a factor that divides by a root, no operator being part of two BatchNorms."""

    def __init__(self, constants: Computed, nodes: list[ir.Node]) -> None:
        self._constants = constants
        order = {node: position for position, node in enumerate(nodes)}
        roots = {factor.node: (factor, root) for root in nodes for factor in self._factors(root)}
        self._factors_in_order = [roots[node] for node in sorted(roots, key=order.__getitem__)]
        self._taken = set(roots)

    def find(self) -> list[Decomposed]:
        """The last first: a `x - mean` belongs to the root behind it, not to the one in front of it."""
        found = []
        for factor, root in reversed(self._factors_in_order):
            operators = (*self._before(factor), factor, *self._behind(factor))
            self._taken.update(operator.node for operator in operators)
            found.append(Decomposed(operators, factor, root))
        return found

    def _factors(self, root: ir.Node) -> Iterator[Affine]:
        if kind_of(root) not in _ROOTS or root.outputs[0] not in self._constants:
            return
        total = operand(root).producer()
        if total is not None and kind_of(total) == op.Add:
            for reader in self._readers(root.outputs[0]):
                factor = self._affine(reader, op.Mul, op.Div)
                if factor is not None:
                    yield factor

    def _readers(self, value: ir.Value) -> Iterator[ir.Node]:
        """The operators on data that read a constant, or what is computed from it."""
        for node in dict.fromkeys(use.node for use in value.uses()):
            if node.outputs[0] in self._constants:
                yield from self._readers(node.outputs[0])
            else:
                yield node

    def _affine(self, node: ir.Node | None, *operators: str) -> Affine | None:
        if node is None or kind_of(node) not in operators:
            return None
        first, second = (value in self._constants for value in node.inputs)
        if first == second or (first and kind_of(node) in (op.Sub, op.Div)):
            return None
        return Affine(node, 0 if first else 1)

    def _before(self, factor: Affine) -> tuple[Affine, ...]:
        """`x - mean`, or `gamma (x - mean)`, that nothing else reads."""
        nearest = self._writer(factor, op.Mul, op.Sub)
        if nearest is None or kind_of(nearest.node) == op.Sub:
            return () if nearest is None else (nearest,)
        centred = self._writer(nearest, op.Sub)
        return () if centred is None else (centred, nearest)

    def _behind(self, factor: Affine) -> tuple[Affine, ...]:
        """`gamma y`, then `y + beta`, where nothing else reads y."""
        scaled = self._reader(factor, op.Mul)
        shifted = self._reader(scaled or factor, op.Add, op.Sub)
        return tuple(operator for operator in (scaled, shifted) if operator is not None)

    def _writer(self, operator: Affine, *operators: str) -> Affine | None:
        node = operator.x.producer()
        free = node is not None and node not in self._taken and _only_reader(node) is operator.node
        return self._affine(node, *operators) if free else None

    def _reader(self, operator: Affine, *operators: str) -> Affine | None:
        node = _only_reader(operator.node)
        return None if node in self._taken else self._affine(node, *operators)


def _only_reader(node: ir.Node) -> ir.Node | None:
    """The node that alone reads the first output, in the same graph."""
    (reader,) = [use.node for use in node.outputs[0].uses()] if len(node.outputs[0].uses()) == 1 else [None]
    inside = reader is not None and reader.graph is node.graph and not node.outputs[0].is_graph_output()
    return reader if inside else None
