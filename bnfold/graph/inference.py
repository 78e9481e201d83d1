"""Shapes and element types that a file does not state."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.graph.constants import is_float
from bnfold.graph.subgraphs import held

__all__ = ["infer_shapes"]

_FEW = 64  # elements of a shape or of a list of axes, at most


def infer_shapes(model: ir.Model) -> None:
    """Fill in the shapes and element types that ONNX can infer, in place; what the exporter stated stays.

    Inference of a whole graph writes it out and reads it again, which takes longer than the fold. torch.onnx.export
    states everything but what it computes shapes with: those few integer operators are inferred one by one.
    """
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    gaps = [node for node in nodes if any(_unknown(value) for value in _read_outputs(node))]
    if all(_infer_integers(node, model) for node in gaps):
        return
    stated = {value: value.shape for node in model.graph for value in node.outputs if value.shape is not None}
    texts = {
        value: value.const_value for value in model.graph.initializers.values() if value.dtype == ir.DataType.STRING
    }
    for value in texts:
        value.const_value = None  # the pass asks for its size, which strings have not
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for value, text in texts.items():
        value.const_value = text
    for value, shape in stated.items():
        value.shape = shape


def _read_outputs(node: ir.Node) -> Iterator[ir.Value]:
    """The outputs that somebody reads."""
    return (value for value in node.outputs if value.uses() or value.is_graph_output())


def _unknown(value: ir.Value) -> bool:
    return value.shape is None or value.dtype is None


def _infer_integers(node: ir.Node, model: ir.Model) -> bool:
    """Fill in the outputs of one node; False if they are floats or stay unknown.

    A single node does not see what the numbers that flow into it are: for floats their shape could be found wider.
    """
    inputs = [value for value in node.inputs if value is not None]
    if any(_unknown(value) or value.type is None for value in inputs) or next(held(node), None) is not None:
        return False
    try:
        schema = onnx.defs.get_schema(node.op_type, model.opset_imports.get(node.domain, 1), node.domain)
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.to_proto(node), {str(value.name): _type_proto(value) for value in inputs}, _small_data(inputs)
        )
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError):
        return False
    for value in node.outputs:
        if value.name in found:
            value.type = ir.serde.deserialize_type_proto_for_type(found[value.name])
            value.shape = ir.serde.deserialize_type_proto_for_shape(found[value.name])
    return not any(_unknown(value) or is_float(value) for value in _read_outputs(node))


def _type_proto(value: ir.Value) -> onnx.TypeProto:
    if value.type is None or value.shape is None:
        raise ValueError(f"{value.name} has no type")
    proto = ir.serde.serialize_type(value.type)
    ir.serde.serialize_shape_into(proto, value.shape)
    return proto


def _small_data(inputs: list[ir.Value]) -> dict[str, onnx.TensorProto]:
    """Constants that hold shapes or axes."""
    small = ((value.name, value.const_value) for value in inputs if value.const_value is not None)
    return {str(name): ir.to_proto(tensor) for name, tensor in small if tensor.size <= _FEW}
