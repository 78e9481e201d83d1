"""Bytes that a file is given as the integers of what the folded graph makes float of them.

    q = a v        scale 1, zero point 0, where v is made by a Cast in the folded graph

asked of the file itself: what stands between its input and q is run on random bytes beside what stands between the
input and v, and every byte must be the same. Nothing may stand there but what moves bytes or writes constants.
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

__all__ = ["ExpectedBytes"]

_MOVES = frozenset({"Cast", "Gather", "Pad", "Transpose", "Constant", "Identity"})
_SIZES = (5, 7, 6, 4)  # of axes whose length is open
_RANGE = (0.0, 255.0)


class ExpectedBytes:
    """The values that a file stores as the bytes that it is given.

    Args:
        source: the folded graph.
        written: the file.
        recipe: what it was made with.

    Attributes:
        integers: the name of the bytes in the file, by that of the value.
        nodes: of the file, that stand between its input and these.
        differences: a sentence for each value that is not as recorded.
    """

    def __init__(self, source: ModelProto, written: ModelProto, recipe: Recipe) -> None:
        self._source, self._written = source, written
        self.integers: dict[str, str] = {}
        self.nodes: set[str] = set()
        self.differences: list[str] = []
        makes = {name: node for node in source.graph.node for name in node.output}
        for value, scale in recipe.pixels.items():
            cast = makes.get(value)
            if cast is None or cast.op_type != "Cast":
                self.differences.append(f"{value}: the folded graph makes it of no bytes")
                continue
            if recipe.ranges.get(value) != _RANGE:
                self.differences.append(f"{value}: its range is {recipe.ranges.get(value)}, that of bytes is {_RANGE}")
            is_byte = recipe.activations == "u8"
            if is_byte:
                self.integers[value] = cast.input[0]
            found = self._compare(value, cast.input[0] if is_byte else value, scale)
            if found is not None:
                self.differences.append(f"{value}: {found}")

    def _compare(self, value: str, own: str, scale: np.ndarray) -> str | None:
        """What is wrong with the bytes of a value; None where they are right."""
        expected, found = _between(self._source, value), _between(self._written, own)
        self.nodes |= {node.name for node in found}
        strange = [node.name for node in (*expected, *found) if node.op_type not in _MOVES]
        if strange:
            return f"{strange[0]} stands between it and the input, and does not only move bytes"
        feed = {str(given.name): _random_bytes(given) for given in self._source.graph.input}
        v = _evaluate(self._source, expected, value, feed)
        q = _evaluate(self._written, found, own, feed)
        wanted = np.rint(v.astype(np.float64) * scale.reshape(1, -1, *(1,) * (v.ndim - 2)))
        if q.shape != v.shape or (own != value and q.dtype != np.uint8):
            return f"the file has {q.dtype} {q.shape} in its place, the folded graph {v.shape}"
        wrong = q.astype(np.float64) != wanted
        if wrong.any():
            channel = int(np.argwhere(wrong)[0][1])
            return f"{int(wrong.sum())} of {wrong.size} bytes are others, the first in channel {channel}"
        return None


def _between(model: ModelProto, name: str) -> list[NodeProto]:
    """The nodes that make a value, in graph order."""
    makes = {output: node for node in model.graph.node for output in node.output}
    wanted, left = set(), [name]
    while left:
        node = makes.get(left.pop())
        if node is not None and node.output[0] not in wanted:
            wanted.add(node.output[0])
            left += node.input
    return [node for node in model.graph.node if node.output and node.output[0] in wanted]


def _random_bytes(value: onnx.ValueInfoProto) -> np.ndarray:
    kind = value.type.tensor_type
    sizes = [
        dim.dim_value if dim.HasField("dim_value") else 2 if axis == 0 else _SIZES[axis % len(_SIZES)]
        for axis, dim in enumerate(kind.shape.dim)
    ]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return np.random.default_rng(0).integers(0, 256, sizes).astype(dtype)


def _evaluate(model: ModelProto, nodes: list[NodeProto], name: str, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """A value in ONNX's reference evaluator."""
    if not nodes:
        return feed[name]
    read = {each for node in nodes for each in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "bytes",
        [value for value in model.graph.input if value.name in read],
        [onnx.ValueInfoProto(name=name)],
        [tensor for tensor in model.graph.initializer if tensor.name in read],
    )
    alone = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    given = {name: array for name, array in feed.items() if name in read}
    (found,) = ReferenceEvaluator(alone).run([name], given)
    return np.asarray(found)
