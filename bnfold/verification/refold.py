"""The parameters of a file against those of a fold made anew: what no input reaches is compared number by number.

The unfolded graph of the source is folded once more, in this process and with the file left aside; its parameters keep
the float64 digits that they have before they are stored. A right file holds each of them rounded once:

    |stored - w| <= 1/2 ulp(w),   ulp(w) = 2^(floor(log2 |w|) + 1 - p)

with p the digits of the stored format; numbers below 2^-p of the largest of their tensor count as that large, since
what float64 leaves of a cancelled sum has the size of its terms.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph.scaled import Scaled
from bnfold.records import StoredParameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    import onnx_ir as ir

__all__ = ["MAX_ULPS", "Refolded", "compare_parameters"]

MAX_ULPS = 1.0  # rounding once leaves 1/2; as much again for a float64 sum in another order, on another machine
# Digits of the significand with its hidden one, and the exponent of the smallest normal number.
_FORMATS: dict[int, tuple[int, int]] = {
    TensorProto.FLOAT: (24, -126),
    TensorProto.FLOAT16: (11, -14),
    TensorProto.BFLOAT16: (8, -126),
}
_PRODUCER = "bnfold"
_BLOCK = 1 << 17  # elements that are compared at a time


@dataclass(frozen=True)
class Refolded:
    """What the comparison found: the facts, a failure in words, or why there was nothing to compare."""

    facts: StoredParameters | None = None
    failure: str | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class _Worst:
    """The parameter of a tensor that lies furthest off."""

    ulps: float
    name: str
    index: tuple[int, ...]
    found: float
    expected: float


def compare_parameters(file: onnx.ModelProto, plain: onnx.ModelProto) -> Refolded:
    """Compare the floating-point initializers of a file with those of the folded graph of the source.

    Only a file that bnfold has made is judged: another tool's fold is right in other units, with other names, or in
    float32 arithmetic. So is one whose parameters mostly differ, as those of other units do.

    Args:
        file: with its external data.
        plain: the unfolded graph of the source; unchanged.
    """
    if file.producer_name != _PRODUCER:
        return Refolded(
            skipped=f"the file was made by {file.producer_name or 'an unnamed tool'}, which folds in its way"
        )
    scales = {name for node in file.graph.node if node.op_type in {"Resize", "Upsample"} for name in node.input[1:]}
    floats = (tensor for tensor in file.graph.initializer if tensor.data_type in _FORMATS)
    stored = {tensor.name: tensor for tensor in floats if tensor.name not in scales}  # which onnxsim may have computed
    if not stored:  # no comparison of nothing passes for one
        return Refolded(skipped="the file has no initializers in float32, float16 or bfloat16")
    try:
        expected = _expected(plain, stored)
    except InputRefused as refused:
        return Refolded(skipped=f"the source cannot be folded: {refused}")
    if expected is None:
        return Refolded(skipped="the file holds other parameters than a fold of the source")
    n_compared = n_far = 0
    worst = _Worst(0.0, "", (), 0.0, 0.0)
    for name, tensor in stored.items():
        far, own = _distance(tensor, expected[name])
        n_compared += math.prod(tensor.dims)
        n_far += far
        if not own.ulps <= worst.ulps:
            worst = own
    if 2 * n_far > n_compared:
        return Refolded(skipped="the parameters of the file are in other units than those of a fold made here")
    return Refolded(StoredParameters(n_compared, worst.ulps), _sentence(worst, n_far) if n_far else None)


def _expected(plain: onnx.ModelProto, stored: dict[str, TensorProto]) -> dict[str, ir.TensorProtocol] | None:
    """The fold's parameters by name, in float64; None where the file has others, in name, shape or type.

    A file may lack some: of equal tensors, onnxsim keeps one.
    """
    import onnx_ir as ir

    from bnfold.folding import CHANNEL_BLOCK, CUDA_CHANNEL_BLOCK, fold_model

    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in plain.graph.initializer):
        return None
    # What `fold-export` takes for other targets, and may have taken with `--measure`, comes last: a fold for each.
    choices = itertools.product((False, True), (True, False), (True, False), (CHANNEL_BLOCK, CUDA_CHANNEL_BLOCK))
    for move, merge, remove, block in choices:
        model = ir.from_proto(plain)
        fold_model(
            model, move_behind_relus=move, merge_branches=merge, remove_channels=remove, channel_block=block,
            rounded=False,
        )  # fmt: skip
        values = model.graph.initializers
        kinds = {name: (tuple(v.shape or ()), v.dtype) for name, v in values.items()}
        if all(kinds.get(n) == (tuple(t.dims), ir.DataType(t.data_type)) for n, t in stored.items()):
            return {name: value.const_value for name, value in values.items() if value.const_value is not None}
    return None


def _distance(stored: TensorProto, expected: ir.TensorProtocol) -> tuple[int, _Worst]:
    """How many parameters of a tensor are not the expected ones, rounded once, and the furthest."""
    digits, smallest = _FORMATS[stored.data_type]
    found = numpy_helper.to_array(stored)
    finite = (np.abs(block[np.isfinite(block)]) for _, block in _blocks(expected))
    largest = max((float(block.max(initial=0.0)) for block in finite), default=0.0)
    n_far, worst = 0, _Worst(0.0, stored.name, (), 0.0, 0.0)
    for start, block in _blocks(expected):
        size = np.maximum(np.abs(block), math.ldexp(largest, -digits))
        exponent = np.where(size > 0, np.frexp(size)[1] - 1, smallest)
        ulp = np.ldexp(1.0, np.maximum(exponent, smallest) - digits + 1)
        own = found[start : start + len(block)] if found.ndim else found
        wide = own.astype(np.float64)
        with np.errstate(invalid="ignore"):  # a bound of a Clip or a mask may be infinite, on both sides
            ulps = np.where(wide == block, 0.0, np.abs(wide - block) / ulp)
        ulps = np.where(np.isnan(ulps), np.inf, ulps)  # every comparison with NaN is false
        n_far += int(np.count_nonzero(~(ulps <= MAX_ULPS)))
        place = np.unravel_index(int(np.argmax(ulps)), ulps.shape) if ulps.size else ()
        if ulps.size and not ulps[place] <= worst.ulps:
            index = tuple(int(i) for i in place)
            index = (index[0] + start, *index[1:]) if index else ()
            worst = _Worst(float(ulps[place]), stored.name, index, float(own[place]), float(block[place]))
    return n_far, worst


def _blocks(tensor: ir.TensorProtocol) -> Iterator[tuple[int, np.ndarray]]:
    """The rows (axis 0) a few at a time, in float64, each with the number of the first."""
    if isinstance(tensor, Scaled):
        yield from ((rows.start, block) for rows, block in tensor.blocks())
        return
    array = tensor.numpy()
    if array.ndim == 0:
        yield 0, array.astype(np.float64)
        return
    n_rows = max(1, _BLOCK // max(1, math.prod(array.shape[1:])))
    for start in range(0, len(array), n_rows):
        yield start, array[start : start + n_rows].astype(np.float64)


def _sentence(worst: _Worst, n_far: int) -> str:
    place = f"[{', '.join(map(str, worst.index))}]" if worst.index else ""
    others = f", and {n_far - 1} more are off" if n_far > 1 else ""
    return (
        f"parameter {worst.name}{place} is {worst.found:.9g}, and not {worst.expected:.9g} as the source's parameters "
        f"give in float64: {worst.ulps:.3g} units in the last place, allowed {MAX_ULPS:g}{others}"
    )
