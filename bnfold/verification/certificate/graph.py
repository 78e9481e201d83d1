"""A graph as it is written, read for a proof: who writes what, what is constant, which values are one."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.float64_values import widened
from bnfold.graph.operators import is_onnx, kind_of
from bnfold.verification.certificate.branches import branch_of, handed_out
from bnfold.verification.certificate.evaluation import Arrays, evaluate
from bnfold.verification.certificate.graph_values import GraphValues
from bnfold.verification.certificate.nodes import attributes_of, bodies_of, holds_graph, node_reads, type_of
from bnfold.verification.certificate.sequences import part_shape
from bnfold.verification.certificate.sizes import FEW, kinds_of, node_kinds, prod

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Graph"]

_RANDOM = frozenset(
    {op.Bernoulli, op.Multinomial, op.RandomNormal, op.RandomNormalLike, op.RandomUniform, op.RandomUniformLike}
)
_MOST_TURNS = 1000  # of a loop that is run for its shapes
_LIMIT = "limit of turns"  # the name of a value that no model has
_MOST = 1 << 20  # elements of a value that is computed from shapes


class Graph(GraphValues):
    """One graph of a model, read in one pass.

    Args:
        graph: with inferred shapes; large initializers may lie in `tensors` alone.
        tensors: its initializers.
        opsets: versions by domain.
        inputs: names of what is given from outside, in order.
        outer: the graph that a body stands in.
        take: the `If`s, by their first output, that are read as the branch that they take.

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
        take: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(graph, tensors, opsets, inputs, outer)
        self._always = take
        self.taken: dict[str, str] = {}
        self._find()

    def _find(self) -> None:
        """Constants, what follows from shapes, and values that are one, in one pass."""
        seen: dict[tuple[object, ...], list[int]] = {}
        for k, _ in enumerate(self.nodes):  # which grows behind k where a branch is taken
            if self._always.intersection(self.nodes[k].output):
                self._take(k)
            node = self.nodes[k]
            outputs = [name for name in node.output if name]
            if not is_onnx(node.domain) or kind_of(node) in _RANDOM or not outputs:
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
        if kind_of(node) != op.If or not self.is_known(node.input[0]):
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
        if kind_of(node) in (op.Shape, op.Size):
            shape = self.shape(node.input[0])
            return shape is not None and None not in shape
        read = self._reads[k] if kind_of(node) != op.CastLike else (node.input[0],)  # of the other, the type alone
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
        if kind_of(node) == op.SequenceAt:
            self._complete_part(node)
            return
        small = {n: self.constant(n) for n in self._reads[k] if self.is_known(n) and prod(self.shape(n)) <= FEW}
        kinds = {name: (self.type(name) or type_of(small.get(name)), self.shape(name)) for name in self._reads[k]}
        for name, (type_, shape) in node_kinds(node, self.opsets, kinds, small).items():
            self.types.setdefault(name, type_)
            if shape is not None:
                self.shapes[name] = shape
        if any(None in (self.shapes.get(name) or (None,)) for name in missing):
            self._run_for_shapes(k)

    def _complete_part(self, node: NodeProto) -> None:
        """The shape of what a SequenceAt takes out of a tensor that was split."""
        split = self.nodes[self.writers[node.input[0]]] if node.input[0] in self.writers else None
        if split is None or kind_of(split) != op.SplitToSequence or not self.is_known(node.input[1]):
            return
        whole, lengths = self.shape(split.input[0]), split.input[1] if len(split.input) > 1 else ""
        if whole is None or None in whole or (lengths and not self.is_known(lengths)):
            return
        sizes = [length for length in whole if length is not None]
        shape = part_shape(split, sizes, self.constant(lengths) if lengths else None, int(self.constant(node.input[1])))
        if shape is not None:
            self.shapes[node.output[0]] = shape
            self.types.setdefault(node.output[0], self.type(split.input[0]))

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
        if kind_of(node) == op.Identity:
            return True
        if kind_of(node) != op.Dropout or any(a.name == "is_test" and not a.i for a in node.attribute):
            return False
        mode = node.input[2] if len(node.input) > 2 else ""
        return not mode or (self.is_constant(mode) and not bool(self.constant(mode).any()))

    def ends(self, node: NodeProto) -> bool:
        """Whether a node can be run on any numbers: a loop without a known number of turns may go on for ever."""
        if kind_of(node) != op.Loop:
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

    def bodies(self, k: int) -> Iterator[tuple[str, Graph]]:
        """The graphs that a node holds, by attribute; of a list, with the position."""
        for name, body in bodies_of(self.nodes[k]):
            tensors = {tensor.name: tensor for tensor in body.initializer}
            inputs = [value.name for value in body.input]
            yield name, Graph(body, tensors, self.opsets, inputs, self, take=self._always)


def _limited(loop: NodeProto) -> NodeProto:
    """A loop that a condition ends, and a number of turns, whichever comes first."""
    copy = NodeProto()
    copy.CopyFrom(loop)
    copy.input[0] = _LIMIT
    return copy
