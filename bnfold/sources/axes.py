"""The axes of a graph's inputs: which of them counts the samples, and the sizes of the others, by symbol.

A symbol is the name of a dynamic axis in the file, or `INPUT[AXIS]` where it has none. The batch is one symbol, on
whichever axis of whichever inputs it stands:

1. the one that is asked for (`--batch-dim`);
2. the one called batch, batch_size, bs or the like;
3. the one on axis 0 of the first input that has a symbol there, and then whatever symbol stands on axis 0 of inputs
   that have the batch nowhere else.

Inputs without it serve all samples alike. Where no input has a symbol on axis 0, axis 0 is a batch that is fixed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "Axes",
    "batch_symbol",
    "file_spec",
    "is_batch_name",
    "refuse_unfit",
    "refuse_unknown_symbols",
    "shape_text",
    "symbols_of",
    "tested_spec",
]

Axes = tuple[int | str, ...]
"""The axes of an input: sizes, and symbols where they are dynamic."""
_BATCH = re.compile(r"(batch|bs|n)([ _.-]?(size|dim|axis))?([ _.-]?\d+)?", re.IGNORECASE)


def symbols_of(name: str, shape: Sequence[int | str | None]) -> Axes:
    """The axes of an input with a symbol on each dynamic one; a size below 0 is dynamic, too."""
    return tuple(
        size if isinstance(size, int) and size >= 0 else f"{name}[{axis}]" if size in (None, "", "?") or size == -1
        else str(size)
        for axis, size in enumerate(shape)
    )  # fmt: skip


def is_batch_name(symbol: str) -> bool:
    """Whether a symbol says that it is the batch: batch, batch_size, bs, n, with a number behind it or none."""
    return _BATCH.fullmatch(symbol) is not None


def batch_symbol(inputs: Mapping[str, Axes], asked: str | None = None) -> str | None:
    """The symbol of the batch, None where it is fixed.

    Args:
        inputs: axes by name of input, in order.
        asked: the symbol that the user names.
    """
    if asked is not None:
        return asked
    symbols = [size for axes in inputs.values() for size in axes if isinstance(size, str)]
    first = next((axes[0] for axes in inputs.values() if axes and isinstance(axes[0], str)), None)
    return next((symbol for symbol in symbols if is_batch_name(symbol)), first)


def refuse_unknown_symbols(inputs: Mapping[str, Axes], names: Sequence[str], *, where: str) -> None:
    """Refuse names that are no symbols of the file.

    Raises:
        InputRefused: names the symbols that there are.
    """
    known = list(dict.fromkeys(size for axes in inputs.values() for size in axes if isinstance(size, str)))
    for name in names:
        if name not in known:
            raise InputRefused(
                f"the file has no dynamic axis called {name}",
                where=where,
                found=", ".join(known) or "no dynamic axis",
                remedy="give the name of one of these with --dim or --batch-dim" if known else "leave the option out",
            )


def file_spec(
    name: str, axes: Axes, dtype: str, *, batch: str | None, sizes: Mapping[str, int], by_name: bool = False
) -> InputSpec:
    """The input as we shall feed it: the batch stays dynamic, symbols of unknown size too.

    Args:
        name: of the input.
        axes: of the file.
        dtype: NumPy name.
        batch: the symbol of the batch, None where it is fixed.
        sizes: by symbol.
        by_name: whether the batch is where its symbol stands, and nowhere else.
    """
    if batch is None:
        batch_axis = 0 if axes else None
    else:
        batch_axis = next((axis for axis, size in enumerate(axes) if size == batch), None)
        if batch_axis is None and not by_name and axes and isinstance(axes[0], str) and axes[0] not in sizes:
            batch_axis = 0
    shape = tuple(
        size if isinstance(size, int) else None if axis == batch_axis else sizes.get(size)
        for axis, size in enumerate(axes)
    )
    symbols = tuple(size if isinstance(size, str) else None for size in axes)
    return InputSpec(name, shape, dtype, batch_axis, symbols)


def tested_spec(
    name: str, shape: tuple[int | None, ...], dtype: str, given: tuple[int, ...] | None, *, where: str
) -> InputSpec:
    """An input of a program as we shall feed it: sizes given stand in for dynamic axes, the batch axis stays dynamic.

    Args:
        name: of the input.
        shape: of the graph, None on dynamic axes.
        dtype: NumPy name.
        given: a shape of the same rank, or None.
        where: the source, for the message.

    Raises:
        InputRefused: an axis besides the batch is dynamic and has no size, or a size contradicts the graph.
    """
    if given is None:
        if any(size is None for size in shape[1:]):
            raise InputRefused(
                f"input {name} has dynamic axes besides the batch",
                where=where,
                found=shape_text(shape),
                expected="a size to test each of them with",
                remedy="give --input-shape, for example 1x3x224x224; the exported graph keeps its dynamic axes",
            )
        return InputSpec(name, shape, dtype)
    refuse_unfit(name, shape, given, batch_axis=0, where=where)
    return InputSpec(name, (*shape[:1], *given[1:]), dtype)


def refuse_unfit(
    name: str, shape: Sequence[int | None], given: tuple[int, ...], *, batch_axis: int | None, where: str
) -> None:
    """Refuse a shape that contradicts the sizes that a graph fixes.

    Raises:
        InputRefused: an axis besides the batch, or the number of axes, is another.
    """
    fits = len(given) == len(shape) and all(
        size is None or size == wanted or axis == batch_axis
        for axis, (size, wanted) in enumerate(zip(shape, given, strict=True))
    )
    if not fits:
        raise InputRefused(
            f"--input-shape does not fit input {name}",
            where=where,
            found="x".join(map(str, given)),
            expected=shape_text(shape),
            remedy="leave it out, or give the sizes of the file",
        )


def shape_text(shape: Sequence[int | None]) -> str:
    """Such as ?x3x224x224."""
    return "x".join("?" if size is None else str(size) for size in shape)
