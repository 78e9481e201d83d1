"""What a file leaves open is settled by trying: sizes of its dynamic axes, which of them is a batch, and integers.

The first choice at which the source runs in ONNX Runtime is taken; see `bnfold.verification.candidates`. Three readings
of the batch are tried, one after the other:

1. its symbol counts samples, and so does the first open axis of an input that lacks it; it runs with two and one;
2. its symbol alone counts samples;
3. it is a length as any other (a sequence on axis 0, say), and there is one sample.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.sources.axes import is_batch_name
from bnfold.sources.types import OnnxSource
from bnfold.verification.candidates import AS_LONG, Known, combinations, integers_to_try, known_sizes, sizes_to_try
from bnfold.verification.graph_facts import input_facts
from bnfold.verification.inputs import make_feeds
from bnfold.verification.kinds import is_finite
from bnfold.verification.plain_execution import as_proto
from bnfold.verification.plain_session import plain_session
from bnfold.verification.ranges import batch_dim, in_ranges
from bnfold.verification.trial_process import TrialProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx

    from bnfold.records import InputSpec
    from bnfold.sources.types import Source

__all__ = ["settled"]

MAX_RUNS = 40
MAX_RUNS_AS_BATCH = 20
MAX_SECONDS = 30.0
MAX_VALUES = 1 << 20  # of one sample of an input
TWO = 2
log = logging.getLogger("bnfold.verification")

Inputs = tuple["InputSpec", ...]


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
    with contextlib.closing(_Trial(proto, [batch] if batch else [TWO, 1])) as trial:
        return _settled_by(trial, source, known_sizes(proto))


def _settled_by(trial: _Trial, source: OnnxSource, known: Known) -> OnnxSource:
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
    return is_shared or is_length or any(None in spec.row or _is_integer(spec) for spec in inputs)


def _is_integer(spec: InputSpec) -> bool:
    return np.dtype(spec.dtype).kind in "iu"


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


class _Trial:
    """Runs of the unfolded graph, counted."""

    def __init__(self, model: onnx.ModelProto, batches: Sequence[int]) -> None:
        self._model, self._graph = model, model.graph
        self._graph64: Float64Graph | None = None
        self._facts = input_facts(model)
        self._batches = batches
        plain_session(model, threads=1)  # what does not load is refused here
        self._process = TrialProcess(model)
        self._started = time.monotonic()
        self.n_runs = 0
        self.first_try = self.first_error = ""
        self.without_numbers: Inputs | None = None

    def close(self) -> None:
        """End the process that runs it."""
        self._process.close()

    def first(self, inputs: Inputs, known: Known, limit: int) -> Inputs | None:
        """The inputs in the first sizes at which the source runs, None where there is none within the limits."""
        symbols = _open_symbols(inputs)
        is_length = not any(spec.has_batch for spec in inputs)
        choices: dict[str, Sequence[int | None]] = {
            symbol: ([1] if is_length and number == 0 else []) + sizes_to_try(symbol, inputs, known)
            for number, symbol in enumerate(symbols)
        }
        integers = [spec for spec in inputs if _is_integer(spec) and self._wants_constant(spec)]
        choices |= {f"={spec.name}": integers_to_try(spec, self._graph) for spec in integers}
        for chosen in combinations(choices, symbols):
            if self.n_runs >= limit or time.monotonic() - self._started > MAX_SECONDS:
                return None
            tried = _with_lengths(tuple(_chosen(spec, chosen) for spec in inputs))
            if any(math.prod(size for size in spec.row if size is not None) > MAX_VALUES for spec in tried):
                continue
            if self._runs(tried):
                return tried
        return None

    def _wants_constant(self, spec: InputSpec) -> bool:
        facts = self._facts.get(spec.name)
        return facts is None or facts.integers_below is None

    def _runs(self, inputs: Inputs) -> bool:
        """Whether the source runs, and gives numbers: too short a sequence may leave nothing to take the mean of.

        Where it runs without giving any, it is kept for the case that nothing better is found.
        """
        self.n_runs += 1
        batches = self._batches if any(spec.batch_dynamic for spec in inputs) else (1,)
        return all(self._gives_numbers(inputs, batch) for batch in batches)

    def _gives_numbers(self, inputs: Inputs, batch: int) -> bool:
        for ranged in itertools.islice(in_ranges(inputs), TWO):
            feed = next(make_feeds(ranged, samples=None, facts=self._facts, batches=[batch], seed=0))
            outputs = self._process.try_run(feed.arrays)
            if isinstance(outputs, str):
                log.debug("the source does not run at %s: %s", _shapes(feed.arrays), outputs)
                if not self.first_try:
                    self.first_try, self.first_error = _shapes(feed.arrays), outputs
                return False
            if all(_is_number(output) for output in (*outputs, *self._exact(feed.arrays))):
                return True
        log.debug("the source runs at %s, and gives nothing, or nothing finite", _shapes(feed.arrays))
        self.without_numbers = self.without_numbers or inputs
        return False

    def _exact(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in float64: the mean of nothing is 0 in ONNX Runtime, and NaN here; an empty one is nothing.

        Nothing is asked of a graph that has no such evaluation, which the comparison refuses in its own words.
        """
        try:
            self._graph64 = self._graph64 or Float64Graph(self._model)
        except InputRefused:
            return []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of the mean of nothing
                return list(self._graph64.evaluate(feed).values())
        except InputRefused as refused:
            log.debug("%s", refused)
            return [np.empty(0)]


def _is_number(output: Any) -> bool:
    if not isinstance(output, np.ndarray) or output.dtype.kind in "USO":
        return True  # which the comparison refuses in its own words
    return output.size > 0 and is_finite(output)


def _open_symbols(inputs: Inputs) -> list[str]:
    """The symbols without a size, the batch left out."""
    return list(
        dict.fromkeys(
            symbol
            for spec in inputs
            for axis, (symbol, size) in enumerate(zip(spec.symbols, spec.shape, strict=True))
            if symbol is not None and size is None and axis != spec.batch_axis
        )
    )


def _chosen(spec: InputSpec, chosen: dict[str, int | None]) -> InputSpec:
    shape = tuple(
        chosen.get(symbol) if size is None and symbol is not None and axis != spec.batch_axis else size
        for axis, (size, symbol) in enumerate(zip(spec.shape, spec.symbols, strict=True))
    )
    return dataclasses.replace(spec, shape=shape, constant=chosen.get(f"={spec.name}"))


def _with_lengths(inputs: Inputs) -> Inputs:
    """Lengths of samples as long as the longest axis that the file leaves open, the batch apart."""
    longest = max(
        (
            size
            for spec in inputs
            for axis, (size, symbol) in enumerate(zip(spec.shape, spec.symbols, strict=True))
            if symbol is not None and size is not None and axis != spec.batch_axis
        ),
        default=1,
    )
    return tuple(dataclasses.replace(spec, constant=longest) if spec.constant == AS_LONG else spec for spec in inputs)


def _shapes(arrays: Any) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'a number'}" for name, array in arrays.items())


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
    symbols = _open_symbols(inputs) or ["NAME"]
    return " ".join(f"--dim {symbol}=N" for symbol in itertools.islice(symbols, 3))
