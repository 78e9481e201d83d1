"""A graph as it is written, read for a proof: who writes what, what is constant, which values are one."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph.float64_values import reads, widened
from bnfold.verification.certificate.evaluation import Arrays, evaluate, evaluate_as_written
from bnfold.verification.certificate.sizes import FEW, Shape, kinds_of, node_kinds, prod

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Graph", "attributes_of", "bodies_of", "holds_graph"]

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_MOST = 1 << 20  # elements of a value that is computed from shapes


class Graph:
    """One graph of a model.

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
        outer: Graph | None = None,
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
        self._reads = [tuple(dict.fromkeys(reads(node))) for node in self.nodes]
        self._find()

    def _find(self) -> None:
        """Constants, what follows from shapes, and values that are one, in one pass."""
        seen: dict[tuple[object, ...], list[int]] = {}
        for k, node in enumerate(self.nodes):
            outputs = [name for name in node.output if name]
            if node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM or not outputs:
                continue
            if not holds_graph(node):
                if all(self.is_constant(name) for name in self._reads[k]):
                    self._constants.update(outputs)
                    self._known.update(outputs)
                    continue
                if self._follows_from_shapes(k):
                    self._known.update(outputs)
                self._complete(k)
            if self._passes_on(node):
                self._alias[node.output[0]] = self.alias(node.input[0])
            elif not holds_graph(node) and self._reads[k]:
                self._number(k, seen)

    def _follows_from_shapes(self, k: int) -> bool:
        node = self.nodes[k]
        if node.op_type in ("Shape", "Size"):
            shape = self.shape(node.input[0])
            return shape is not None and None not in shape
        read = self._reads[k] if node.op_type != "CastLike" else (node.input[0],)  # of the other, the type alone
        if not read or not all(self.is_known(name) for name in read):
            return False
        sizes = [prod(self.shape(name)) for name in node.output if name]
        return all(size <= _MOST or math.isinf(size) for size in sizes)

    def _complete(self, k: int) -> None:
        """Find the shapes that inference over the whole graph has not: of what is known, or from what is read."""
        node = self.nodes[k]
        missing = [name for name in node.output if name and None in (self.shapes.get(name) or (None,))]
        if not missing:
            return
        if all(name in self._known for name in missing):
            for name in missing:
                with contextlib.suppress(InputRefused):
                    array = self.constant(name)
                    self.shapes[name] = array.shape
                    if array.size > _MOST:
                        self._known.discard(name)
            return
        small = {n: self.constant(n) for n in self._reads[k] if self.is_known(n) and prod(self.shape(n)) <= FEW}
        kinds = {name: (self.type(name) or _type_of(small.get(name)), self.shape(name)) for name in self._reads[k]}
        for name, (type_, shape) in node_kinds(node, self.opsets, kinds, small).items():
            self.types.setdefault(name, type_)
            if shape is not None:
                self.shapes[name] = shape

    def _passes_on(self, node: NodeProto) -> bool:
        """Identity, and Dropout in inference."""
        if node.op_type == "Identity":
            return True
        if node.op_type != "Dropout" or any(a.name == "is_test" and not a.i for a in node.attribute):
            return False
        mode = node.input[2] if len(node.input) > 2 else ""
        return not mode or (self.is_constant(mode) and not bool(self.constant(mode).any()))

    def _number(self, k: int, seen: dict[tuple[object, ...], list[int]]) -> None:
        """A node that computes what an earlier one does writes the same values."""
        node = self.nodes[k]
        varying = tuple(
            (i, self.alias(name)) for i, name in enumerate(node.input) if name and not self.is_constant(name)
        )
        key = (node.op_type, node.domain, attributes_of(node), len(node.output), varying)
        for other in seen.setdefault(key, []):
            twin = self.nodes[other]
            same = len(twin.input) == len(node.input) and all(
                a == b or self._same_constant(a, b)
                for a, b in zip(node.input, twin.input, strict=True)
                if not (a and not self.is_constant(a))
            )
            if same:
                pairs = zip(node.output, twin.output, strict=True)
                self._alias.update({a: self.alias(b) for a, b in pairs if a and b})
                return
        seen[key].append(k)

    def _same_constant(self, a: str, b: str) -> bool:
        if not (a and b and self.is_constant(a) and self.is_constant(b)) or self.shape(a) != self.shape(b):
            return False
        return bool(np.array_equal(self.constant(a), self.constant(b)))

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

    def owner(self, name: str) -> Graph | None:
        """The graph, this one or one around it, that a name belongs to."""
        graph: Graph | None = self
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
        nodes, leaves = self._behind(name)
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

    def _behind(self, name: str) -> tuple[list[int], Arrays]:
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
            if node.op_type in ("Shape", "Size") and not self.is_constant(node.input[0]):
                leaves[value] = self._of_shape(node)
            elif node.op_type == "CastLike" and not self.is_known(node.input[1]):
                leaves[value] = self._cast_like(node)
            elif k not in nodes:
                nodes.add(k)
                todo += self._reads[k]
        return sorted(nodes), leaves

    def _of_shape(self, node: NodeProto) -> np.ndarray:
        shape = np.array(self.shape(node.input[0]), np.int64)
        if node.op_type == "Size":
            return np.array(shape.prod())
        bounds = {attribute.name: attribute.i for attribute in node.attribute}
        return shape[slice(bounds.get("start", 0), bounds.get("end"))]

    def _cast_like(self, node: NodeProto) -> np.ndarray:
        """In float64 where the type is of floating point."""
        dtype = helper.tensor_dtype_to_np_dtype(self.type(node.input[1]) or TensorProto.FLOAT)
        return widened(self.constant(node.input[0]).astype(dtype))

    def bodies(self, k: int) -> Iterator[tuple[str, Graph]]:
        """The graphs that a node holds, by attribute; of a list, with the position."""
        for name, body in bodies_of(self.nodes[k]):
            tensors = {tensor.name: tensor for tensor in body.initializer}
            yield name, Graph(body, tensors, self.opsets, [value.name for value in body.input], self)


def _type_of(array: np.ndarray | None) -> int:
    """The element type of a known value, in the precision that shapes are inferred with; 0 for None."""
    if array is None:
        return 0
    return TensorProto.FLOAT if array.dtype.kind == "f" else int(helper.np_dtype_to_tensor_dtype(array.dtype))


def holds_graph(node: NodeProto) -> bool:
    """Whether a node has a body."""
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)


def bodies_of(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The bodies of a node, named as in `bnfold.records.Certificate`."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((f"{attribute.name}{k}", graph) for k, graph in enumerate(attribute.graphs))


def attributes_of(node: NodeProto) -> tuple[bytes, ...]:
    """The attributes of a node in a form that can be compared; bodies by name alone."""
    found = []
    for attribute in sorted(node.attribute, key=lambda a: a.name):
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            found.append(attribute.name.encode())
            continue
        bare = onnx.AttributeProto()
        bare.CopyFrom(attribute)
        bare.ClearField("doc_string")
        found.append(bare.SerializeToString(deterministic=True))
    return tuple(found)
