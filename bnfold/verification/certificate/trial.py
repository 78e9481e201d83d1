"""One region, evaluated on random numbers in both graphs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.verification.certificate.draws import STEP
from bnfold.verification.certificate.evaluation import Arrays
from bnfold.verification.certificate.judge import MOVED, Outcome, constant_elements, judged, unit_axes
from bnfold.verification.certificate.kinks import Seen, data_of, inner_kinks
from bnfold.verification.certificate.region_inputs import FLOATS, RegionInputs
from bnfold.verification.certificate.regions import Proven, Region, Slice
from bnfold.verification.certificate.slices import evaluate_slice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bnfold.records.certificate import Counterpart
    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.parameters import Parameters

__all__ = ["Found", "Trial"]

ROWS, ROWS_WITH_KINKS = 2, 4
# Of the magnitudes; more draws, and larger ones, where a channel was seen on one side of its kink only.
STEPS = (*[STEP] * 4, 8 * STEP, 64 * STEP, 512 * STEP)


@dataclass(frozen=True)
class Found:
    """The outcome, the value's constants where they are asked for, and channels with one side of a kink unseen."""

    outcome: Outcome
    source_constant: np.ndarray | None = None
    file_constant: np.ndarray | None = None
    unexcited: int = 0


@dataclass
class Trial:
    """Evaluates regions of a file's graph and its source's."""

    file: Graph
    source: Graph
    parameters: Callable[[str], Parameters | None]
    seed: int
    count: int = field(default=0)

    def __post_init__(self) -> None:
        self._inputs = RegionInputs(self.file, self.source)

    def run(
        self, region: Region, counterpart: Counterpart, read: Mapping[str, Sequence[Proven]], *, asked: bool
    ) -> Found:
        """Whether the region's value is what its counterpart says.

        Args:
            region: what computes both.
            counterpart: the claim.
            read: counterparts of what the file's slice reads, those that the source's slice reads.
            asked: whether constants of the value are asked for.

        Raises:
            InputRefused: an operator cannot be evaluated, or not at these sizes.
        """
        for graph, part in ((self.file, region.file), (self.source, region.source)):
            if not all(map(graph.ends, part.nodes)):
                raise InputRefused("a loop whose number of iterations is not known cannot be run", where=part.target)
        kinks = inner_kinks(region.source)
        inner = {name for node in region.source.nodes for name in node.output}
        failure: InputRefused | None = None
        for shapes in self._inputs.shapes(region, counterpart, read, ROWS_WITH_KINKS if kinks else ROWS):
            try:
                seen = [(data_of(node, inner), Seen(node)) for node in kinks]
                for step in STEPS:
                    self.count += 1
                    found = self._at(region, counterpart, read, shapes, seen, asked=asked, step=step)
                    constant = step != STEPS[-1] and any(one.is_constant for _, one in seen)
                    if found.outcome.failure is not None or not (found.unexcited or constant):
                        break
            except InputRefused as refused:  # not at these sizes: next those of a run
                failure = refused
            else:
                return found
        raise failure or InputRefused("the sizes of a value are not known", where=region.file.target)

    def _at(
        self,
        region: Region,
        counterpart: Counterpart,
        read: Mapping[str, Sequence[Proven]],
        shapes: Mapping[str, tuple[int, ...]],
        seen: Sequence[tuple[str, Seen]],
        *,
        asked: bool,
        step: float,
    ) -> Found:
        rng = np.random.default_rng((self.seed, self.count))
        file_feed, source_feed = self._inputs.drawn(region, read, shapes, rng, step)
        found: Found | None = None
        for constants, digits in self._readings(region):
            theirs = evaluate_slice(self.source, region.source, source_feed | constants, [name for name, _ in seen])
            feed = file_feed | digits()  # large ones, so not before the source's are gone
            ours = evaluate_slice(self.file, region.file, feed)
            values = ours[region.file.target], theirs[region.source.target]

            def moved(feed: Arrays = feed, constants: Arrays = constants) -> tuple[np.ndarray, np.ndarray]:
                file = _moved(self._floats(self.file, region.file) | feed, rng)
                source = _moved(self._floats(self.source, region.source) | source_feed | constants, rng)
                return (
                    evaluate_slice(self.file, region.file, file)[region.file.target],
                    evaluate_slice(self.source, region.source, source)[region.source.target],
                )

            outcome = judged(*values, counterpart, moved)
            if found is None or outcome.failure is None:
                axes = unit_axes(counterpart) or self._channel_axis(region, values[1])
                file_constant, source_constant = (
                    constant_elements(value, axes) if asked and value.size else None for value in values
                )
                for name, one in seen:
                    one.add(theirs[name])
                n_unexcited = sum(one.unexcited(self.source) for _, one in seen)
                found = Found(outcome, source_constant, file_constant, n_unexcited)
            if outcome.failure is None:
                break
        if found is None:
            raise AssertionError("there is one reading at least")
        return found

    def _readings(self, region: Region) -> Iterator[tuple[Arrays, Callable[[], Arrays]]]:
        """Values for computed constants of the source, and for parameters of the file: ways to read them.

        Computed constants count in float64, or as the source's own precision computes them, or as the file has them, if
        that is as close to float64: it may store a part, rounded, and compute the rest. Of equal parameters the file
        keeps one, whose digits may have been another's.
        """
        names = [n for n in region.file.constants if self.file.is_stored(n) and self.file.type(n) in FLOATS]
        known = {name: own for name in names if (own := self.parameters(name)) is not None}

        def digits() -> Arrays:
            exact = {name: own.digits(name, self.file.stored(name)) for name, own in known.items()}
            return {name: array for name, array in exact.items() if array is not None}

        yield {}, digits
        computed = [name for name in region.source.constants if self.source.is_computed(name)]
        if computed:
            with contextlib.suppress(InputRefused):
                theirs = {name: self.source.constant(name, as_written=True) for name in computed}
                yield theirs, digits
                if near := self._within_rounding(region, theirs):
                    yield theirs | near, digits
        for name, own in known.items():
            for other in own.alternatives(self.file.stored(name)):
                yield {}, lambda name=name, other=other: digits() | {name: other}  # type: ignore[misc]

    def _within_rounding(self, region: Region, as_written: Arrays) -> Arrays:
        """The file's values for computed constants, no further from float64 than the source's own, or one rounding."""
        near = {}
        for name, own in as_written.items():
            if name in region.file.constants and self.file.is_computed(name):
                exact, ours = self.source.constant(name), self.file.constant(name)
                u = unit_roundoff(helper.tensor_dtype_to_np_dtype(self.source.type(name) or TensorProto.DOUBLE).name)
                rounding = u * float(np.abs(exact).max(initial=0.0))
                if ours.shape == exact.shape and _distance(ours, exact) <= max(_distance(own, exact), rounding):
                    near[name] = ours
        return near

    def _channel_axis(self, region: Region, value: np.ndarray) -> tuple[int, ...]:
        """Axis 1, unless it has been shortened."""
        shape = self.source.shape(region.source.target)
        return (1,) if shape is not None and len(shape) > 1 and shape[1] == value.shape[1] else ()

    def _floats(self, graph: Graph, part: Slice) -> Arrays:
        arrays = ((name, graph.constant(name)) for name in part.constants if graph.type(name) in FLOATS)
        return dict(arrays)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max(initial=0.0))


def _moved(feed: Mapping[str, np.ndarray], rng: np.random.Generator) -> Arrays:
    return {
        name: array * (1 + MOVED * rng.choice([-1.0, 1.0], array.shape)) if array.dtype.kind == "f" else array
        for name, array in feed.items()
    }
