"""The values of a graph: their types and shapes, which are constant or follow from shapes, and these in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.float64_values import widened
from bnfold.graph.operators import kind_of
from bnfold.verification.certificate.evaluation import Arrays, evaluate, evaluate_as_written
from bnfold.verification.certificate.nodes import node_reads
from bnfold.verification.certificate.sizes import Shape, kinds_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GraphValues"]


class GraphValues:
    """The values of one graph, by name; those of the graphs around it, too.

    `bnfold.verification.certificate.graph` finds out what is constant, what follows from shapes, and which are one.

    Args:
        graph: with inferred shapes; large initializers may lie in `tensors` alone.
        tensors: its initializers.
        opsets: versions by domain.
        inputs: names of what is given from outside, in order.
        outer: the graph that a body stands in.
    """

    def __init__(
        self,
        graph: GraphProto,
        tensors: Mapping[str, TensorProto],
        opsets: Mapping[str, int],
        inputs: Sequence[str],
        outer: GraphValues | None,
    ) -> None:
        self.nodes: list[NodeProto] = list(graph.node)
        self.outputs = tuple(value.name for value in graph.output)
        self.inputs = tuple(inputs)
        self.outer = outer
        self.opsets = dict(opsets)
        self.tensors = {name: tensor for name, tensor in tensors.items() if name not in set(inputs)}
        self.shapes, self.types = kinds_of(graph)
        for name, tensor in tensors.items():
            self.shapes.setdefault(name, tuple(tensor.dims))
            self.types.setdefault(name, tensor.data_type)
        self.writers = {name: k for k, node in enumerate(self.nodes) for name in node.output if name}
        self._constants: set[str] = set(self.tensors)
        self._known: set[str] = set(self.tensors)
        self._alias: dict[str, str] = {}
        self._arrays: dict[tuple[str, bool], np.ndarray] = {}
        self._reads = [tuple(dict.fromkeys(node_reads(node))) for node in self.nodes]

    def alias(self, name: str) -> str:
        """The first value that is the same as this one."""
        while name in self._alias:
            name = self._alias[name]
        if self.outer is not None and not self._owns(name):
            return self.outer.alias(name)
        return name

    def _owns(self, name: str) -> bool:
        return name in self.writers or name in self.tensors or name in self.inputs

    def reads(self, k: int) -> tuple[str, ...]:
        """What the node at `k` reads, captures included."""
        return self._reads[k]

    def owner(self, name: str) -> GraphValues | None:
        """The graph, this one or one around it, that a name belongs to."""
        graph: GraphValues | None = self
        while graph is not None and not graph._owns(name):
            graph = graph.outer
        return graph

    def shape(self, name: str) -> Shape | None:
        owner = self.owner(name)
        return None if owner is None else owner.shapes.get(name)

    def type(self, name: str) -> int:
        """Element type; 0 where it is not known."""
        owner = self.owner(name)
        return 0 if owner is None else owner.types.get(name, 0)

    def is_constant(self, name: str) -> bool:
        """Whether a value is stored, or computed from what is stored."""
        owner = self.owner(name)
        return owner is not None and name in owner._constants

    def is_known(self, name: str) -> bool:
        """The same, or whether it is computed from shapes too."""
        owner = self.owner(name)
        return owner is not None and name in owner._known

    def is_stored(self, name: str) -> bool:
        """Whether a value is an initializer."""
        owner = self.owner(name)
        return owner is not None and name in owner.tensors

    def stored(self, name: str) -> np.ndarray:
        """An initializer in its own precision."""
        owner = self.owner(name)
        if owner is None:
            raise KeyError(name)
        return numpy_helper.to_array(owner.tensors[name])

    def is_computed(self, name: str) -> bool:
        """Whether a known value is not stored but computed, and of floating point."""
        return not self.is_stored(name) and self.constant(name).dtype.kind == "f"

    def constant(self, name: str, *, as_written: bool = False) -> np.ndarray:
        """A constant or what follows from shapes, in float64; or in the graph's own precision, widened afterwards."""
        owner = self.owner(name)
        if owner is None:
            raise KeyError(name)
        if name in owner.tensors:
            return widened(numpy_helper.to_array(owner.tensors[name]))
        key = (name, as_written)
        if key not in owner._arrays:
            try:
                owner._arrays[key] = owner._computed(name, as_written=as_written)
            except InputRefused:
                if as_written:
                    raise
                owner._arrays[key] = owner.constant(name, as_written=True)  # quantized weights, say
        return owner._arrays[key]

    def _computed(self, name: str, *, as_written: bool) -> np.ndarray:
        nodes, leaves = self._behind(name, as_written=as_written)
        if as_written:
            arrays = dict(leaves)
            arrays |= {n: self.stored(n) for k in nodes for n in self._reads[k] if self.is_stored(n)}
            return evaluate_as_written([self.nodes[k] for k in nodes], arrays, [name], self.opsets)[name]
        stored: dict[str, TensorProto] = {}
        for k in nodes:
            for read in self._reads[k]:
                owner = self.owner(read)
                if owner is not None and read in owner.tensors:
                    stored[read] = owner.tensors[read]
        return evaluate([self.nodes[k] for k in nodes], leaves, [name], stored, self.opsets)[name]

    def _behind(self, name: str, *, as_written: bool) -> tuple[list[int], Arrays]:
        """The nodes that compute a known value, and the shapes that these start from."""
        nodes: set[int] = set()
        leaves: Arrays = {}
        todo = [name]
        while todo:
            value = todo.pop()
            if value in leaves or self.is_stored(value):
                continue
            if value not in self.writers:  # of a graph around this one
                leaves[value] = self.constant(value)
                continue
            k = self.writers[value]
            node = self.nodes[k]
            if kind_of(node) in (op.Shape, op.Size) and not self.is_constant(node.input[0]):
                leaves[value] = self._of_shape(node)
            elif kind_of(node) == op.CastLike and not self.is_known(node.input[1]):
                cast = self._cast_like(node, as_written=as_written)
                leaves[value] = cast if as_written else widened(cast)
            elif k not in nodes:
                nodes.add(k)
                todo += self._reads[k]
        return sorted(nodes), leaves

    def _of_shape(self, node: NodeProto) -> np.ndarray:
        shape = np.array(self.shape(node.input[0]), np.int64)
        if kind_of(node) == op.Size:
            return np.array(shape.prod())
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return shape[slice(bounds.get("start", 0), bounds.get("end"))]

    def _cast_like(self, node: NodeProto, *, as_written: bool) -> np.ndarray:
        """In the type of the other operand; what is cast is computed as it is written, too, where that is asked for."""
        dtype = helper.tensor_dtype_to_np_dtype(self.type(node.input[1]) or TensorProto.FLOAT)
        cast: np.ndarray = self.constant(node.input[0], as_written=as_written).astype(dtype)
        return cast
