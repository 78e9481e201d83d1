"""Dynamic axes: what PyTorch's exporter is told of them, and the names that they have in the graph."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bnfold.sources.interface import BATCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records import InputSpec
    from bnfold.sources.types import TorchSource

__all__ = ["axis_names", "dynamic_shapes", "lost_axes", "name_axes"]


def axis_names(spec: InputSpec, *, static_batch: bool = False) -> dict[int, str]:
    """The name of each dynamic axis of an input: the batch, unless it is fixed, and those asked for."""
    named = {axis: symbol for axis, symbol in enumerate(spec.symbols) if symbol is not None}
    if spec.batch_dynamic and spec.batch_axis is not None:
        named.setdefault(spec.batch_axis, BATCH)
        if static_batch:
            del named[spec.batch_axis]
    return named


def dynamic_shapes(source: TorchSource, *, static_batch: bool) -> Any:
    """The argument of `torch.export.export`; None where every axis is fixed.

    The batch is a `Dim`, which wants it to be any size; of other axes PyTorch finds the range (`Dim.DYNAMIC`), unless
    the user gave a `Dim`. https://docs.pytorch.org/docs/stable/export.html (expressing dynamism)
    """
    import torch

    dims: dict[str, Any] = dict(source.dims)
    wanted = []
    for spec in source.inputs:
        axes: dict[int, Any] = {}
        for axis, name in axis_names(spec, static_batch=static_batch).items():
            if axis == spec.batch_axis and spec.batch_dynamic:
                dims.setdefault(name, torch.export.Dim(name))
            axes[axis] = dims.get(name, torch.export.Dim.DYNAMIC)
        wanted.append(axes or None)
    if not any(wanted):
        return None
    if source.call is None:
        return tuple(wanted)
    args, kwargs = source.call.arguments(wanted)
    args, kwargs = _without_constants((args, kwargs))
    return dict(inspect.signature(source.module.forward).bind(*args, **kwargs).arguments)


def _without_constants(tree: Any) -> Any:
    """None where a number or a text stands: it has no axes."""
    from torch.utils import _pytree as pytree

    def is_axes(node: Any) -> bool:
        return isinstance(node, dict) and bool(node) and all(isinstance(key, int) for key in node)

    return pytree.tree_map(lambda leaf: leaf if is_axes(leaf) else None, tree, is_leaf=is_axes)


def lost_axes(model: ir.Model, source: TorchSource, *, static_batch: bool) -> list[str]:
    """The dynamic axes that the exporter has fixed, as `x[2] (height)`."""
    lost = []
    for spec, value in zip(source.inputs, model.graph.inputs, strict=True):
        for axis, name in axis_names(spec, static_batch=static_batch).items():
            if value.shape is None or isinstance(value.shape[axis], int):
                lost.append(str(spec.name) if name == BATCH else f"{spec.name}[{axis}] ({name})")
    return lost


def name_axes(model: ir.Model, inputs: Sequence[InputSpec]) -> None:
    """Give the symbols of the exporter (`s77`) the names of the axes, wherever they stand, in place.

    Where one symbol has two names the first is taken; where a name would stand for two symbols it is for the first.
    """
    names: dict[str, str] = {}
    for spec, value in zip(inputs, model.graph.inputs, strict=True):
        for axis, name in axis_names(spec).items():
            size = None if value.shape is None else value.shape[axis]
            symbol = size.value if isinstance(size, ir.SymbolicDim) else None
            if symbol is not None and name not in names.values():
                names.setdefault(symbol, name)
    for value in (*model.graph.inputs, *(output for node in model.graph.all_nodes() for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(size, names) for size in value.shape.dims])


def _renamed(size: int | ir.SymbolicDim, names: Mapping[str, str]) -> int | ir.SymbolicDim:
    if isinstance(size, int) or size.value is None:
        return size
    return ir.SymbolicDim(re.sub(r"\w+", lambda found: names.get(found.group(), found.group()), size.value))
