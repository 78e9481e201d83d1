"""Runs of a graph at sizes that may be the right ones: in ONNX Runtime, in a process of their own, and in float64."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.verification.data.feeds import make_feeds
from bnfold.verification.data.input_facts import input_facts
from bnfold.verification.data.sizes_to_try import AS_LONG, combinations, integers_to_try, sizes_to_try
from bnfold.verification.data.value_ranges import in_ranges
from bnfold.verification.execution.answers import is_finite
from bnfold.verification.execution.plain_session import plain_session
from bnfold.verification.execution.trial_process import TrialProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from bnfold.records import InputSpec
    from bnfold.verification.data.sizes_to_try import Known

__all__ = ["Inputs", "SizeTrials", "is_integer", "open_symbols"]

MAX_SECONDS = 30.0
MAX_VALUES = 1 << 20  # of one sample of an input
TWO_RANGES = 2
log = logging.getLogger("bnfold.verification")

Inputs = tuple["InputSpec", ...]


class SizeTrials:
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
        """The inputs in the first sizes at which the source runs, None where it runs at no sizes within the limits."""
        symbols = open_symbols(inputs)
        is_length = not any(spec.has_batch for spec in inputs)
        choices: dict[str, Sequence[int | None]] = {
            symbol: ([1] if is_length and number == 0 else []) + sizes_to_try(symbol, inputs, known)
            for number, symbol in enumerate(symbols)
        }
        integers = [spec for spec in inputs if is_integer(spec) and self._wants_constant(spec)]
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
        for ranged in itertools.islice(in_ranges(inputs), TWO_RANGES):
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


def open_symbols(inputs: Inputs) -> list[str]:
    """The symbols without a size, the batch left out."""
    return list(
        dict.fromkeys(
            symbol
            for spec in inputs
            for axis, (symbol, size) in enumerate(zip(spec.symbols, spec.shape, strict=True))
            if symbol is not None and size is None and axis != spec.batch_axis
        )
    )


def is_integer(spec: InputSpec) -> bool:
    """Whether an input is of whole numbers, which may be a switch."""
    return np.dtype(spec.dtype).kind in "iu"


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
