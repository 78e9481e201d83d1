"""What must be the same before values are compared: names, dtypes, shapes, finiteness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph.unread import unread_inputs
from bnfold.verification.execution.answers import is_finite

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records import InputSpec
    from bnfold.verification.execution.answers import Kind
    from bnfold.verification.execution.file_sessions import Declared
    from bnfold.verification.execution.reference import Reference

__all__ = ["Difference", "differing_kind", "differing_outputs", "matched_inputs"]

_DTYPES = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16", "string": "object"}


@dataclass(frozen=True)
class Difference:
    """The file differs in a way that needs no measure."""

    sentence: str


def matched_inputs(
    found: Mapping[str, Declared], inputs: Sequence[InputSpec], reference: Reference
) -> list[InputSpec] | Difference:
    """The inputs as the file declares them, where that does not contradict the source.

    The file may do without inputs that no output of the source depends on: they vary, and its answer may not.
    """
    expected = [spec.name for spec in inputs]
    missing = {name for name in expected if name not in found}
    plain = reference.plain if missing else None
    if set(found) - set(expected) or (missing and (plain is None or not missing <= set(unread_inputs(plain)))):
        return Difference(_differing_names("inputs", list(found), expected))
    matched = []
    for spec in inputs:
        own = spec if spec.name in missing else _matched_input(spec, found[spec.name])
        if isinstance(own, Difference):
            return own
        matched.append(own)
    return matched


def _matched_input(spec: InputSpec, declared: Declared) -> InputSpec | Difference:
    """The source's input with the axes that the file fixes."""
    found = declared.type.removeprefix("tensor(").removesuffix(")")
    found = _DTYPES.get(found, found)
    if found != spec.dtype:
        return Difference(f"input {spec.name}: dtype {found}, expected {spec.dtype}")
    if len(declared.shape) != len(spec.shape):
        return Difference(f"input {spec.name}: {len(declared.shape)} axes, expected {len(spec.shape)}")
    shape = []
    for ours, theirs in zip(spec.shape, declared.shape, strict=True):
        fixed = theirs if isinstance(theirs, int) else None
        if ours is not None and fixed is not None and ours != fixed:
            return Difference(f"input {spec.name}: shape {list(declared.shape)}, expected {list(spec.shape)}")
        shape.append(ours if fixed is None else fixed)
    return replace(spec, shape=tuple(shape))


def differing_outputs(found: Mapping[str, Declared], reference: Reference) -> Difference | None:
    """Other names than the source's, or another order.

    Raises:
        InputRefused: an output is not a tensor of numbers.
    """
    expected = list(reference.output_names)
    if list(found) != expected:
        return Difference(_differing_names("outputs", list(found), expected))
    for name, declared in found.items():
        if not declared.type.startswith("tensor(") or declared.type == "tensor(string)":
            raise InputRefused(
                "an output is not a tensor of numbers, and others cannot be compared",
                where=f"output {name}",
                found=declared.type,
                remedy="take it off the outputs of the graph",
            )
    return None


def _differing_names(what: str, found: list[str], expected: list[str]) -> str:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [f"not in the source: {', '.join(extra)}"] if extra else []
    return f"the file's {what} differ: {'; '.join(parts) or 'another order'} (found {found}, expected {expected})"


def differing_kind(name: str, got: Any, native: Kind, where: str) -> Difference | None:
    """Dtype, shape and finiteness of one output."""
    if not isinstance(got, np.ndarray):
        return Difference(f"output {name}: {type(got).__name__}, expected a tensor ({where})")
    if got.dtype != native.dtype:
        return Difference(f"output {name}: dtype {got.dtype}, expected {native.dtype} ({where})")
    if got.shape != native.shape:
        return Difference(f"output {name}: shape {got.shape}, expected {native.shape} ({where})")
    if not is_finite(got):
        n_bad = int(got.size - np.count_nonzero(np.isfinite(got)))
        return Difference(f"output {name}: {n_bad} of {got.size} values are NaN or infinite ({where})")
    return None
