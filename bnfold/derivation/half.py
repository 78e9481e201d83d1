"""The parameters of a float16 file derived a second time; every number must be the same.

    W' = round_16(round_32(a_y W / a_x))       b' = round_16(round_32(a_y b))

from the folded float graph and the recorded units, by code that shares nothing with what writes the file: it walks from
one graph to the other by the names of nodes. It also sees which operators are in float16, and which value each reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

if TYPE_CHECKING:
    from bnfold.records.recipes import HalfRecipe

__all__ = ["derived_differences"]

_LAYERS = ("Conv", "Gemm", "MatMul")


def derived_differences(folded: ModelProto, written: ModelProto, recipe: HalfRecipe) -> tuple[int, list[str]]:
    """How many numbers were derived and compared, and a sentence for each node that differs, its name first.

    Args:
        folded: the float32 graph, in the units that it came in.
        written: the file.
        recipe: units, and which nodes stay in float32.
    """
    return _Derivation(folded, written, recipe).compare()


class _Derivation:
    def __init__(self, folded: ModelProto, written: ModelProto, recipe: HalfRecipe) -> None:
        self._recipe = recipe
        self._folded = folded
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
        self._file = {node.name: node for node in written.graph.node}
        self._makes = {name: node for node in written.graph.node for name in node.output}
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
        self._outputs = {value.name for value in folded.graph.output}
        self._n = 0
        self._found: list[str] = []

    def compare(self) -> tuple[int, list[str]]:
        for node in self._folded.graph.node:
            own = self._file.get(node.name)
            if own is None or own.op_type != node.op_type:
                self._found.append(f"{node.name}: the file has no such {node.op_type}")
                continue
            self._compare_node(node, own)
        return self._n, self._found

    def _compare_node(self, node: NodeProto, own: NodeProto) -> None:
        if len(own.input) != len(node.input):
            self._found.append(f"{node.name}: it has {len(own.input)} inputs in place of {len(node.input)}")
            return
        for index, (expected, name) in enumerate(zip(node.input, own.input, strict=True)):
            if expected in self._constants:
                self._compare_parameter(node, index, name)
            elif self._value_behind(name) != expected:
                self._found.append(f"{node.name}: it reads {self._value_behind(name)} in place of {expected}")
        if [attribute.SerializeToString(deterministic=True) for attribute in node.attribute] != [
            attribute.SerializeToString(deterministic=True) for attribute in own.attribute
        ]:
            self._found.append(f"{node.name}: its attributes are not those of the folded graph")

    def _value_behind(self, name: str) -> str:
        """The value of the folded graph that a name stands for, through Casts of the file's own."""
        behind = self._makes.get(name)
        while behind is not None and behind.op_type == "Cast" and behind.name == f"{name}/Cast":
            name = behind.input[0]
            behind = self._makes.get(name)
        stem = name.removesuffix("/f16")
        return stem if stem in self._outputs else name

    def _compare_parameter(self, node: NodeProto, index: int, name: str) -> None:
        expected = self._constants[node.input[index]]
        found = self._stored.get(name)
        if expected.dtype == np.float32 and node.op_type in _LAYERS:
            expected = self._in_units(node, index, expected.astype(np.float64)).astype(np.float32)
        elif expected.dtype == np.float32 and self._recipe.gauge and node.op_type not in _LAYERS:
            if found is None or not _is_power_apart(expected, found):
                self._found.append(f"{node.name}: its input {index} is no power of two times that of the folded graph")
            self._n += expected.size
            return
        if found is None or found.shape != expected.shape:
            self._found.append(f"{node.name}: its input {index} is missing, or of another shape")
            return
        self._n += expected.size
        with np.errstate(over="ignore"):
            rounded = expected.astype(found.dtype)
        wrong = found != rounded
        if wrong.any():
            self._found.append(
                f"{node.name}: {int(wrong.sum())} of {wrong.size} numbers of its input {index} are wrong"
            )

    def _in_units(self, node: NodeProto, index: int, array: np.ndarray) -> np.ndarray:
        """A weight or a bias in the units of the file."""
        read, written = (self._recipe.gauge.get(name) for name in (node.input[0], node.output[0]))
        if index == 2:
            return array if written is None else array * written
        if index != 1:
            return array
        axis = 0 if node.op_type == "Conv" or _is_transposed(node) else array.ndim - 1
        rows = np.moveaxis(array, axis, 0).copy()
        if written is not None:
            rows *= written.reshape(-1, *(1,) * (rows.ndim - 1))
        if read is not None:
            m, per_group = rows.shape[0], rows.shape[1 if node.op_type == "Conv" else -1]
            own = read.reshape(-1, per_group)
            each = own[np.arange(m) // (m // len(own))]
            rows /= each.reshape(m, per_group, *(1,) * (rows.ndim - 2))
        return np.moveaxis(rows, 0, axis)


def _is_transposed(node: NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


def _is_power_apart(expected: np.ndarray, found: np.ndarray) -> bool:
    """Whether each number is that of the folded graph times a power of two, rounded to the type of the file."""
    if expected.shape != found.shape:
        return False
    a, b = expected.astype(np.float64), found.astype(np.float64)
    both = (a != 0) & (b != 0)
    if ((a != 0) != (b != 0)).any():
        return False
    power = 2.0 ** np.rint(np.log2(np.abs(b[both] / a[both])))
    with np.errstate(over="ignore"):
        return bool(np.array_equal((a[both] * power).astype(found.dtype).astype(np.float64), b[both]))
