"""Shapes of all values of a model at given sizes of its inputs, by ONNX's own shape inference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import ValueInfoProto

__all__ = ["BATCH", "FEW", "Shape", "default_sizes", "kinds_of", "node_kinds", "other_sizes", "prod", "sized"]

BATCH = 2
OTHER_AXES = 64  # of an input whose length the file leaves open, besides the batch
_FACTOR = 8  # of another length
FEW = 64  # elements; a value that an operator takes a shape, axes or bounds from
_SMALL = 1024  # elements; a constant that may be a shape, axes, or scales

Shape = tuple[int | None, ...]


def default_sizes(
    model: ModelProto, given: Mapping[str, Sequence[int | None]] | None = None, batch: int = BATCH
) -> dict[str, tuple[int, ...]]:
    """A size for every axis of every input: that of the file, the given one, or the batch (axis 0) and a small one.

    Axes of one name have one size.
    """
    stored = {tensor.name for tensor in model.graph.initializer}
    named: dict[str, int] = {}
    found = {}
    for value in model.graph.input:
        if value.name in stored:
            continue
        dims = value.type.tensor_type.shape.dim
        asked = list((given or {}).get(value.name, ()))
        asked = asked if len(asked) == len(dims) else [None] * len(dims)
        lengths = []
        for axis, (dim, length) in enumerate(zip(dims, asked, strict=True)):
            size = dim.dim_value if dim.HasField("dim_value") else length
            if size is None and dim.dim_param:
                size = named.setdefault(dim.dim_param, OTHER_AXES if axis else batch)
            lengths.append(size if size is not None else OTHER_AXES if axis else batch)
        found[value.name] = tuple(lengths)
    return found


def other_sizes(model: ModelProto, sizes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """The sizes with another length, which no stride makes equal, for every axis that the file leaves open."""
    found = {}
    for value in model.graph.input:
        if value.name in sizes:
            dims = value.type.tensor_type.shape.dim
            own = zip(dims, sizes[value.name], strict=True)
            found[value.name] = tuple(n if dim.HasField("dim_value") else _FACTOR * n + 1 for dim, n in own)
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


def prod(shape: Shape | None) -> float:
    """The number of elements; infinite where it is not known."""
    return math.inf if shape is None or None in shape else math.prod(n for n in shape if n is not None)


def node_kinds(
    node: NodeProto,
    opsets: Mapping[str, int],
    kinds: Mapping[str, tuple[int, Shape | None]],
    data: Mapping[str, np.ndarray],
) -> dict[str, tuple[int, Shape | None]]:
    """Element type and shape of the outputs of one node, as far as ONNX infers them.

    Args:
        node: of the default domain.
        opsets: versions by domain.
        kinds: type and shape of what it reads.
        data: what it reads that is known, and small.
    """
    if any(not type_ for type_, _ in kinds.values()):
        return {}
    types = {
        name: helper.make_tensor_type_proto(
            type_, None if shape is None else [n if n is not None else "" for n in shape]
        )
        for name, (type_, shape) in kinds.items()
    }
    narrow = {name: array if array.dtype.kind != "f" else array.astype(np.float32) for name, array in data.items()}
    tensors = {
        name: numpy_helper.from_array(array, name) for name, array in narrow.items() if array.dtype.kind in "iufb"
    }
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get("", 1), node.domain)
        found = onnx.shape_inference.infer_node_outputs(schema, node, types, tensors)
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    values = [onnx.ValueInfoProto(name=name, type=type_) for name, type_ in found.items()]
    shapes, element_types = kinds_of(GraphProto(value_info=values))
    return {name: (type_, shapes.get(name)) for name, type_ in element_types.items()}


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
            shapes[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return shapes, types
