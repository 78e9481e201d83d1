"""Shapes that a file declares of its outputs, held against what it computes: what a run contradicts is left open."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from bnfold.verification.data.feeds import make_feeds
from bnfold.verification.data.input_facts import input_facts
from bnfold.verification.execution.plain_session import plain_session, try_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from bnfold.records import InputSpec
    from bnfold.sources.types import OnnxSource

__all__ = ["open_false_outputs"]

_SEVERAL = 2
log = logging.getLogger("bnfold.verification")


def open_false_outputs(file: onnx.ModelProto, source: OnnxSource, plain: onnx.ModelProto, *, batch: int | None) -> None:
    """Run the source once; of an output whose declared shape is false, `file` declares the rank alone, in place.

    ONNX Runtime computes a file with false shapes, and refuses to write into an output that was allocated by them
    (IOBinding); Triton and TensorRT believe them. A source that does not run is left to the comparison. Nothing is said
    where an open axis has length 1: a Squeeze without axes takes it off, too.

    Args:
        file: made of the source, with outputs in the same order.
        source: settled: it runs at the sizes of its inputs.
        plain: its graph before the fold.
        batch: that the file is fixed at; None where it is open.
    """
    sizes = [size for spec in source.inputs if (size := spec.fixed_batch) is not None]
    batches = [batch or max(sizes, default=max((_SEVERAL, *(spec.smallest_batch for spec in source.inputs))))]
    feed = next(make_feeds(source.inputs, samples=source.samples, facts=input_facts(plain), batches=batches, seed=0))
    if any(1 in _open_lengths(spec, feed.arrays[spec.name].shape) for spec in source.inputs):
        return
    arrays = try_run(plain_session(plain, threads=1), feed.arrays)
    if isinstance(arrays, str):
        return
    for output, array in zip(file.graph.output, arrays, strict=True):
        if isinstance(array, np.ndarray) and output.type.tensor_type.HasField("shape"):
            _open(output, array.shape, source.facts.spec)


def _open_lengths(spec: InputSpec, shape: Sequence[int]) -> list[int]:
    """The lengths of the axes that the file leaves open."""
    symbols = spec.symbols or (None,) * len(shape)
    return [length for axis, length in enumerate(shape) if symbols[axis] is not None or spec.shape[axis] is None]


def _open(output: onnx.ValueInfoProto, computed: Sequence[int], where: str) -> None:
    dims = output.type.tensor_type.shape.dim
    declared = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    is_true = len(dims) == len(computed) and all(a in (None, b) for a, b in zip(declared, computed, strict=True))
    if is_true:
        return
    log.warning(
        "%s declares output %s as %s, and computes %s: model.onnx leaves its sizes open",
        where, output.name, _text([dim.dim_param or dim.dim_value or None for dim in dims]), _text(computed),
    )  # fmt: skip
    output.type.tensor_type.shape.ClearField("dim")
    for _ in computed:
        output.type.tensor_type.shape.dim.add()


def _text(shape: Sequence[int | str | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "one number"
