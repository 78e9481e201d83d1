"""The layers whose time is least in float, borders between integers and float included: a minimum cut.

    T(F) = sum_(layers in F) float_ns + sum_(others) int8_ns
           + sum_v border(v) [v is written in integers, and float reads it]
           + sum_v border(v) [v is written in float, and integers read it]

over the sets F of layers that stay float. A border is paid once for each value, however many read it. A join or a pool
is in integers only where all that it reads is. T is a sum of terms of two labels, each submodular, so that a minimum
cut of a graph with a node for each layer is its minimum (Kolmogorov and Zabih 2004).

Noise has a price too: with F_0 of least T, and N its noise at the outputs, a sum of such terms as well,

    T(F) / T(F_0) + WORTH N(F) / max(N(F_0), LOUD)

is least for layers that stay float where they make more of the noise than of the time. What is less than LOUD to begin
with is worth less.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph.operators import kind_of
from bnfold.quantisation.costs import elements_of, table_of
from bnfold.quantisation.first_recipe import own_ranges
from bnfold.quantisation.noise_by_layer import NoiseByLayer
from bnfold.quantisation.operators import CARRIERS, JOINS, POOLS, WEIGHTED, activation_of
from bnfold.quantisation.placement import WRITE_FLOAT, integer_inputs, output_of, place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx_ir as ir

    from bnfold.quantisation.costs import CostTable
    from bnfold.records.recipes import IntegerNode, Target

__all__ = ["LOUD", "WORTH", "float_by_cost", "float_by_error", "least_time"]

INTEGER, FLOAT = 0, 1  # source and sink
_NEVER = 2**28  # ns: more than any network takes
WORTH = 0.6
"""All noise in parts of all time: a layer that makes 10 % of the noise may take 6 % of the time more in float."""
LOUD = 10**-2.7
"""Noise over signal at the outputs, -27 dB, from which on it has its full worth. Trained EfficientNet-Lite0 is there in
integers: at 27.5, 28.2 and 28.9 dB of signal the class is the float file's on 968, 973 and 974 of 1,000 crops."""
NOTHING = NoiseByLayer({}, {})
log = logging.getLogger("bnfold.quantisation")


def float_by_cost(graph: ir.Graph, target: Target, kept: Collection[str] = ()) -> tuple[str, ...]:
    """The nodes that could be in integers and are faster in float, in graph order.

    Where that would be all layers, none is: what is asked for is a file in integers, and its time will be measured.

    Args:
        graph: as `prepared` made it; every node has a name.
        target: the processor whose costs count.
        kept: the names of nodes that stay float whatever they cost.
    """
    possible = place(graph, dict.fromkeys(kept, "asked")).nodes
    found = least_time(graph, table_of(target), possible)
    if set(found) >= {name for name, plan in possible.items() if plan.op in WEIGHTED}:
        log.info("by the table of costs every layer is faster in float: all that can be are in integers")
        return ()
    if table_of(target).target != target:
        log.info("no costs were measured for %s: those of %s decide", target, table_of(target).target)
    return found


def float_by_error(
    graph: ir.Graph, target: Target, noise: NoiseByLayer, fastest: Collection[str], kept: Collection[str] = ()
) -> tuple[str, ...]:
    """The nodes that stay float where noise has a price, in graph order; those of the fastest plan if that were all.

    Args:
        graph: as `prepared` made it; every node has a name.
        target: the processor whose costs count.
        noise: of every value and layer that can be in integers.
        fastest: the nodes that `float_by_cost` leaves float.
        kept: the names of nodes that stay float whatever they cost.
    """
    possible = place(graph, dict.fromkeys(kept, "asked")).nodes
    nodes = place(graph, dict.fromkeys([*kept, *fastest], "cost")).nodes
    total = sum(noise.values.get(name, 0.0) for name in own_ranges(graph, nodes))
    total += sum(noise.weights.get(name, 0.0) for name in nodes)
    ns = _Cut(graph, table_of(target), possible, NOTHING).integer_side()[1]
    found = least_time(graph, table_of(target), possible, noise.times(WORTH * ns / max(total, LOUD)))
    layers = {name for name, plan in possible.items() if plan.op in WEIGHTED}
    return tuple(fastest) if set(found) >= layers else found


def least_time(
    graph: ir.Graph, table: CostTable, possible: Mapping[str, IntegerNode], prices: NoiseByLayer = NOTHING
) -> tuple[str, ...]:
    """The layers and joins that stay float in the plan of least time, in graph order.

    Args:
        graph: as `prepared` made it.
        table: of costs.
        possible: what can be in integers, by name.
        prices: what noise costs besides, in nanoseconds.
    """
    cut = _Cut(graph, table, possible, prices)
    if cut.n_far:
        log.debug("%d layers are far from any shape whose cost was measured", cut.n_far)
    integer, _ = cut.integer_side()
    return tuple(name for name, plan in possible.items() if plan.op in WEIGHTED | JOINS and name not in integer)


@dataclasses.dataclass
class _Edges:
    """Capacities between numbered nodes, in whole nanoseconds."""

    ends: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    capacities: list[int] = dataclasses.field(default_factory=list)

    def add(self, start: int, end: int, ns: float) -> None:
        if round(ns) > 0:
            self.ends.append((start, end))
            self.capacities.append(min(round(ns), _NEVER))


class _Cut:
    """The graph of the cut: what lies on the source's side is in integers."""

    def __init__(self, graph: ir.Graph, table: CostTable, possible: Collection[str], prices: NoiseByLayer) -> None:
        self._table, self._prices, self._edges = table, prices, _Edges()
        absorbed = {
            activation for node in graph if str(node.name) in possible and kind_of(node) in WEIGHTED | JOINS
            if (activation := activation_of(node)) is not None
        }  # fmt: skip
        self._number: dict[ir.Node, int] = {}
        self._n = 2
        self.n_far = 0
        nodes = [node for node in graph if node not in absorbed]
        for node in nodes:
            self._number[node] = self._new() if str(node.name) in possible else FLOAT
        for node in nodes:
            if self._number[node] != FLOAT:
                self._price(node)
            self._borders(node)
        for value in graph.inputs:
            self._between(value, FLOAT, self._readers(value))

    def integer_side(self) -> tuple[set[str], float]:
        """The names of the nodes in integers, and what the plan costs."""
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import breadth_first_order, maximum_flow

        if not self._edges.ends:
            return set(), 0.0
        starts, ends = (np.array(each) for each in zip(*self._edges.ends, strict=True))
        capacities = csr_array((np.array(self._edges.capacities, np.int32), (starts, ends)), shape=(self._n, self._n))
        capacities.sum_duplicates()
        flow = maximum_flow(capacities, INTEGER, FLOAT)
        rest = capacities - csr_array(flow.flow)
        rest.data = np.maximum(rest.data, 0)
        rest.eliminate_zeros()
        reached = set(breadth_first_order(rest, INTEGER, return_predecessors=False).tolist())
        side = {str(node.name) for node, number in self._number.items() if number in reached and number != FLOAT}
        return side, float(flow.flow_value)

    def _new(self) -> int:
        self._n += 1
        return self._n - 1

    def _price(self, node: ir.Node) -> None:
        number, kind = self._number[node], kind_of(node)
        cost = self._table.of(node)
        self.n_far += cost.is_far and kind in WEIGHTED
        self._edges.add(INTEGER, number, cost.exact)  # cut where it is float
        self._edges.add(number, FLOAT, cost.integer + self._prices.weights.get(str(node.name), 0.0))
        if kind in JOINS | POOLS | CARRIERS:
            for value in integer_inputs(node):
                self._edges.add(number, self._writer(value), _NEVER)

    def _borders(self, node: ir.Node) -> None:
        for value in node.outputs:
            written = output_of(node) if value is node.outputs[0] and self._number[node] != FLOAT else value
            self._between(written, self._number[node], self._readers(written), free=kind_of(node) in WRITE_FLOAT)

    def _between(
        self, value: ir.Value, writer: int, readers: Sequence[tuple[int, bool]], *, free: bool = False
    ) -> None:
        """What a border costs between a writer and the readers of a value, each with whether it reads integers.

        A Gemm or MatMul in integers writes float where float reads it, for which it is `free`.
        """
        if not readers:
            return
        ns = self._table.border(max(1.0, elements_of(value)))
        writes_integers = writer != FLOAT and not free
        self._rounded(value, [writer] if writes_integers else [], readers)
        if writes_integers:
            outside = self._new()  # on the float side where a reader is
            self._edges.add(writer, outside, ns)
            for reader, reads_integers in readers:
                self._edges.add(outside, reader if reads_integers else FLOAT, _NEVER)
        inside = self._new()  # on the integer side where a reader is
        self._edges.add(inside, writer, ns)
        for reader, reads_integers in readers:
            if reads_integers and reader != FLOAT:
                self._edges.add(reader, inside, _NEVER)

    def _rounded(self, value: ir.Value, writers: Sequence[int], readers: Sequence[tuple[int, bool]]) -> None:
        """What the noise of a value costs, once, where anything has it in integers."""
        price = self._prices.values.get(str(value.name), 0.0)
        if price <= 0:
            return
        stored = self._new()
        self._edges.add(stored, FLOAT, price)
        for node in [*writers, *(reader for reader, reads in readers if reads and reader != FLOAT)]:
            self._edges.add(node, stored, _NEVER)

    def _readers(self, value: ir.Value) -> list[tuple[int, bool]]:
        found = []
        for use in value.uses():
            node = use.node
            reads = use.idx == 0 or kind_of(node) in JOINS
            found.append((self._number.get(node, FLOAT), reads))
        return found

    def _writer(self, value: ir.Value) -> int:
        producer = value.producer()
        if producer is None:
            return FLOAT
        if producer in self._number:
            return self._number[producer]
        behind = producer.inputs[0].producer() if producer.inputs and producer.inputs[0] is not None else None
        return FLOAT if behind is None else self._number.get(behind, FLOAT)
