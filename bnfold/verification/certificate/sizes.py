"""Shapes of all values of a model at given sizes of its inputs, by ONNX's own shape inference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import TensorProto, ValueInfoProto

__all__ = ["BATCH", "Shape", "default_sizes", "kinds_of", "sized"]

BATCH = 2
OTHER_AXES = 16  # of an input whose length the file leaves open, besides the batch
_SMALL = 1024  # elements; a constant that may be a shape, axes, or scales

Shape = tuple[int | None, ...]


def default_sizes(model: ModelProto, given: Mapping[str, Sequence[int | None]] | None = None) -> dict[str, tuple[int, ...]]:
    """A size for every axis of every input: the given one, that of the file, the batch, or a small one."""
    stored = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name in stored:
            continue
        own = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
        asked = list((given or {}).get(value.name, own))
        if len(asked) != len(own):
            asked = own
        lengths = [a if a is not None else b for a, b in zip(own, asked, strict=True)]
        found[value.name] = tuple(
            (BATCH if axis == 0 else OTHER_AXES) if n is None else n for axis, n in enumerate(lengths)
        )
    return found


def sized(model: ModelProto, sizes: Mapping[str, Sequence[int]]) -> ModelProto:
    """The model without its large constants, its inputs of these sizes, with the shapes that ONNX infers."""
    work = ModelProto(ir_version=max(model.ir_version, 4), opset_import=model.opset_import)
    graph = work.graph
    graph.name = "sized"
    graph.node.extend(model.graph.node)
    inputs = {value.name for value in model.graph.input}
    for value in model.graph.input:
        shape = sizes.get(value.name)
        new = graph.input.add()
        new.CopyFrom(value)
        if shape is not None and value.type.HasField("tensor_type"):
            new.CopyFrom(helper.make_tensor_value_info(value.name, value.type.tensor_type.elem_type, list(shape)))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in inputs:
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    graph.output.extend(onnx.ValueInfoProto(name=value.name, type=_bare(value)) for value in model.graph.output)
    for inner in _bodies(graph):
        del inner.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(work, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return work


def _bare(value: ValueInfoProto) -> onnx.TypeProto:
    """The type without its shape, which the file may state wrongly."""
    bare = onnx.TypeProto()
    bare.CopyFrom(value.type)
    if bare.HasField("tensor_type"):
        bare.tensor_type.ClearField("shape")
    return bare


def _bodies(graph: GraphProto) -> Iterator[GraphProto]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield inner
                yield from _bodies(inner)


def kinds_of(graph: GraphProto) -> tuple[dict[str, Shape], dict[str, int]]:
    """Shapes and element types by name, of what is known."""
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if not value.type.HasField("tensor_type"):
            continue
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim
            )
    return shapes, types
