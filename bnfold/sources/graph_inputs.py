"""The inputs of an ONNX graph: which have no default value, what counts the samples, which sizes are open."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.axes import batch_symbol, file_spec, refuse_unfit, refuse_unknown_symbols, shape_text, symbols_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from bnfold.records import InputSpec

__all__ = ["graph_inputs"]


def graph_inputs(
    model: ir.Model,
    shapes: Sequence[tuple[int, ...]] | None = None,
    *,
    where: str = "the graph",
    dims: Mapping[str, int] | None = None,
    batch_dim: str | None = None,
) -> tuple[InputSpec, ...]:
    """The inputs of a graph that have no default value, with None on the batch and on axes of unknown size.

    Args:
        model: the graph.
        shapes: sizes to test dynamic axes with, one per input; they go with the symbols, to other inputs too.
        where: the source, for messages.
        dims: sizes by symbol.
        batch_dim: the symbol of the batch; None for that of `bnfold.sources.axes`.

    Raises:
        InputRefused: an input without a shape or dtype, an unknown symbol, or a shape that does not fit.
    """
    values = {str(value.name): value for value in model.graph.inputs if value.name not in model.graph.initializers}
    axes = {name: symbols_of(name, _stated_shape(value, where)) for name, value in values.items()}
    refuse_unknown_symbols(axes, [*(dims or ()), *([] if batch_dim is None else [batch_dim])], where=where)
    batch = batch_symbol(axes, batch_dim)
    sizes = dict(dims or {})

    def specs() -> dict[str, InputSpec]:
        return {
            name: file_spec(name, own, _dtype(values[name]), batch=batch, sizes=sizes, by_name=batch_dim is not None)
            for name, own in axes.items()
        }

    for spec, given in zip(specs().values(), shapes or (), strict=False):
        refuse_unfit(spec.name, spec.shape, given, batch_axis=spec.batch_axis, where=where)
        for axis, (symbol, size) in enumerate(zip(spec.symbols, given, strict=True)):
            if symbol is not None and axis != spec.batch_axis:
                sizes.setdefault(symbol, size)
    found = specs()
    if batch is None:
        first = next((spec.fixed_batch for spec in found.values() if spec.has_batch), None)
        found = {
            name: spec if spec.fixed_batch == first else dataclasses.replace(spec, batch_axis=None)
            for name, spec in found.items()
        }
    for spec in found.values():
        if spec.fixed_batch == 0:
            raise InputRefused(
                f"input {spec.name} has a batch of 0, so that nothing can be compared",
                where=where,
                found=shape_text(spec.shape),
                remedy="export it again with a dynamic batch",
            )
    return tuple(found.values())


def _stated_shape(value: ir.Value, where: str) -> tuple[int | str | None, ...]:
    if value.shape is None or value.dtype is None:
        raise InputRefused(
            f"input {value.name} has no shape or is not a tensor",
            where=where,
            expected="a tensor of known rank and element type",
            remedy="export it again with typed inputs",
        )
    return tuple(size if isinstance(size, int) else size.value for size in value.shape)


def _dtype(value: ir.Value) -> str:
    if value.dtype is None:
        raise ValueError(f"{value.name} has no dtype")
    return str(value.dtype.numpy().name)
