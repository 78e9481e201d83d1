"""One region, evaluated on random numbers in both graphs."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from bnfold.errors import InputRefused
from bnfold.verification.certificate.draws import STEP, draw
from bnfold.verification.certificate.evaluation import Arrays
from bnfold.verification.certificate.judge import MOVED, Outcome, constant_elements, judged, unit_axes
from bnfold.verification.certificate.kinks import Seen, data_of, inner_kinks
from bnfold.verification.certificate.regions import Proven, Region, Slice
from bnfold.verification.certificate.slices import evaluate_slice
from bnfold.verification.certificate.small import reach, shortened, shortened_axes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bnfold.records.certificate import Counterpart
    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.parameters import Parameters

__all__ = ["Found", "Trial"]

ROWS, ROWS_WITH_KINKS = 2, 4
# Of the magnitudes; more draws, and larger ones, where a channel was seen on one side of its kink only.
STEPS = (*[STEP] * 4, 8 * STEP, 64 * STEP, 512 * STEP)
_UNKNOWN = 3  # length of an axis that no graph tells
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})


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
                raise InputRefused("a loop whose number of turns is not known cannot be run", where=part.target)
        kinks = inner_kinks(region.source)
        inner = {name for node in region.source.nodes for name in node.output}
        failure: InputRefused | None = None
        for shapes in self._shapes(region, counterpart, read, ROWS_WITH_KINKS if kinks else ROWS):
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
        file_feed, source_feed = self._drawn(region, read, shapes, rng, step)
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

        Computed constants count in float64 or as the source's own precision computes them; of equal parameters the
        file keeps one, whose digits may have been another's.
        """
        names = [n for n in region.file.constants if self.file.is_stored(n) and self.file.type(n) in _FLOATS]
        known = {name: own for name in names if (own := self.parameters(name)) is not None}

        def digits() -> Arrays:
            exact = {name: own.digits(name, self.file.stored(name)) for name, own in known.items()}
            return {name: array for name, array in exact.items() if array is not None}

        yield {}, digits
        computed = [name for name in region.source.constants if self.source.is_computed(name)]
        if computed:
            with contextlib.suppress(InputRefused):
                yield {name: self.source.constant(name, as_written=True) for name in computed}, digits
        for name, own in known.items():
            for other in own.alternatives(self.file.stored(name)):
                yield {}, lambda name=name, other=other: digits() | {name: other}  # type: ignore[misc]

    def _channel_axis(self, region: Region, value: np.ndarray) -> tuple[int, ...]:
        """Axis 1, unless it has been shortened."""
        shape = self.source.shape(region.source.target)
        return (1,) if shape is not None and len(shape) > 1 and shape[1] == value.shape[1] else ()

    def _floats(self, graph: Graph, part: Slice) -> Arrays:
        arrays = ((name, graph.constant(name)) for name in part.constants if graph.type(name) in _FLOATS)
        return dict(arrays)

    def _drawn(
        self,
        region: Region,
        read: Mapping[str, Sequence[Proven]],
        shapes: Mapping[str, tuple[int, ...]],
        rng: np.random.Generator,
        step: float,
    ) -> tuple[Arrays, Arrays]:
        file_feed: Arrays = {}
        source_feed: Arrays = {}
        for leaf, proven in read.items():
            shape = shapes[leaf]
            type_ = self.file.type(leaf) or self.source.type(proven[0].source)
            if type_ and type_ not in _FLOATS:
                array = self._whole_numbers(leaf, type_, shape, region, rng)
                file_feed[leaf] = array
                source_feed |= {one.source: array for one in proven}
                continue
            smaller = _kept_shape(shape, proven[0].counterpart)
            array, counterparts = draw(proven, shape, smaller, rng, step)
            file_feed[leaf] = array
            source_feed |= {one.source: value for one, value in zip(proven, counterparts, strict=True)}
        return file_feed, source_feed

    def _whole_numbers(
        self, leaf: str, type_: int, shape: tuple[int, ...], region: Region, rng: np.random.Generator
    ) -> np.ndarray:
        """Indices that reach every row of what is gathered from; else zeros and ones."""
        dtype = helper.tensor_dtype_to_np_dtype(type_)
        for node in region.file.nodes:
            if node.op_type == "Gather" and node.input[1] == leaf and dtype.kind == "i":
                axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
                source = self.file.shape(node.input[0]) or ()
                length = source[axis] if -len(source) <= axis < len(source) else None
                if length:
                    indices = np.arange(length, dtype=dtype)
                    return indices.reshape(1, -1) if len(shape) == 2 else _of_rank(indices, len(shape))
        return rng.integers(0, 2, shape).astype(dtype)

    def _shapes(
        self, region: Region, counterpart: Counterpart, read: Mapping[str, Sequence[Proven]], rows: int
    ) -> Sequence[dict[str, tuple[int, ...]]]:
        """Shapes of the counterparts of what is read: the least, then those of a run."""
        whole: dict[str, tuple[int, ...]] = {}
        for leaf, proven in read.items():
            shape = self._shape(leaf, proven)
            if shape is None:
                return []
            whole[leaf] = shape
        if not whole:
            return [whole]
        parts = [(self.file, region.file), (self.source, region.source)]
        rank = max(len(shape) for shape in whole.values())
        how = shortened_axes(parts, rank)
        wanted = [whole]
        if how:
            reaches = [max(reach(part, graph, axis) for graph, part in parts) for axis in range(max(rank - 2, 0))]
            own = set(unit_axes(counterpart))
            fixed = {
                leaf: own.union(*(unit_axes(one.counterpart) for one in proven)) - {0, 1}
                if how == "space"
                else own.union(*(unit_axes(one.counterpart) for one in proven)) - {0, rank - 1}
                for leaf, proven in read.items()
            }
            short = shortened(whole, how, reaches, {k: tuple(v) for k, v in fixed.items()}, rows)
            if short is not None and short != whole:
                wanted = [short, whole]
        return wanted

    def _shape(self, leaf: str, proven: Sequence[Proven]) -> tuple[int, ...] | None:
        """The shape of the counterparts of a value; what no graph tells is the length of the units, or some."""
        known = [self.source.shape(one.source) for one in proven]
        shape = next((s for s in known if s is not None), None)
        in_file = self.file.shape(leaf)
        if shape is None and in_file is not None and not proven[0].counterpart.kept:
            shape = in_file
        if shape is None:
            return None
        lengths = list(shape)
        for axis, length in enumerate(lengths):
            if length is None and in_file is not None and len(in_file) == len(lengths):
                lengths[axis] = in_file[axis] if axis not in proven[0].counterpart.kept else None
            for one in proven:
                scale = one.counterpart.scale
                if lengths[axis] is None and scale is not None and scale.ndim > axis and scale.shape[axis] > 1:
                    lengths[axis] = scale.shape[axis]
        return tuple(_UNKNOWN if length is None else length for length in lengths)


def _moved(feed: Mapping[str, np.ndarray], rng: np.random.Generator) -> Arrays:
    return {
        name: array * (1 + MOVED * rng.choice([-1.0, 1.0], array.shape)) if array.dtype.kind == "f" else array
        for name, array in feed.items()
    }


def _kept_shape(shape: tuple[int, ...], counterpart: Counterpart) -> tuple[int, ...]:
    return tuple(len(counterpart.kept[axis]) if axis in counterpart.kept else n for axis, n in enumerate(shape))


def _of_rank(indices: np.ndarray, rank: int) -> np.ndarray:
    return indices[0].reshape(()) if rank == 0 else indices.reshape((1,) * (rank - 1) + (-1,))
