"""At which batches, and at which other sizes of its dynamic axes, a file is compared."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bnfold.records import InputSpec

__all__ = ["ALWAYS", "Axes", "batches_to_compare", "other_sizes", "size_text"]

ALWAYS = (1, 2, 3)
STEP = 32  # what most networks for images divide their input by
Axes = tuple[int | str | None, ...]


def batches_to_compare(inputs: Sequence[InputSpec], asked: Sequence[int]) -> list[int]:
    """1, 2, 3 and the batches asked for; the first three that the inputs allow; the fixed batch where there is one.

    Raises:
        InputRefused: another batch than the fixed one is asked for, or one that the inputs do not allow.
    """
    fixed = {spec.name: spec.fixed_batch for spec in inputs if spec.fixed_batch is not None}
    if any(spec.has_batch for spec in inputs) and not fixed:
        return _allowed_batches(inputs, asked)
    batch = max(fixed.values(), default=1)
    others = sorted(set(asked) - {batch})
    if others:
        raise InputRefused(
            "the batch is fixed",
            where=f"input {', '.join(fixed or (spec.name for spec in inputs))}",
            found=f"--batch {','.join(map(str, others))}",
            expected=f"batch {batch}",
            remedy="leave --batch out, or export with a dynamic batch",
        )
    return [batch]


def _allowed_batches(inputs: Sequence[InputSpec], asked: Sequence[int]) -> list[int]:
    smallest = max((spec.smallest_batch for spec in inputs), default=1)
    largest = min((spec.largest_batch for spec in inputs if spec.largest_batch is not None), default=None)
    outside = [batch for batch in asked if batch < smallest or (largest is not None and batch > largest)]
    if outside:
        raise InputRefused(
            "the source does not take the batch",
            found=f"--batch {','.join(map(str, outside))}",
            expected=f"{smallest} to {largest}" if largest is not None else f"{smallest} or more",
            remedy="leave --batch out, or export the program again with a wider range of its dynamic batch",
        )
    always = [batch + smallest - 1 for batch in ALWAYS]
    return sorted({*(batch for batch in always if largest is None or batch <= largest), *asked})


def other_sizes(
    inputs: Sequence[InputSpec], file: Mapping[str, Axes], source: Mapping[str, Axes]
) -> Iterator[list[InputSpec]]:
    """Sizes to try besides those of `inputs`, where an axis besides the batch is dynamic in file and source alike.

    First every dynamic axis of its own name gets another size (192 x 256 for 224 x 224: a mix-up of height and width
    shows), then all grow alike (twice, then by one), for networks that do not run at the first, then each alone, for
    those of which an axis is dynamic by name only. Nothing comes where no axis is dynamic.

    Args:
        inputs: sizes compared at already.
        file: the axes of the file's inputs, numbers where they are fixed, names or None where they are dynamic.
        source: those of the source's.
    """
    free: dict[tuple[str, int], str] = {}
    for spec in inputs:
        ours, theirs = source.get(spec.name, ()), file.get(spec.name, ())
        for axis in range(min(len(spec.shape), len(ours), len(theirs))):
            mine = ours[axis]
            if axis != spec.batch_axis and not isinstance(mine, int) and not isinstance(theirs[axis], int):
                free[spec.name, axis] = mine or f"{spec.name}[{axis}]"
    if not free:
        return
    order = {name: position for position, name in enumerate(dict.fromkeys(free.values()))}

    def apart(size: int, name: str) -> int:
        position = order[name]
        if size <= 3 * STEP:
            return size * (2 + position)
        return size + STEP * (position if position else -1)

    def alone(name: str) -> Callable[[int, str], int]:
        return lambda size, other: 2 * size if other == name else size

    each = [alone(name) for name in order] if len(order) > 1 else []
    for rule in (apart, lambda size, _: 2 * size, lambda size, _: size + 1, *each):
        yield [
            _resized(spec, {axis: name for (own, axis), name in free.items() if own == spec.name}, rule)
            for spec in inputs
        ]


def _resized(spec: InputSpec, names: Mapping[int, str], rule: Callable[[int, str], int]) -> InputSpec:
    shape = tuple(
        rule(size, names[axis]) if axis in names and size is not None else size for axis, size in enumerate(spec.shape)
    )
    return dataclasses.replace(spec, shape=shape)


def size_text(inputs: Sequence[InputSpec]) -> str:
    """The sizes of the rows, such as "x 3x192x256"."""
    return ", ".join(f"{spec.name} {'x'.join(map(str, spec.row))}" for spec in inputs if spec.row)
