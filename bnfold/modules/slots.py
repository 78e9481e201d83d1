"""Which constants of a graph can be written back into its module, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnfold.folding.provenance import take_over
from bnfold.folding.relations import RULES
from bnfold.folding.units import Refusal
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure
from bnfold.graph.constants import float64_constant, store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.modules.elements import NOTHING, Elements
from bnfold.modules.norms import STATISTICS, is_norm
from bnfold.modules.places import Place, Places
from bnfold.records.causes import Cause

__all__ = ["ELEMENTWISE", "NoParameter", "Slots", "scope_of"]

ELEMENTWISE = having(Trait.AFFINE) - {op.BatchNormalization}


@dataclass(frozen=True)
class NoParameter(Failure):
    """A constant that no parameter of the module can take, which makes an operator keep its units.

    `what` is the part of the operator that the refusal is about.
    """

    what: str
    error: str = ""

    @property
    def refusal(self) -> Refusal:
        """Why the operator keeps its units."""
        return Refusal(Cause.NO_PARAMETER, self.what)


_UNWRITABLE = NoParameter("constant")


def scope_of(node: ir.Node) -> str:
    """The path of the submodule that a node comes from, as the exporter wrote it."""
    return layer_name(node) if "pkg.torch.onnx.name_scopes" in node.metadata_props else ""


class Slots:
    """The constants of the main graph, and where they lie in the module.

    Attributes:
        failed: operators whose constants cannot be written, which keep their units.
        no_offsets: those that have nowhere to put an offset.
        rigid: Add, Sub, Mul and Div whose constant stays as it is.

    Args:
        graph: in canonical form; a MatMul of a layer without a bias gets an Add of zeros.
        elements: what the constants are made of.
        places: of the module.
    """

    def __init__(self, graph: ir.Graph, elements: Elements, places: Places) -> None:
        self.graph, self.elements, self.places = graph, elements, places
        self.new_biases: dict[str, Place] = {}
        self._name_constants()
        self._add_biases()
        self.failed: dict[ir.Node, Failure] = {}
        self.no_offsets: set[ir.Node] = set()
        self.rigid: set[ir.Node] = set()
        for node in graph:
            self._classify(node)

    def numbers(self, value: ir.Value | None) -> np.ndarray | None:
        """The elements that a constant is made of; None where it is none, or of no parameter."""
        if value is None or value.is_graph_input() or value.name is None:
            return None
        return self.elements.of.get(value.name)

    def writable(self, value: ir.Value | None) -> bool:
        """Whether every element of a constant can be written back."""
        if value is not None and value.name in self.new_biases:
            return True
        numbers = self.numbers(value)
        if numbers is None or not numbers.size:
            return False
        return not (numbers == NOTHING).any() and not self.elements.frozen[numbers].any()

    def place_of_statistic(self, node: ir.Node, index: int) -> Place | None:
        """Where input `index` (1 to 4) of a BatchNorm lies."""
        value = node.inputs[index]
        direct = self.places.of(str(value.name), scope_of(node)) if value is not None else None
        owner = self.places.owner(scope_of(node))
        if owner is not None and is_norm(owner):
            return Place(self.places.first_path(owner), STATISTICS[index - 1])
        return direct

    def _name_constants(self) -> None:
        """Let constants that have another name than where the elements were followed be made of these, too."""
        for node in self.graph:
            for index, value in enumerate(node.inputs):
                numbers = self.elements.read.get((str(node.outputs[0].name), index))
                array = None if numbers is None or value is None else float64_constant(value)
                if value is not None and numbers is not None and array is not None and array.shape == numbers.shape:
                    self.elements.of.setdefault(str(value.name), numbers)

    def _add_biases(self) -> None:
        for node in list(self.graph):
            if kind_of(node) != op.MatMul or float64_constant(node.inputs[1]) is None:
                continue
            place = self.places.takes_bias(scope_of(node))
            weight = node.inputs[1].const_value if node.inputs[1] is not None else None
            if place is None or weight is None or node.outputs[0].is_graph_output():
                continue
            zeros = np.zeros(int(weight.shape.numpy()[-1]))
            bias = store_constant(self.graph, f"{place}", zeros, node.inputs[1].dtype)  # type: ignore[union-attr,arg-type]
            self.new_biases[str(bias.name)] = place
            y = node.outputs[0]
            users = list(y.uses())
            add = ir.node(op.Add, [y, bias], metadata_props=dict(node.metadata_props))
            add.outputs[0].shape, add.outputs[0].type = y.shape, y.type
            take_over(add.outputs[0], y)
            self.graph.insert_after(node, add)
            for user, index in users:
                user.replace_input_with(index, add.outputs[0])

    def _classify(self, node: ir.Node) -> None:
        kind = kind_of(node)
        rule = RULES.get(kind)
        if rule is None or rule.rewrite is None:
            return
        if kind == op.BatchNormalization:
            statistics = any(self.place_of_statistic(node, index) is None for index in (3, 4))
            if statistics or not all(self._given_or_trivial(node, index) for index in (1, 2)):
                self.failed[node] = _UNWRITABLE
            return
        constants = [index for index, value in enumerate(node.inputs) if float64_constant(value) is not None]
        if kind in ELEMENTWISE:
            if constants and not all(self.writable(node.inputs[index]) for index in constants):
                self.rigid.add(node)
            return
        bias = kind.bias
        if not constants or (kind == op.Gather and 0 not in constants):
            return
        first = constants[0] if kind.weight is None else kind.weight
        if first in constants and not self.writable(node.inputs[first]):
            self.failed[node] = _UNWRITABLE
        elif kind == op.MatMul:
            if not self._bias_follows(node):
                self.no_offsets.add(node)
        elif bias is not None:
            self._classify_bias(node, bias)

    def _given_or_trivial(self, node: ir.Node, index: int) -> bool:
        """Whether gamma (1) or beta (2) of a BatchNorm is in the module, or 1 or 0 throughout."""
        array = float64_constant(node.inputs[index])
        trivial = array is not None and bool((array == (1 if index == 1 else 0)).all())
        return trivial or self.place_of_statistic(node, index) is not None

    def _classify_bias(self, node: ir.Node, index: int) -> None:
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            if kind_of(node).has(Trait.RECURRENT) or self.places.takes_bias(scope_of(node)) is None:
                self.no_offsets.add(node)
        elif not self.writable(value):
            array = float64_constant(value)
            if array is not None and not array.any():
                self.no_offsets.add(node)
            else:
                self.failed[node] = _UNWRITABLE

    def _bias_follows(self, node: ir.Node) -> bool:
        """Whether the one reader of a MatMul adds a constant that can be written."""
        uses = node.outputs[0].uses()
        if len(uses) != 1 or node.outputs[0].is_graph_output():
            return False
        ((add, index),) = uses
        return kind_of(add) == op.Add and len(add.inputs) == 2 and self.writable(add.inputs[1 - index])
