"""Inputs for timing: the shapes and types a session asks for, filled with seeded random numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.records import InputSpec
from bnfold.sources.axes import refuse_unknown_symbols, symbols_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["check_same_inputs", "input_specs", "random_inputs", "resolve_shapes"]

# ONNX Runtime's names of tensor types; a type that NumPy has not (bfloat16) or that has no numbers is refused.
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def input_specs(session: Any, where: str, dims: Mapping[str, int] | None = None) -> tuple[InputSpec, ...]:
    """The inputs of a session in their order; a named axis is dynamic.

    Args:
        session: an open one.
        where: the file, for errors.
        dims: sizes of dynamic axes by their name in the file, INPUT[AXIS] where one has none.

    Raises:
        InputRefused: an input is not a tensor of numbers that NumPy can hold, or no axis has one of the names.
    """
    sizes = dict(dims or {})
    axes = {node.name: symbols_of(node.name, node.shape) for node in session.get_inputs()}
    refuse_unknown_symbols(axes, list(sizes), where=where)
    specs = []
    for node in session.get_inputs():
        if node.type not in DTYPES:
            raise InputRefused(
                f"cannot make values for input {node.name}", where=where, found=node.type,
                expected="a tensor of floats, integers or booleans", remedy="measure this file with your own harness",
            )  # fmt: skip
        shape = tuple(size if isinstance(size, int) else sizes.get(size) for size in axes[node.name])
        specs.append(InputSpec(node.name, shape, DTYPES[node.type]))
    return tuple(specs)


def resolve_shapes(
    specs: Sequence[InputSpec], batch: int, given: Sequence[tuple[int, ...]] | None, where: str
) -> dict[str, tuple[int, ...]]:
    """The shape of each input at a batch size: name -> shape.

    Args:
        specs: the inputs; a dynamic axis 0 is the batch.
        batch: the batch size.
        given: shapes for the inputs in their order, batch first (its value is replaced), where axes besides the
            batch are dynamic.
        where: the file, for errors.

    Raises:
        InputRefused: a dynamic axis without a shape given, a shape that does not fit, or a batch that is fixed at
            another size.
    """
    if given and len(given) != len(specs):
        raise InputRefused(
            "the shapes given do not fit the inputs", where=where, found=f"{len(given)} of --input-shape",
            expected=f"{len(specs)}, for {', '.join(spec.name for spec in specs)}",
            remedy="give --input-shape once per input",
        )  # fmt: skip
    shapes = {
        spec.name: _resolve(spec, batch, given[index] if given else None, where) for index, spec in enumerate(specs)
    }
    fixed = [spec for spec in specs if spec.shape and not spec.batch_dynamic]
    if fixed and len(fixed) == len(specs) and fixed[0].shape[0] != batch:
        raise InputRefused(
            "the batch size is fixed in the file", where=where, found=f"batch {fixed[0].shape[0]}",
            expected=f"batch {batch}",
            remedy=f"use --batch {fixed[0].shape[0]}, or export the file with a dynamic batch axis",
        )  # fmt: skip
    return shapes


def _resolve(spec: InputSpec, batch: int, given: tuple[int, ...] | None, where: str) -> tuple[int, ...]:
    """The shape of one input: the file's sizes, the batch on a dynamic axis 0, given sizes on other dynamic axes."""
    asked = spec.shape if given is None else given
    fits = len(asked) == len(spec.shape) and all(
        size is None or axis == 0 or size == other
        for axis, (size, other) in enumerate(zip(spec.shape, asked, strict=False))
    )
    declared = "x".join("?" if size is None else str(size) for size in spec.shape) or "a single number"
    if given is not None and not fits:
        raise InputRefused(
            f"the shape given for input {spec.name} does not fit the file", where=where,
            found="x".join(map(str, given)), expected=declared,
            remedy="give --input-shape with the sizes that the file fixes (? takes any), or leave it away where it "
            "fixes them all but the batch",
        )  # fmt: skip
    if any(size is None for size in asked[1:]):
        raise InputRefused(
            f"the shape of input {spec.name} is not known", where=where, found=declared,
            expected="sizes on every axis but the batch",
            remedy="give it with --input-shape, batch first, like 1x3x224x224, or by name with --dim",
        )  # fmt: skip
    rest = tuple(size for size in asked[1:] if size is not None)
    return InputSpec(spec.name, (spec.shape[0], *rest) if spec.shape else (), spec.dtype).with_batch(batch)


def check_same_inputs(files: Sequence[str], specs: Sequence[tuple[InputSpec, ...]]) -> None:
    """Files are only compared on the same inputs: equal names and types.

    Raises:
        InputRefused: the inputs of a file are not those of the first file.
    """
    expected = {spec.name: spec.dtype for spec in specs[0]}
    for file, own in zip(files, specs, strict=True):
        found = {spec.name: spec.dtype for spec in own}
        if found != expected:
            raise InputRefused(
                "the files have different inputs", where=file, found=_describe(found),
                expected=f"{_describe(expected)}, as {files[0]}",
                remedy="compare exports of one network, with the same input names and types",
            )  # fmt: skip


def _describe(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in sorted(inputs.items())) or "no inputs"


def random_inputs(specs: Sequence[InputSpec], shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Any]:
    """Seeded values for every input: standard normal floats, integers 0 and 1 (valid indices of any table)."""
    generator = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for spec in specs:
        kind = np.dtype(spec.dtype).kind
        shape = shapes[spec.name]
        drawn = generator.standard_normal(shape) if kind == "f" else generator.integers(0, 2, shape)
        values[spec.name] = np.asarray(drawn, dtype=spec.dtype)
    return values
