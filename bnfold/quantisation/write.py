"""The file with QuantizeLinear and DequantizeLinear: every operator in integers stands between them.

    x (u8) -> DequantizeLinear -+
    w (s8) -> DequantizeLinear -+-> Conv -> QuantizeLinear -> y (u8)
    b (s32) -> DequantizeLinear +

An operator has DequantizeLinears of its own, so that ONNX Runtime finds the whole pattern with one reader for each
value. A Relu or Clip is not written at all where the range of the output ends at its bounds: saturation does its work.
Bytes that the file is given are integers of step 1 already: a Cast of them is not written where all that read it do in
integers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant, operand
from bnfold.graph.edit import drop_unused_initializers
from bnfold.graph.operators import Trait, kind_of
from bnfold.quantisation.grids import Grid, grid_of
from bnfold.quantisation.operators import JOINS, POOLS, WEIGHTED
from bnfold.quantisation.pixels import only_integers
from bnfold.quantisation.placement import integer_inputs
from bnfold.quantisation.stored import stored_constant, write_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records.recipes import IntegerNode, Recipe

__all__ = ["Step", "Written", "integers_name", "write"]


@dataclasses.dataclass(frozen=True)
class Step:
    """What was written for one operator: the nodes between stored integers, or the float node as it was.

    Attributes:
        name: of the operator's node; "" for a QuantizeLinear of its own, behind an input or a float operator.
        nodes: in order.
    """

    name: str
    nodes: tuple[ir.Node, ...]


@dataclasses.dataclass(frozen=True)
class Written:
    """The quantised graph, by steps in graph order; of values in integers their grids and the names of the integers."""

    model: ir.Model
    steps: tuple[Step, ...]
    grids: Mapping[str, Grid]
    integers: Mapping[str, str]


def integers_name(value: str) -> str:
    """The name of the integers of a value."""
    return f"{value}/q8"


def write(model: ir.Model, recipe: Recipe) -> Written:
    """Write the quantised graph.

    Args:
        model: the prepared float graph; changed in place.
        recipe: what is in integers, with which ranges, corrections and weights.
    """
    return _Writer(model, recipe).run()


class _Writer:
    def __init__(self, model: ir.Model, recipe: Recipe) -> None:
        self.model, self.graph, self.recipe = model, model.graph, recipe
        self.integer = {node.name: node for node in recipe.nodes}
        self.grids: dict[str, Grid] = {name: grid_of(*ends, recipe.activations) for name, ends in recipe.ranges.items()}
        self.stored: dict[str, ir.Value] = {}  # by the name of the value: its integers
        self.steps: list[Step] = []
        self.dropped: list[ir.Node] = []

    def run(self) -> Written:
        nodes = list(self.graph)
        readers = self._float_produced()
        for value in self.graph.inputs:
            if value.name in readers:
                self._store(value, None)
        for node in nodes:
            plan = self.integer.get(str(node.name))
            if node.graph is None:  # an activation that was taken in
                continue
            if plan is None and node.outputs[0].name in self.recipe.bytes:
                self._take_bytes(node)
            elif plan is None:
                self._keep_float(node)
                for output in node.outputs:
                    if output.name in readers:
                        self._store(output, node)
            else:
                self._write_integer(node, plan)
        for cast in self.dropped:
            self.graph.remove(cast, safe=True)
        self.model.graph.sort()
        drop_unused_initializers(self.graph)
        integers = {name: str(value.name) for name, value in self.stored.items()}
        return Written(self.model, tuple(self.steps), self.grids, integers)

    def _float_produced(self) -> set[str]:
        """Values that an integer kernel reads and none writes."""
        written = {node.output for node in self.recipe.nodes if node.grid != "none"}
        read = set()
        for node in self.graph:
            if str(node.name) in self.integer:
                read |= {str(value.name) for value in integer_inputs(node)}
        return read - written

    def _grid_values(self, name: str) -> list[ir.Value]:
        grid = self.grids[name]
        return [
            stored_constant(self.graph, f"{name}/scale", np.asarray(grid.scale, np.float32)),
            stored_constant(self.graph, f"{name}/zero_point", np.asarray(grid.zero_point)),
        ]

    def _quantize(self, value: ir.Value, name: str) -> ir.Node:
        """QuantizeLinear of a value, whose integers are those of `name`."""
        node = ir.node(op.QuantizeLinear, [value, *self._grid_values(name)], name=f"{name}/QuantizeLinear")
        node.outputs[0].name = integers_name(name)
        self.stored[name] = node.outputs[0]
        return node

    def _dequantize(self, name: str, reader: str, *, parameters: list[ir.Value] | None = None) -> ir.Node:
        """DequantizeLinear of the integers of a value, for one reader."""
        inputs = [self.stored[name], *(parameters or self._grid_values(name))]
        attributes = {"axis": 1} if parameters else None
        node = ir.node(op.DequantizeLinear, inputs, attributes=attributes, name=f"{reader}/{name}/DequantizeLinear")
        node.outputs[0].name = f"{reader}/{name}"
        return node

    def _store(self, value: ir.Value, behind: ir.Node | None) -> None:
        """Write the QuantizeLinear of a value that is produced in float."""
        node = self._quantize(value, str(value.name))
        if behind is None:
            first = next(iter(self.graph))
            self.graph.insert_before(first, node)
        else:
            self.graph.insert_after(behind, node)
        self.steps.append(Step("", (node,)))

    def _take_bytes(self, cast: ir.Node) -> None:
        """What a Cast reads are the integers of what it writes; it stays for those that read floats."""
        y = cast.outputs[0]
        self.stored[str(y.name)] = operand(cast)
        if only_integers(cast, self.integer):
            self.dropped.append(cast)
        else:
            self.steps.append(Step(str(cast.name), (cast,)))

    def _keep_float(self, node: ir.Node) -> None:
        """A float operator reads in float what is stored in integers."""
        made: list[ir.Node] = []
        written = {plan.output for plan in self.recipe.nodes}
        for index, value in enumerate(node.inputs):
            if value is None or value.name not in self.stored or value.name not in written:
                continue
            twin = next((each for each in made if each.inputs[0] is self.stored[str(value.name)]), None)
            if twin is None:
                twin = self._dequantize(str(value.name), str(node.name), parameters=self._apart(node, index))
                made.append(twin)
            node.replace_input_with(index, twin.outputs[0])
        self.graph.insert_before(node, made)
        self.steps.append(Step(str(node.name), (*made, node)))

    def _apart(self, node: ir.Node, index: int) -> list[ir.Value] | None:
        """The scale once for each channel, in front of a float layer.

        ONNX Runtime's WeightBiasQuantization quantises the weight of a float layer again, per tensor, where its input
        is a DequantizeLinear of a single scale and its output ends in a QuantizeLinear; an addition, a concatenation or
        a pool between the two becomes an integer kernel. Scales per axis, all equal, are the same numbers and leave the
        layer as it is.
        """
        value, kind = node.inputs[index], kind_of(node)
        is_layer = kind.has(Trait.LINEAR) and index == 0 and constant(node.inputs[1]) is not None
        if not (is_layer or kind in JOINS | POOLS) or value is None or value.shape is None:
            return None
        if len(value.shape) < 2 or not isinstance(value.shape[1], int):
            return None
        grid, name, channels = self.grids[str(value.name)], str(value.name), value.shape[1]
        return [
            stored_constant(self.graph, f"{name}/scales", np.full(channels, grid.scale, np.float32)),
            stored_constant(self.graph, f"{name}/zero_points", np.full(channels, grid.zero_point)),
        ]

    def _write_integer(self, node: ir.Node, plan: IntegerNode) -> None:
        made: list[ir.Node] = []
        source = str(node.inputs[0].name) if node.inputs[0] is not None else ""
        for index, value in enumerate(node.inputs):
            if value is None or str(value.name) not in self.stored or value not in integer_inputs(node):
                continue
            twin = self._dequantize(str(value.name), f"{node.name}.{index}")
            made.append(twin)
            node.replace_input_with(index, twin.outputs[0])
        if plan.op in WEIGHTED:
            made += write_parameters(self.graph, node, self.recipe, self.grids[source])
        self.graph.insert_before(node, made)
        self.steps.append(Step(plan.name, (*made, node, *self._end(node, plan, source))))

    def _end(self, node: ir.Node, plan: IntegerNode, source: str) -> tuple[ir.Node, ...]:
        """The QuantizeLinear behind an integer kernel; the activation in between goes."""
        if plan.grid == "none":
            return ()
        if plan.grid == "input":
            self.grids[plan.output] = self.grids[source]
        y = node.outputs[0]
        if plan.activation is not None:
            activation = next(use.node for use in y.uses())
            ir.convenience.replace_all_uses_with(activation.outputs[0], y)
            self.graph.remove(activation, safe=True)
            y.name = plan.output
        quantize = self._quantize(y, plan.output)
        self.graph.insert_after(node, quantize)
        return (quantize,)
