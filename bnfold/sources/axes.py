"""Dynamic axes besides the batch: the graph keeps them, our tests need a size for each."""

from __future__ import annotations

from bnfold.errors import InputRefused
from bnfold.records import InputSpec

__all__ = ["tested_spec"]


def tested_spec(
    name: str, shape: tuple[int | None, ...], dtype: str, given: tuple[int, ...] | None, *, where: str
) -> InputSpec:
    """The input as we shall feed it: the sizes given stand in for dynamic axes, the batch axis stays dynamic.

    Args:
        name: of the input.
        shape: of the graph, None on dynamic axes.
        dtype: NumPy name.
        given: a shape of the same rank, or None.
        where: the source, for the message.

    Raises:
        InputRefused: an axis besides the batch is dynamic and has no size, or a size contradicts the graph.
    """
    text = "x".join("?" if size is None else str(size) for size in shape)
    if given is None:
        if any(size is None for size in shape[1:]):
            raise InputRefused(
                f"input {name} has dynamic axes besides the batch",
                where=where,
                found=text,
                expected="a size to test each of them with",
                remedy="give --input-shape, for example 1x3x224x224; the exported graph keeps its dynamic axes",
            )
        return InputSpec(name, shape, dtype)
    fits = len(given) == len(shape) and all(
        size is None or size == wanted for size, wanted in zip(shape[1:], given[1:], strict=True)
    )
    if not fits:
        raise InputRefused(
            f"--input-shape does not fit input {name}",
            where=where,
            found="x".join(map(str, given)),
            expected=text,
            remedy="leave it out, or give the sizes of the file",
        )
    return InputSpec(name, (*shape[:1], *given[1:]), dtype)
