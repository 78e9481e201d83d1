"""Kernels in integers, in NumPy: what ONNX Runtime's QLinearConv, QLinearAdd, QGemm and so on compute.

Sums of products are exact: float64 holds every integer below 2^53, and sums in int32 are below 2^31.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from bnfold.graph import operators as op
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.operators import in_integers, kind_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KERNELS", "MOVES", "Kernel", "Operand", "saturated"]

MOVES = in_integers("move")
KERNELS = in_integers("weights", "join", "pool", "table")

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Operand:
    """Integers with their scale and zero point, as a DequantizeLinear reads them; `integers` None until known."""

    name: str
    integers: Array | None
    scale: Array
    zero_point: Array | None
    axis: int

    @property
    def per_channel_input(self) -> bool:
        """Whether an activation has scales per axis, which no integer kernel reads."""
        return self.integers is None and self.scale.ndim > 0

    def centred(self) -> Array:
        """The integers minus the zero point, in float64."""
        if self.integers is None:
            raise ValueError(f"{self.name} has no value")
        q = self.integers.astype(np.float64)
        return q if self.zero_point is None else q - self._along(self.zero_point, q.ndim)

    def real(self) -> Array:
        """What the integers stand for."""
        q = self.centred()
        return np.asarray(q * self._along(self.scale, q.ndim))

    def _along(self, numbers: Array, rank: int) -> Array:
        wide = numbers.astype(np.float64)
        return wide.reshape([-1 if k == self.axis % rank else 1 for k in range(rank)]) if wide.ndim else wide


def saturated(whole: Array, dtype: np.dtype[Any]) -> Array:
    """Whole numbers as integers of 8 bits, those beyond the range at its end."""
    ends = np.iinfo(dtype)
    return np.asarray(np.clip(whole, ends.min, ends.max).astype(dtype))


class Kernel:
    """One operator in integers."""

    def __init__(self, node: onnx.NodeProto, opset: int) -> None:
        self._node, self._opset = node, opset

    def to_integers(self, operands: Sequence[Operand], scale: Array, zero_point: Array, rest: Sequence[Array]) -> Array:
        """The integers that the operator writes with a scale and a zero point.

        Args:
            operands: what it reads through DequantizeLinear.
            scale: of the output, in float32.
            zero_point: of the output.
            rest: what it reads besides: shapes and axes.
        """
        kind = kind_of(self._node)
        y: Array
        if kind in MOVES:
            x = operands[0].integers
            if x is None:
                raise ValueError(f"{operands[0].name} has no value")
            return np.asarray(self._evaluate([x.astype(np.float64), *rest])).astype(x.dtype)
        if kind.integers == "weights":
            total, factor = self._sum(operands)
            y = total.astype(np.float32) * (factor / np.float32(scale)).astype(np.float32)
        elif kind == op.GlobalAveragePool:
            x = operands[0].centred()
            size = np.prod(x.shape[2:])
            total = x.sum(axis=tuple(range(2, x.ndim)), keepdims=True)
            y = total.astype(np.float32) * (np.float32(operands[0].scale) / np.float32(scale * np.float32(size)))
        else:  # computed in float by the kernels too, or by tables of what float gives
            y = self._evaluate([operand.real() for operand in operands]) / np.float64(scale)
        return saturated(np.rint(y) + float(zero_point), zero_point.dtype)

    def to_float(self, operands: Sequence[Operand]) -> Array:
        """What a Gemm or MatMul writes that ends in float."""
        total, factor = self._sum(operands)
        return np.asarray(total.astype(np.float32) * factor, np.float64)

    def _sum(self, operands: Sequence[Operand]) -> tuple[Array, Array]:
        """The exact sum of products, bias included, and the float32 factor of it, shaped like the output."""
        x, w = operands[0], operands[1]
        total = self._evaluate([x.centred(), w.centred()])
        factor = (np.float32(x.scale) * w.scale.astype(np.float32)).astype(np.float32)
        shape = [1, -1, *[1] * (total.ndim - 2)] if kind_of(self._node) == op.Conv else [-1]
        if len(operands) > 2:
            total = total + operands[2].centred().reshape(shape)
        return total, factor.reshape(shape) if factor.ndim else factor

    def _evaluate(self, arrays: Sequence[Array]) -> Array:
        """The operator on arrays as they are, in float64; Conv and Gemm without their bias."""
        node = onnx.NodeProto()
        node.CopyFrom(self._node)
        del node.input[:], node.output[:]
        names = [f"x{k}" for k in range(len(arrays))]
        node.input.extend(names)
        node.output.append("y")
        graph = onnx.helper.make_graph(
            [node], "kernel", [onnx.ValueInfoProto(name=name) for name in names], [onnx.ValueInfoProto(name="y")]
        )
        opsets = [onnx.helper.make_opsetid("", self._opset)]
        model = onnx.ModelProto(ir_version=10, opset_import=opsets, graph=graph)
        feed: dict[str, Any] = dict(zip(names, arrays, strict=True))
        return Float64Graph(model).evaluate(feed)["y"]
