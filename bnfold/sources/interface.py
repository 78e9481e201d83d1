"""The names of a network's inputs, outputs and dynamic axes, as the user asks for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.axes import batch_symbol
from bnfold.sources.types import OnnxSource, TorchSource

if TYPE_CHECKING:
    from bnfold.records import InputSpec
    from bnfold.sources.types import Source

__all__ = ["BATCH", "AxisNames", "DynamicShapes", "with_interface"]

BATCH = "batch"
AxisNames = Mapping[int, Any]
DynamicShapes = Mapping[str, Any] | Sequence[Any]
"""By input, or in their order: names (or `torch.export.Dim`s) by axis, or one for each axis, None where it is fixed."""


def with_interface(
    source: Source,
    *,
    dynamic_shapes: DynamicShapes | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Source:
    """The source with these names; what it computes is the same.

    Args:
        source: as loaded.
        dynamic_shapes: the axes that shall be dynamic besides the batch, and their names; axis 0 may be renamed. An
            exported program and a file keep the axes they have: a program's can be named, if they are dynamic there.
        input_names: one for each input, in order.
        output_names: one for each output, in order.

    Raises:
        InputRefused: another number of names, names that are no names or stand twice, an input or axis there is not.
    """
    if dynamic_shapes:
        source = _with_axes(source, dynamic_shapes, input_names)
    if input_names is not None:
        source = _with_inputs(source, _checked(input_names, [spec.name for spec in source.inputs], "input"))
    if output_names is not None:
        source = _with_outputs(source, _checked(output_names, source.output_names, "output"))
    both = {spec.name for spec in source.inputs} & set(source.output_names)
    if both and (input_names is not None or output_names is not None):
        raise InputRefused(
            "an input and an output must have different names", where=source.facts.spec, found=sorted(both)[0],
            remedy="give one of them another name",
        )  # fmt: skip
    return source


def _checked(names: Sequence[str], found: Sequence[str], kind: str) -> tuple[str, ...]:
    names = (names,) if isinstance(names, str) else tuple(names)
    if len(names) != len(found):
        raise InputRefused(
            f"the number of {kind} names does not fit the network", found=f"{len(names)}: {', '.join(map(str, names))}",
            expected=f"{len(found)}, for {', '.join(found)}", remedy=f"name every {kind}, in order",
        )  # fmt: skip
    bad = [name for name in names if not isinstance(name, str) or not name.strip() or "\0" in name]
    twice = [name for name in names if names.count(name) > 1]
    if bad or twice:
        raise InputRefused(
            f"{kind} names must be distinct and not empty", found=repr((bad or twice)[0]), remedy="give another name"
        )
    return names


def _with_inputs(source: Source, names: tuple[str, ...]) -> Source:
    if isinstance(source, OnnxSource):
        source = _renamed(source, dict(zip((spec.name for spec in source.inputs), names, strict=True)))
    samples = source.samples
    if samples is not None:
        before = {spec.name: name for spec, name in zip(source.inputs, names, strict=True)}
        samples = {before.get(name, name): array for name, array in samples.items()}
    inputs = tuple(
        dataclasses.replace(spec, name=name, symbols=spec.symbols)
        for spec, name in zip(source.inputs, names, strict=True)
    )
    return dataclasses.replace(source, inputs=inputs, samples=samples)


def _with_outputs(source: Source, names: tuple[str, ...]) -> Source:
    if isinstance(source, OnnxSource):
        source = _renamed(source, dict(zip(source.output_names, names, strict=True)))
    return dataclasses.replace(source, output_names=names)


def _renamed(source: OnnxSource, names: Mapping[str, str]) -> OnnxSource:
    """The graph with other names of inputs or outputs; inner values that have one of these get another."""
    model = source.model.clone()
    graph = model.graph
    ends = [value for value in (*graph.inputs, *graph.outputs) if value.name in names]
    inner = [value for node in graph.all_nodes() for value in node.outputs]
    taken = {str(value.name) for value in (*graph.inputs, *graph.initializers.values(), *inner)} | set(names.values())
    for value in (*inner, *list(graph.initializers.values())):
        if value.name in names.values() and value not in ends:
            value.name = _free(str(value.name), taken)
    for value in ends:
        value.name = names[str(value.name)]
    return dataclasses.replace(source, model=model)


def _free(name: str, taken: set[str]) -> str:
    """`name` with a number that nothing else has."""
    number = next(n for n in range(1, len(taken) + 2) if f"{name}_{n}" not in taken)
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def _with_axes(source: Source, wanted: DynamicShapes, new_names: Sequence[str] | None) -> Source:
    if isinstance(source, OnnxSource):
        raise InputRefused(
            "an ONNX model keeps the dynamic axes it has", where=source.facts.spec, found="dynamic_shapes (--dynamic)",
            remedy="leave it out, or export the network again with them",
        )  # fmt: skip
    dims: dict[str, Any] = {}
    axes = _by_input(source, wanted, new_names)
    named = (_name_of(axes.get(spec.name, {}).get(spec.batch_axis or 0)) for spec in source.inputs if spec.has_batch)
    default = next((name for name in named if name is not None), BATCH)
    every = {spec.name: _symbols(source, spec, axes.get(spec.name, {}), default, dims) for spec in source.inputs}
    batch = batch_symbol({name: tuple(symbol or 0 for symbol in own) for name, own in every.items()})
    inputs = tuple(_spec_with(spec, every[spec.name], batch) for spec in source.inputs)
    return dataclasses.replace(source, inputs=inputs, dims={**source.dims, **dims})


def _name_of(given: Any) -> Any:
    """The name of an axis: a text, or that of a `torch.export.Dim`."""
    return getattr(given, "__name__", None) or given


def _spec_with(spec: InputSpec, symbols: tuple[str | None, ...], batch: str | None) -> InputSpec:
    axis = symbols.index(batch) if batch in symbols and batch is not None else None
    if axis == spec.batch_axis:
        return dataclasses.replace(spec, symbols=symbols)
    if spec.batch_axis is not None and None in spec.shape:
        raise InputRefused(
            f"axis {spec.batch_axis} of input {spec.name} is the batch",
            found=f"the name {symbols[spec.batch_axis]}, and {batch} elsewhere",
            remedy="call the axes that count the samples by one name",
        )
    shape = tuple(None if k == axis else size for k, size in enumerate(spec.shape))
    return dataclasses.replace(spec, shape=shape, batch_axis=axis, symbols=symbols)


def _by_input(source: TorchSource, wanted: DynamicShapes, new_names: Sequence[str] | None) -> dict[str, AxisNames]:
    """Names by axis, by the input's own name; the user may use the new ones, too."""
    own = [spec.name for spec in source.inputs]
    if not isinstance(wanted, Mapping):
        wanted = dict(zip(own, wanted, strict=False))
    also = dict(zip(new_names or (), own, strict=False))
    found = {}
    for name, axes in wanted.items():
        known = name if name in own else also.get(name)
        if known is None:
            raise InputRefused(
                f"the network has no input called {name}", where=source.facts.spec, found="dynamic_shapes (--dynamic)",
                expected=", ".join(own), remedy="name one of these",
            )  # fmt: skip
        found[known] = _by_axis(axes, name)
    return found


def _by_axis(axes: Any, name: str) -> AxisNames:
    if axes is None:
        return {}
    if isinstance(axes, Mapping):
        return axes
    if isinstance(axes, tuple | list):
        return dict(enumerate(axes))
    raise InputRefused(
        f"the dynamic axes of input {name} must be a dict from axis to name, got {type(axes).__name__}",
        remedy='write {0: "batch", 2: "height"}',
    )


def _symbols(
    source: TorchSource, spec: InputSpec, axes: AxisNames, batch: str, dims: dict[str, Any]
) -> tuple[str | None, ...]:
    """The names of an input's axes, `batch` by default; the `Dim`s that the user gave go into `dims`."""
    dynamic = spec.batch_axis if spec.batch_dynamic else None
    symbols = [batch if axis == dynamic else None for axis in range(len(spec.shape))]
    rank = len(spec.shape)
    for axis, given in axes.items():
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise InputRefused(
                f"input {spec.name} has no axis {axis}", where=source.facts.spec, expected=f"0 to {rank - 1}",
                remedy="name one of its axes",
            )  # fmt: skip
        if given is None:
            continue
        name = _name_of(given)
        if not isinstance(name, str) or not name.isidentifier():
            raise InputRefused(
                f"the name of axis {axis} of input {spec.name} must be a word like batch, got {given!r}",
                where=source.facts.spec, remedy="give letters, digits and underscores, or a torch.export.Dim of a name",
            )  # fmt: skip
        if not isinstance(given, str):
            dims[name] = given
        symbols[axis] = name
        _refuse_unnameable(source, spec, axis % rank)
    return tuple(symbols)


def _refuse_unnameable(source: TorchSource, spec: InputSpec, axis: int) -> None:
    size = spec.shape[axis]
    if source.program is not None:
        from bnfold.sources.program import dynamic_axes

        if axis not in dynamic_axes(source.program, [each.name for each in source.inputs].index(spec.name)):
            raise InputRefused(
                f"axis {axis} of input {spec.name} is fixed in the exported program", where=source.facts.spec,
                found=str(size), remedy="export it again with that axis in dynamic_shapes",
            )  # fmt: skip
    elif size == 1:
        raise InputRefused(
            f"axis {axis} of input {spec.name} has one element in the example, which PyTorch takes for a constant",
            where=source.facts.spec, expected="2 or more", remedy="give an example in which it is longer",
        )  # fmt: skip
