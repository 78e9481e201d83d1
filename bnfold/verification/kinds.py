"""What must be the same before values are compared: names, dtypes, shapes, finiteness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from bnfold.records import InputSpec
    from bnfold.verification.answers import Kind

__all__ = ["Declared", "Unequal", "differing_names", "is_finite", "match_kind", "matched_input"]


class Unequal(Exception):  # noqa: N818 - not an error of the program: it carries the verdict's sentence
    """The file differs in a way that needs no measure."""


@dataclass(frozen=True)
class Declared:
    """An input or output of a session: its type, "tensor(float)" say, and its axes, names or None where dynamic."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    @classmethod
    def copied(cls, value: Any) -> Self:
        """From a `NodeArg`, which would keep its session, and the parameters in it, alive."""
        return cls(value.name, value.type, tuple(value.shape))


def matched_input(spec: InputSpec, declared: Declared) -> InputSpec:
    """The source's input with the axes that the file fixes."""
    dtype = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16", "string": "object"}
    found = declared.type.removeprefix("tensor(").removesuffix(")")
    found = dtype.get(found, found)
    if found != spec.dtype:
        raise Unequal(f"input {spec.name}: dtype {found}, expected {spec.dtype}")
    if len(declared.shape) != len(spec.shape):
        raise Unequal(f"input {spec.name}: {len(declared.shape)} axes, expected {len(spec.shape)}")
    shape = []
    for ours, theirs in zip(spec.shape, declared.shape, strict=True):
        fixed = theirs if isinstance(theirs, int) else None
        if ours is not None and fixed is not None and ours != fixed:
            raise Unequal(f"input {spec.name}: shape {list(declared.shape)}, expected {list(spec.shape)}")
        shape.append(ours if fixed is None else fixed)
    return replace(spec, shape=tuple(shape))


def differing_names(what: str, found: list[str], expected: list[str]) -> str:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [f"not in the source: {', '.join(extra)}"] if extra else []
    return f"the file's {what} differ: {'; '.join(parts) or 'another order'} (found {found}, expected {expected})"


def match_kind(name: str, got: Any, native: Kind, where: str) -> None:
    """Dtype, shape and finiteness of one output."""
    if not isinstance(got, np.ndarray):
        raise Unequal(f"output {name}: {type(got).__name__}, expected a tensor ({where})")
    if got.dtype != native.dtype:
        raise Unequal(f"output {name}: dtype {got.dtype}, expected {native.dtype} ({where})")
    if got.shape != native.shape:
        raise Unequal(f"output {name}: shape {got.shape}, expected {native.shape} ({where})")
    if not is_finite(got):
        n_bad = int(got.size - np.count_nonzero(np.isfinite(got)))
        raise Unequal(f"output {name}: {n_bad} of {got.size} values are NaN or infinite ({where})")


def is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub" or bool(np.isfinite(array).all())
