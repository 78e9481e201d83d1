"""What a network is called with, as people write it: a tensor, arguments, keywords, arrays, or only shapes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnfold.records import InputSpec

__all__ = ["Example", "example_of", "example_shapes", "refuse_other_dtypes"]


@dataclasses.dataclass(frozen=True)
class Example:
    """The arguments of one call; shapes stand for tensors where `only_shapes`.

    Attributes:
        args: positional arguments.
        kwargs: keyword arguments.
        only_shapes: whether the leaves are shapes, tuples of whole numbers.
        shapes: of the tensors and arrays, or those given, in their order.
        dtypes: NumPy's names of their types; empty for shapes.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    only_shapes: bool
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]


def example_of(given: Any, *, where: str) -> Example | None:
    """Read an example: `x`, `(x, mask)`, `{"x": x}`, `(1, 3, 224, 224)`, `[(1, 3, 8, 8), (1, 5)]`, `{"x": (1, 3)}`.

    Raises:
        InputRefused: it has another form.
    """
    if given is None:
        return None
    if _is_tensor(given) or _is_shape(given):
        given = (given,)
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        args, kwargs = (), dict(given)
    elif isinstance(given, tuple | list):
        args, kwargs = tuple(given), {}
    else:
        raise _no_example(type(given).__name__, where)
    values = (*args, *kwargs.values())
    if not values:
        raise _no_example("nothing in it", where)
    if all(_is_shape(value) for value in values):
        return Example(args, kwargs, True, tuple(tuple(int(n) for n in value) for value in values), ())
    tensors = list(_tensors(values))
    elsewhere = next((tensor for tensor in tensors if str(getattr(tensor, "device", "cpu")) == "meta"), None)
    if elsewhere is not None:
        raise InputRefused(
            "the example has a tensor on the device meta, which holds no values", where=where,
            expected="tensors on the CPU or a GPU", remedy="make it with device='cpu', or give its shape",
        )  # fmt: skip
    _refuse_empty(tensors, where)
    shapes = tuple(tuple(int(n) for n in tensor.shape) for tensor in tensors)
    dtypes = tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors)
    return Example(args, kwargs, False, shapes, dtypes)


def _refuse_empty(tensors: Sequence[Any], where: str) -> None:
    """Refuse tensors without elements, and those that hold NaN."""
    for tensor in tensors:
        shape = "x".join(str(int(n)) for n in tensor.shape)
        if 0 in tensor.shape:
            raise InputRefused(
                "the example has a tensor without elements", where=where, found=f"shape {shape}",
                expected="at least one sample", remedy="give some samples, or the shape of one",
            )  # fmt: skip
        if bool((tensor != tensor).any()):  # noqa: PLR0124 - NaN alone is not itself
            raise InputRefused(
                "the example holds NaN", where=where, found=f"a tensor of shape {shape}", expected="numbers",
                remedy="give other samples, or their shape",
            )  # fmt: skip


def example_shapes(example: Example) -> list[tuple[int, ...]]:
    """The shapes alone, as `--input-shape` gives them."""
    return list(example.shapes)


def refuse_other_dtypes(example: Example, inputs: Sequence[InputSpec], *, where: str) -> None:
    """Refuse tensors of other types than the inputs.

    Raises:
        InputRefused: names the first such input, or says that there are too many tensors.
    """
    if len(example.shapes) > len(inputs):
        raise InputRefused(
            "the example has more tensors than the network has inputs", where=where, found=str(len(example.shapes)),
            expected=f"{len(inputs)}: {', '.join(spec.name for spec in inputs)}", remedy="leave the others out",
        )  # fmt: skip
    for spec, dtype in zip(inputs, example.dtypes, strict=False):
        if spec.dtype != dtype:
            raise InputRefused(
                f"input {spec.name} must be {spec.dtype}, got {dtype}", where=where,
                remedy=f"convert it, with .to(torch.{spec.dtype}) for instance",
            )  # fmt: skip


def _tensors(values: Any) -> Iterator[Any]:
    for value in values.values() if isinstance(values, Mapping) else values:
        if _is_tensor(value):
            yield value
        elif isinstance(value, tuple | list | Mapping):
            yield from _tensors(value)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


def _is_shape(value: Any) -> bool:
    """Whether this is a shape: one size at least, each a whole number above 0."""
    whole = isinstance(value, tuple | list) and all(
        isinstance(size, int | np.integer) and not isinstance(size, bool) for size in value
    )
    return whole and len(value) > 0 and all(size > 0 for size in value)


def _no_example(found: str, where: str) -> InputRefused:
    return InputRefused(
        "the example has a form that is not known",
        where=where,
        found=found,
        expected="a tensor, a tuple of the arguments of forward, a dict of keyword arguments, or shapes",
        remedy="give torch.randn(1, 3, 224, 224), or its shape (1, 3, 224, 224)",
    )
