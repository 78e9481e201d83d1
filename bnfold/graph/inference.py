"""Shapes and element types that a file does not state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure, attempted
from bnfold.graph.constants import is_float
from bnfold.graph.elements import Length
from bnfold.graph.input_ranks import inputs_by_operator
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import is_onnx, kind_of
from bnfold.graph.ranks import Shapes, outputs_by_operator
from bnfold.graph.subgraphs import held

__all__ = ["infer_shapes"]

_FEW = 64  # elements of a shape or of a list of axes, at most
_ROUNDS = 16  # each takes a rank as far forward as it goes, and one operator back
# Operators whose result is of another type than their first input.
_OTHER_TYPE = frozenset(
    {
        op.ArgMax, op.ArgMin, op.Cast, op.CastLike, op.ConvInteger, op.DequantizeLinear, op.DynamicQuantizeLinear,
        op.EyeLike, op.IsInf, op.IsNaN, op.MatMulInteger, op.NonZero, op.QLinearConv, op.QuantizeLinear,
    }
)  # fmt: skip


def infer_shapes(model: ir.Model) -> None:
    """Fill in the shapes and element types that can be inferred, in place; what is stated stays.

    Inference of a whole graph writes it out and reads it again, which takes longer than the fold. torch.onnx.export
    states everything but what it computes shapes with: those few integer operators are inferred one by one. Where ONNX
    loses a rank, it may follow from operators around (`ranks`): node by node, until nothing more does.
    """
    gaps = _gaps(model)
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
    _restore_sequences(model)
    for value, shape in stated.items():
        value.shape = shape
    for _ in range(_ROUNDS):
        gaps = _gaps(model)
        if not any(
            [_complete(node, model) for node in gaps] + [_complete_inputs(node, model) for node in _readers(gaps)]
        ):
            return


def _restore_sequences(model: ir.Model) -> None:
    """Give the values of operators that write sequences their type back, which onnx_ir's pass takes for a tensor's.

    ONNX gives a length that it does not know one name for all elements of a sequence, which may differ in it: such
    names are taken away.
    """
    named: set[str] = set()
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if is_onnx(node.domain) and (schema := _schema(node, model)) is not None:
            for value, formal in zip(node.outputs, schema.outputs, strict=False):
                if isinstance(value.type, ir.TensorType) and all(name.startswith("seq(") for name in formal.types):
                    value.type = ir.SequenceType(value.type)
        if any(isinstance(value.type, ir.SequenceType) for value in (*node.inputs, *node.outputs) if value is not None):
            named |= {name for value in node.outputs for name in _names(value.shape)}
    named -= {name for value in model.graph.inputs for name in _names(value.shape)}
    for node in ir.traversal.RecursiveGraphIterator(model.graph) if named else ():
        for value in node.outputs:
            if value.shape is not None and not named.isdisjoint(_names(value.shape)):
                value.shape = _without(value.shape, named)


def _names(shape: ir.Shape | None) -> set[str]:
    """The names of lengths."""
    return {str(dim.value) for dim in shape or () if isinstance(dim, ir.SymbolicDim) and dim.value is not None}


def _without(shape: ir.Shape, names: set[str]) -> ir.Shape:
    """The shape, lengths of these names unknown."""
    return ir.Shape([None if isinstance(dim, ir.SymbolicDim) and dim.value in names else dim for dim in shape])


def _schema(node: ir.Node, model: ir.Model) -> onnx.defs.OpSchema | None:
    """ONNX's schema of a node; None where it has none."""
    try:
        return onnx.defs.get_schema(node.op_type, model.opset_imports.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return None


def _gaps(model: ir.Model) -> list[ir.Node]:
    """Every node with an output, read by somebody, of unknown shape or type."""
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    return [node for node in nodes if any(_unknown(value) for value in _read_outputs(node))]


def _readers(nodes: list[ir.Node]) -> list[ir.Node]:
    """The nodes that read what these write, the last first: ranks go backward too."""
    return list({use.node: None for node in nodes for value in node.outputs for use in value.uses()})[::-1]


def _read_outputs(node: ir.Node) -> Iterator[ir.Value]:
    """The outputs that somebody reads."""
    return (value for value in node.outputs if value.uses() or value.is_graph_output())


def _unknown(value: ir.Value) -> bool:
    return value.shape is None or value.dtype is None


def _infer_integers(node: ir.Node, model: ir.Model) -> bool:
    """Fill in the outputs of one node; False if they are floats or stay unknown.

    A single node does not see what the numbers that flow into it are: for floats their shape could be found wider.
    """
    _infer_alone(node, model)
    return not any(_unknown(value) or is_float(value) for value in _read_outputs(node))


def _infer_alone(node: ir.Node, model: ir.Model) -> None:
    """Fill in what ONNX infers of a node whose inputs are known."""
    inputs = [value for value in node.inputs if value is not None]
    if any(_unknown(value) or value.type is None for value in inputs) or next(held(node), None) is not None:
        return
    schema = _schema(node, model)
    if schema is None:
        return
    try:
        found = onnx.shape_inference.infer_node_outputs(
            schema, ir.to_proto(node), {str(value.name): _type_proto(value) for value in inputs}, _small_data(inputs)
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError):
        return  # wrong, or deprecated as GroupNormalization is from its first opset
    known = {name for value in inputs for name in _names(value.shape)}  # others are new, the same for every node
    for value in node.outputs:
        if value.name in found and _unknown(value):
            value.type = ir.serde.deserialize_type_proto_for_type(found[value.name])
            shape = ir.serde.deserialize_type_proto_for_shape(found[value.name])
            value.shape = value.shape if shape is None else _without(shape, _names(shape) - known)


def _complete(node: ir.Node, model: ir.Model) -> bool:
    """Fill in the outputs of one node by ONNX's inference or by its operator; whether anything was found."""
    before = [(value.shape, value.dtype) for value in node.outputs]
    _infer_alone(node, model)
    for index, shape in _told(node, outputs_by_operator).items():
        if index < len(node.outputs):
            _state(node.outputs[index], shape, _type_of_data(node))
    return before != [(value.shape, value.dtype) for value in node.outputs]


def _complete_inputs(node: ir.Node, model: ir.Model) -> bool:
    """Fill in the inputs of one node, as far as they follow from its operator; whether anything was found."""
    found = False
    for index, shape in _told(node, inputs_by_operator).items():
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None and value.shape is None and not value.is_graph_input():
            _state(value, shape, _type_of_input(node, index, model))
            found = True
    return found


def _type_of_input(node: ir.Node, index: int, model: ir.Model) -> ir.DataType | None:
    """The type of another value of the node that ONNX's schema gives the same type variable; None if none is known."""
    schema = _schema(node, model)
    if schema is None:
        return None
    ends = [*zip(schema.inputs, node.inputs, strict=False), *zip(schema.outputs, node.outputs, strict=False)]
    own = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
    known = (value.dtype for formal, value in ends if formal.type_str == own and value is not None)
    return next((dtype for dtype in known if dtype is not None), None)


def _told(node: ir.Node, rule: Callable[[ir.Node], Shapes]) -> Shapes:
    """What a rule tells of a node: nothing where it fails."""
    shapes = attempted(f"the shape of {node.op_type}", f"`{layer_name(node)}`", lambda: rule(node))
    return {} if isinstance(shapes, Failure) else shapes


def _type_of_data(node: ir.Node) -> ir.DataType | None:
    """The type of what these operators give where it is not stated: that of what they read."""
    if kind_of(node) in _OTHER_TYPE or not node.inputs or node.inputs[0] is None:
        return None
    return node.inputs[0].dtype


def _state(value: ir.Value, shape: Sequence[Length], dtype: ir.DataType | None) -> None:
    if value.shape is None:
        value.shape = ir.Shape(shape)
    if value.dtype is None and dtype is not None:
        value.dtype = dtype


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
