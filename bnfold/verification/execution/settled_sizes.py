"""What a file leaves open is settled by trying: sizes of its dynamic axes, which of them is a batch, and integers.

The first choice at which the source runs in ONNX Runtime is taken; see `bnfold.verification.data.sizes_to_try`. Three
readings of the batch are tried, one after the other:

1. its symbol counts samples, and so does the first open axis of an input that lacks it; it runs with two and one;
2. its symbol alone counts samples;
3. it is a length as any other (a sequence on axis 0, say), and there is one sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from typing import TYPE_CHECKING

import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.sources.axes import is_batch_name
from bnfold.sources.types import OnnxSource
from bnfold.verification.data.sizes_to_try import Known, known_sizes
from bnfold.verification.data.value_ranges import batch_dim
from bnfold.verification.execution.plain_execution import as_proto
from bnfold.verification.execution.size_trials import Inputs, SizeTrials, is_integer, open_symbols

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnfold.sources.types import Source

__all__ = ["settled"]

MAX_RUNS = 40
MAX_RUNS_AS_BATCH = 20
BATCHES = (2, 1)  # that it runs with, where no other is asked for
log = logging.getLogger("bnfold.verification")


def settled(source: Source, *, batch: int | None = None) -> Source:
    """The source with a size for every axis but the batch, at which it runs; as it is where nothing is open.

    Args:
        source: as loaded.
        batch: the batch that the file will have, None for any.

    Raises:
        InputRefused: it runs at none of the sizes tried; ONNX Runtime's sentence is in the message.
    """
    if not isinstance(source, OnnxSource):
        return source
    if source.samples is not None:
        source = dataclasses.replace(source, inputs=_sizes_of_samples(source))
    if not _is_open(source.inputs):
        return source
    proto = as_proto(ir.external_data.load_to_model(source.model.clone()))
    with contextlib.closing(SizeTrials(proto, [batch] if batch else BATCHES)) as trial:
        return _settled_by(trial, source, known_sizes(proto))


def _settled_by(trial: SizeTrials, source: OnnxSource, known: Known) -> OnnxSource:
    readings = [(reading, MAX_RUNS_AS_BATCH) for reading in _as_batch(source.inputs)]
    readings += [(reading, MAX_RUNS) for reading in _as_length(source.inputs)]
    for inputs, limit in readings:
        found = trial.first(inputs, known, limit)
        if found is not None:
            _say(source.facts.spec, found, trial.n_runs)
            return dataclasses.replace(source, inputs=found)
    if trial.without_numbers is not None:
        return dataclasses.replace(source, inputs=trial.without_numbers)
    raise InputRefused(
        "the source runs at none of the sizes that were tried",
        where=source.facts.spec,
        found=f"{trial.n_runs} tried, the first at {trial.first_try}: {trial.first_error}",
        expected="sizes at which ONNX Runtime runs it",
        remedy=f"give them with {_example(source.inputs)}, or as --input-shape",
    )


def _is_open(inputs: Inputs) -> bool:
    """Whether a size is missing, an input serves all samples, an integer may be a switch, or a batch be a length."""
    is_shared = any(spec.batch_dynamic for spec in inputs) and any(spec.shape and not spec.has_batch for spec in inputs)
    batch = batch_dim(inputs) if any(spec.batch_dynamic for spec in inputs) else None
    is_length = batch is not None and not is_batch_name(batch)
    return is_shared or is_length or any(None in spec.row or is_integer(spec) for spec in inputs)


def _sizes_of_samples(source: OnnxSource) -> Inputs:
    """The inputs in the sizes of the user's samples."""
    samples = source.samples or {}
    found = []
    for spec in source.inputs:
        row = iter(samples[spec.name].shape[1:] if spec.name in samples else ())
        shape = tuple(
            size if axis == spec.batch_axis or (given := next(row, size)) is None else given
            for axis, size in enumerate(spec.shape)
        )
        found.append(dataclasses.replace(spec, shape=shape))
    return tuple(found)


def _as_batch(inputs: Inputs) -> Iterator[Inputs]:
    """The batch on the first open axis of inputs that lack its symbol, too; then where the symbol stands."""
    if any(spec.batch_dynamic for spec in inputs):
        tied = tuple(
            spec
            if spec.has_batch or None not in spec.shape
            else dataclasses.replace(spec, batch_axis=spec.shape.index(None))
            for spec in inputs
        )
        if tied != inputs:
            yield tied
    yield inputs


def _as_length(inputs: Inputs) -> Iterator[Inputs]:
    """No batch: its axes are open as others are; axes that share a symbol share its size."""
    if any(spec.batch_dynamic for spec in inputs):
        yield tuple(dataclasses.replace(spec, batch_axis=None) for spec in inputs)


def _say(where: str, inputs: Inputs, n_runs: int) -> None:
    sizes = {s: n for spec in inputs for s, n in zip(spec.symbols, spec.shape, strict=True) if s and n is not None}
    constants = {spec.name: spec.constant for spec in inputs if spec.constant is not None}
    batch = next(
        (spec.symbols[spec.batch_axis] for spec in inputs if spec.batch_dynamic and spec.batch_axis is not None), None
    )
    parts = [f"{name}={size}" for name, size in {**sizes, **constants}.items()]
    if parts:
        log.info(
            "%s is compared at %s%s: the first of %d tries at which it runs; --dim NAME=N gives another",
            where, ", ".join(parts), f", {batch} is the batch" if batch else "", n_runs,
        )  # fmt: skip


def _example(inputs: Inputs) -> str:
    symbols = open_symbols(inputs) or ["NAME"]
    return " ".join(f"--dim {symbol}=N" for symbol in itertools.islice(symbols, 3))
