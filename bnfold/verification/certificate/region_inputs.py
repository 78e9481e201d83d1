"""What a region is evaluated on: shapes, short where that says as much, and random numbers for both graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.verification.certificate.draws import draw
from bnfold.verification.certificate.judge import unit_axes
from bnfold.verification.certificate.small import reach, shortened, shortened_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records.certificate import Counterpart
    from bnfold.verification.certificate.evaluation import Arrays
    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.regions import Proven, Region

__all__ = ["FLOATS", "RegionInputs"]

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16})
_UNKNOWN = 3  # length of an axis that no graph tells


@dataclass(frozen=True)
class RegionInputs:
    """Inputs of the regions of a file's graph and its source's."""

    file: Graph
    source: Graph

    def drawn(
        self,
        region: Region,
        read: Mapping[str, Sequence[Proven]],
        shapes: Mapping[str, tuple[int, ...]],
        rng: np.random.Generator,
        step: float,
    ) -> tuple[Arrays, Arrays]:
        """Random numbers for what the file's slice reads, and for their counterparts in the source's.

        Args:
            region: what is evaluated.
            read: counterparts of what is read.
            shapes: of these counterparts.
            rng: of the numbers.
            step: of their magnitudes.
        """
        file_feed: Arrays = {}
        source_feed: Arrays = {}
        for leaf, proven in read.items():
            shape = shapes[leaf]
            type_ = self.file.type(leaf) or self.source.type(proven[0].source)
            if type_ and type_ not in FLOATS:
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
            if kind_of(node) == op.Gather and node.input[1] == leaf and dtype.kind == "i":
                axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
                source = self.file.shape(node.input[0]) or ()
                length = source[axis] if -len(source) <= axis < len(source) else None
                if length:
                    indices = np.arange(length, dtype=dtype)
                    return indices.reshape(1, -1) if len(shape) == 2 else _of_rank(indices, len(shape))
        return rng.integers(0, 2, shape).astype(dtype)

    def shapes(
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


def _kept_shape(shape: tuple[int, ...], counterpart: Counterpart) -> tuple[int, ...]:
    return tuple(len(counterpart.kept[axis]) if axis in counterpart.kept else n for axis, n in enumerate(shape))


def _of_rank(indices: np.ndarray, rank: int) -> np.ndarray:
    return indices[0].reshape(()) if rank == 0 else indices.reshape((1,) * (rank - 1) + (-1,))
