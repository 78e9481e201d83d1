"""From a newer operator set to an older one, node by node.

ONNX's own version converter has no way down where an operator has only learned more element types since (Relu from 14
to 13), which is nearly everywhere, and takes Softmax from 13 to 12 as it is, where it means something else. Here every
operator goes back version by version:

- the same inputs, outputs and attributes in both: the node stays, if the older version takes its element types;
- attributes that the older version lacks leave where they say their default, for the operators of `_DEFAULTED`, whose
  default is what the older version did;
- `_RULES` says the rest: axes and sizes from inputs to attributes, HardSwish decomposed.

All else is refused with the operator named. https://github.com/onnx/onnx/blob/main/docs/Changelog.md
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.export.metadata import layer_of
from bnfold.export.opset_rules import RULES, NoWay
from bnfold.graph import operators as op
from bnfold.graph.operators import is_onnx

if TYPE_CHECKING:
    from onnx.defs import OpSchema

__all__ = ["NoWay", "lower_opset"]

_DEFAULTED = {
    (op.ArgMax, 12), (op.ArgMin, 12), (op.AveragePool, 19), (op.BatchNormalization, 14), (op.Cast, 19), (op.Cast, 24),
    (op.CastLike, 19), (op.CastLike, 24), (op.DequantizeLinear, 21), (op.DequantizeLinear, 23),
    (op.GRU, 14), (op.GatherND, 12), (op.LSTM, 14), (op.LpPool, 18), (op.QuantizeLinear, 19), (op.QuantizeLinear, 21),
    (op.QuantizeLinear, 23), (op.RNN, 14), (op.Resize, 18), (op.ScatterElements, 16), (op.ScatterND, 16),
}  # fmt: skip


def lower_opset(model: ir.Model, opset: int) -> None:
    """Rewrite a model, in place, for an older opset of the default domain.

    Args:
        model: without functions; its values know their element types.
        opset: older than the model's.

    Raises:
        NoWay: names the first operator that the older opset cannot express; the model is half converted then.
    """
    current = model.opset_imports[""]
    for node in list(model.graph.all_nodes()):
        if is_onnx(node.domain):
            _lower_node(node, current, opset)
            node.version = None
    model.opset_imports[""] = opset


def _lower_node(node: ir.Node, current: int, opset: int) -> None:
    steps = _history(node.op_type, current)
    for newer, older in zip(steps, [*steps[1:], None], strict=True):
        if newer.since_version <= opset:
            break
        rule = RULES.get((node.op_type, newer.since_version))
        if rule is not None:
            rule(node)
            if node.graph is None:
                return  # replaced, by operators that are old enough
        elif older is None:
            raise NoWay(f"{_named(node)} exists from opset {newer.since_version} on")
        elif (node.op_type, newer.since_version) in _DEFAULTED:
            _drop_defaults(node, newer, older)
        elif _signature(newer) != _signature(older):
            raise NoWay(f"{_named(node)} has another form before opset {newer.since_version}")
    _check_types(node, onnx.defs.get_schema(node.op_type, opset, ""), opset)


@cache
def _history(op_type: str, current: int) -> list[OpSchema]:
    """The versions of an operator up to the current opset, newest first."""
    steps = []
    version = current
    while version > 0:
        try:
            schema = onnx.defs.get_schema(op_type, version, "")
        except onnx.defs.SchemaError:
            break
        steps.append(schema)
        version = schema.since_version - 1
    return steps


def _signature(schema: OpSchema) -> tuple[object, ...]:
    """All but the element types."""
    attributes = {
        name: (attribute.type, attribute.default_value.SerializeToString(), attribute.required)
        for name, attribute in schema.attributes.items()
    }
    ends = [[(end.name, end.option) for end in side] for side in (schema.inputs, schema.outputs)]
    return (*ends, attributes, schema.min_input, schema.max_input, schema.min_output, schema.max_output)


def _drop_defaults(node: ir.Node, newer: OpSchema, older: OpSchema) -> None:
    for name in [name for name in node.attributes if name not in older.attributes]:
        default = newer.attributes[name].default_value
        stated = node.attributes[name].value
        says_nothing = name == "dilations" and set(stated) == {1}
        if not says_nothing and (not default.name or ir.serde.deserialize_attribute(default).value != stated):
            raise NoWay(f"{_named(node)} has the attribute {name}={stated}, which came with {newer.since_version}")
        del node.attributes[name]
    if len(node.inputs) > older.max_input or len(node.outputs) > older.max_output:
        raise NoWay(f"{_named(node)} has more inputs or outputs than before opset {newer.since_version}")


def _check_types(node: ir.Node, schema: OpSchema, opset: int) -> None:
    """Each element type is one that the older version takes, and the same wherever that wants it to be."""
    allowed = {each.type_param_str: set(each.allowed_type_strs) for each in schema.type_constraints}
    bound: dict[str, str] = {}
    for values, ends in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, value in enumerate(values):
            if value is None or value.dtype is None or not ends or not isinstance(value.type, ir.TensorType):
                continue
            end = ends[min(index, len(ends) - 1)]
            found = f"tensor({_type_name(value.dtype)})"
            wanted = allowed.get(end.type_str, {end.type_str})
            same = bound.setdefault(end.type_str, found) == found or not end.is_homogeneous
            if found not in wanted or not same:
                raise NoWay(f"{_named(node)} takes no {found} as {end.name} in opset {opset}")


def _type_name(dtype: ir.DataType) -> str:
    return {"FLOAT": "float", "DOUBLE": "double"}.get(dtype.name, dtype.name.lower())


def _named(node: ir.Node) -> str:
    place = layer_of(node) or node.name
    return f"{node.op_type} ({place})" if place else node.op_type
