"""Pixels in a quantised file beside those of the folded graph.

    q = a v        and of bytes that the file is given, q itself: scale 1, zero point 0, where v is made by a Cast

asked of the file: what stands between its input and q is run on random pixels beside what stands between the input and
v, and every number must be the same. What does more than move pixels and write constants (Resize) must be there by the
same name; from there on is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, NodeProto

    from bnfold.records.recipes import Recipe

__all__ = ["ExpectedPixels"]

_MOVES = frozenset({"Cast", "Gather", "Pad", "Transpose", "Constant", "Identity"})
_SIZES = (5, 7, 6, 4)  # of axes whose length is open
_RANGE = (0.0, 255.0)


class ExpectedPixels:
    """The values of pixels that integer kernels read.

    Args:
        source: the folded graph.
        written: the file.
        recipe: what it was made with.

    Attributes:
        integers: the name of the bytes in the file, by that of the value, for those that are stored as they are given.
        nodes: of the file, that are compared here.
        differences: a sentence for each value that is not as recorded.
    """

    def __init__(self, source: ModelProto, written: ModelProto, recipe: Recipe) -> None:
        self._source, self._written = source, written
        self.integers: dict[str, str] = {}
        self.nodes: set[str] = set()
        self.differences: list[str] = []
        makes = {name: node for node in source.graph.node for name in node.output}
        given = {value.name: value for value in source.graph.input}
        for value, scale in recipe.pixels.items():
            nodes, roots = _between(source, value)
            are_bytes = {name for name in roots if name in given} == roots and all(
                given[name].type.tensor_type.elem_type == onnx.TensorProto.UINT8 for name in roots
            )
            own = value
            if are_bytes and value in makes and makes[value].op_type == "Cast":
                if recipe.ranges.get(value) != _RANGE:
                    self.differences.append(f"{value}: its range is {recipe.ranges.get(value)}, bytes have {_RANGE}")
                if recipe.activations == "u8":
                    own = self.integers[value] = makes[value].input[0]
            found = self._compare(value, own, scale, nodes, roots)
            if found is not None:
                self.differences.append(f"{value}: {found}")

    def _compare(
        self, value: str, own: str, scale: np.ndarray, expected: list[NodeProto], roots: set[str]
    ) -> str | None:
        """What is wrong with the pixels of a value; None where they are right."""
        found, other_roots = _between(self._written, own)
        self.nodes |= {node.name for node in found}
        if other_roots != roots:
            return f"it is made of {', '.join(sorted(other_roots))} in place of {', '.join(sorted(roots))}"
        given = {each.name: each for each in self._source.graph.input}
        n = scale.size - self._added(expected)
        feed = {name: _random_pixels(given.get(name), n) for name in sorted(roots)}
        v = _evaluate(self._source, expected, value, feed)
        q = _evaluate(self._written, found, own, feed)
        wanted = v.astype(np.float64) * scale.reshape(1, -1, *(1,) * (v.ndim - 2))
        if q.shape != v.shape or (own != value and q.dtype != np.uint8):
            return f"the file has {q.dtype} {q.shape} in its place, the folded graph {v.shape}"
        wrong = q.astype(np.float64) != wanted
        if wrong.any():
            channel = int(np.argwhere(wrong)[0][1])
            return f"{int(wrong.sum())} of {wrong.size} pixels are others, the first in channel {channel}"
        return None

    def _added(self, nodes: list[NodeProto]) -> int:
        """How many channels Pads among nodes of the folded graph add."""
        stored = {tensor.name: tensor for tensor in self._source.graph.initializer}
        widths = [
            onnx.numpy_helper.to_array(stored[node.input[1]])
            for node in nodes
            if node.op_type == "Pad" and node.input[1] in stored
        ]
        return int(sum(each[1] + each[len(each) // 2 + 1] for each in widths))


def _between(model: ModelProto, name: str) -> tuple[list[NodeProto], set[str]]:
    """The nodes that make a value of pixels by moving them, in graph order, and what they begin with."""
    makes = {output: node for node in model.graph.node for output in node.output}
    stored = {tensor.name for tensor in model.graph.initializer}
    wanted: set[str] = set()
    roots: set[str] = set()
    left = [name]
    while left:
        last = left.pop()
        node = makes.get(last)
        if node is not None and node.op_type in _MOVES:
            wanted.add(node.output[0])
            left += node.input
        elif last and last not in stored:
            roots.add(last)
    return [node for node in model.graph.node if node.output and node.output[0] in wanted], roots


def _random_pixels(value: onnx.ValueInfoProto | None, n_channels: int) -> np.ndarray:
    """Pixels as an input holds them, or in floats, of so many channels, where they come from another operator."""
    rng = np.random.default_rng(0)
    if value is None:
        return rng.integers(0, 256, (2, n_channels, 5, 7)).astype(np.float32)
    kind = value.type.tensor_type
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else 2 if axis == 0 else _SIZES[axis % len(_SIZES)]
        for axis, dim in enumerate(kind.shape.dim)
    ]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return rng.integers(0, 256, sizes).astype(dtype)


def _evaluate(model: ModelProto, nodes: list[NodeProto], name: str, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """A value in ONNX's reference evaluator."""
    if not nodes:
        return feed[name]
    read = {each for node in nodes for each in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "pixels",
        [onnx.ValueInfoProto(name=each) for each in feed],
        [onnx.ValueInfoProto(name=name)],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    alone = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    (found,) = ReferenceEvaluator(alone).run([name], dict(feed))
    return np.asarray(found)
