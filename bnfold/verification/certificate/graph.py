"""A graph as it is written, read for a proof: who writes what, what is constant, which values are one."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph.float64_values import widened
from bnfold.verification.certificate.branches import branch_of, handed_out
from bnfold.verification.certificate.evaluation import Arrays, evaluate, evaluate_as_written
from bnfold.verification.certificate.nodes import attributes_of, bodies_of, holds_graph, node_reads, type_of
from bnfold.verification.certificate.sizes import FEW, Shape, kinds_of, node_kinds, prod

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Graph"]

_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
_MOST_TURNS = 1000  # of a loop that is run for its shapes
_LIMIT = "limit of turns"  # the name of a value that no model has
_MOST = 1 << 20  # elements of a value that is computed from shapes


class Graph:
    """One graph of a model.

    Args:
        graph: with inferred shapes; large initializers may lie in `tensors` alone.
        tensors: its initializers.
        opsets: versions by domain.
        inputs: names of what is given from outside, in order.
        outer: the graph that a body stands in.
        take_branches: whether an `If` of a known condition is read as the branch that it takes.

    Attributes:
        taken: names in branches that were taken: where they stand, as in `bnfold.records.Certificate`.
    """

    def __init__(
        self,
        graph: GraphProto,
        tensors: Mapping[str, TensorProto],
        opsets: Mapping[str, int],
        inputs: Sequence[str],
        outer: Graph | None = None,
        *,
        take_branches: bool = False,
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
        self.take_branches = take_branches
        self.taken: dict[str, str] = {}
        self._constants: set[str] = set(self.tensors)
        self._known: set[str] = set(self.tensors)
        self._alias: dict[str, str] = {}
        self._arrays: dict[tuple[str, bool], np.ndarray] = {}
        self._reads = [tuple(dict.fromkeys(node_reads(node))) for node in self.nodes]
        self._find()

    def _find(self) -> None:
        """Constants, what follows from shapes, and values that are one, in one pass."""
        seen: dict[tuple[object, ...], list[int]] = {}
        for k, _ in enumerate(self.nodes):  # which grows behind k where a branch is taken
            if self.take_branches:
                self._take(k)
            node = self.nodes[k]
            outputs = [name for name in node.output if name]
            if node.domain not in ("", "ai.onnx") or node.op_type in _RANDOM or not outputs:
                continue
            if holds_graph(node):
                self._complete(k)
            else:
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

    def _take(self, k: int) -> None:
        """Put the branch that an `If` takes in its place; not where a name in it has another meaning here."""
        node = self.nodes[k]
        if node.op_type != "If" or not self.is_known(node.input[0]):
            return
        attribute, body = branch_of(node, condition=bool(self.constant(node.input[0]).all()))
        nodes = [*body.node, *handed_out(node, body)]
        names = {name for inner in body.node for name in inner.output if name} | {t.name for t in body.initializer}
        if any(self.owner(name) is not None for name in names):
            return
        place = f"{node.output[0]}.{attribute}"
        before = self.taken.get(node.output[0], "")
        self.taken.update(dict.fromkeys(names, f"{before}/{place}" if before else place))
        shapes, types = kinds_of(body)
        for tensor in body.initializer:
            self.tensors[tensor.name] = tensor
            shapes[tensor.name], types[tensor.name] = tuple(tensor.dims), tensor.data_type
            self._constants.add(tensor.name)
            self._known.add(tensor.name)
        self.shapes.update({name: shape for name, shape in shapes.items() if name in names})
        self.types.update({name: type_ for name, type_ in types.items() if name in names})
        self.nodes[k : k + 1] = nodes
        self._reads[k : k + 1] = [tuple(dict.fromkeys(node_reads(inner))) for inner in nodes]
        self.writers = {name: i for i, inner in enumerate(self.nodes) for name in inner.output if name}

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
        kinds = {name: (self.type(name) or type_of(small.get(name)), self.shape(name)) for name in self._reads[k]}
        for name, (type_, shape) in node_kinds(node, self.opsets, kinds, small).items():
            self.types.setdefault(name, type_)
            if shape is not None:
                self.shapes[name] = shape
        if any(None in (self.shapes.get(name) or (None,)) for name in missing):
            self._run_for_shapes(k)

    def _run_for_shapes(self, k: int) -> None:
        """Run a node whose shapes ONNX does not infer, as that of a loop, on ones."""
        node = self.nodes[k]
        values: Arrays = {}
        if not self.ends(node):  # what it carries most often keeps its shape; any other is one that it does not run at
            carried = zip(node.output, node.input[2:], strict=False)
            self.shapes.update({a: shape for a, b in carried if (shape := self.shape(b)) is not None})
            node, values = _limited(node), {_LIMIT: np.array(_MOST_TURNS)}
        for name in self._reads[k]:
            shape, type_ = self.shape(name), self.type(name)
            if self.is_known(name):
                values[name] = self.constant(name)
            elif prod(shape) <= _MOST and type_:
                dtype = helper.tensor_dtype_to_np_dtype(type_)
                values[name] = widened(np.ones([n or 0 for n in shape or ()], dtype))
            else:
                return
        outputs = [name for name in node.output if name]
        with contextlib.suppress(InputRefused):
            found = evaluate([node], values, outputs, {}, self.opsets)
            if _LIMIT not in values or all(_MOST_TURNS not in array.shape[:1] for array in found.values()):
                self.shapes.update({name: array.shape for name, array in found.items()})

    def _passes_on(self, node: NodeProto) -> bool:
        """Identity, and Dropout in inference."""
        if node.op_type == "Identity":
            return True
        if node.op_type != "Dropout" or any(a.name == "is_test" and not a.i for a in node.attribute):
            return False
        mode = node.input[2] if len(node.input) > 2 else ""
        return not mode or (self.is_constant(mode) and not bool(self.constant(mode).any()))

    def ends(self, node: NodeProto) -> bool:
        """Whether a node can be run on any numbers: a loop without a known number of turns may go on for ever."""
        if node.op_type != "Loop":
            return True
        return self.is_known(node.input[0]) and bool(self.constant(node.input[0]) <= _MOST_TURNS)

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
            if node.op_type in ("Shape", "Size") and not self.is_constant(node.input[0]):
                leaves[value] = self._of_shape(node)
            elif node.op_type == "CastLike" and not self.is_known(node.input[1]):
                cast = self._cast_like(node)
                leaves[value] = cast if as_written else widened(cast)
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
        """In the type of the other operand."""
        dtype = helper.tensor_dtype_to_np_dtype(self.type(node.input[1]) or TensorProto.FLOAT)
        cast: np.ndarray = self.constant(node.input[0]).astype(dtype)
        return cast

    def bodies(self, k: int) -> Iterator[tuple[str, Graph]]:
        """The graphs that a node holds, by attribute; of a list, with the position."""
        for name, body in bodies_of(self.nodes[k]):
            tensors = {tensor.name: tensor for tensor in body.initializer}
            yield (
                name,
                Graph(
                    body,
                    tensors,
                    self.opsets,
                    [value.name for value in body.input],
                    self,
                    take_branches=self.take_branches,
                ),
            )


def _limited(loop: NodeProto) -> NodeProto:
    """A loop that a condition ends, and a number of turns, whichever comes first."""
    copy = NodeProto()
    copy.CopyFrom(loop)
    copy.input[0] = _LIMIT
    return copy
