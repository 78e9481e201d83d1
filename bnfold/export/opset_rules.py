"""How single operators are written in the opset before the one that changed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RULES", "NoWay"]


class NoWay(Exception):  # noqa: N818 - caught where the source's name is known
    """An operator that the older opset cannot express, in words."""


def _axes_to_attribute(node: ir.Node) -> None:
    """`Reduce(x, axes, noop_with_empty_axes)`, `Squeeze(x, axes)`: the axes become an attribute.

    No axes mean all of them in both, but for `noop_with_empty_axes=1`.
    """
    axes = _constant(node, 1, "axes")
    noop = node.attributes.pop("noop_with_empty_axes", None)
    if noop is not None and noop.as_int() and (axes is None or not axes.size):
        raise NoWay(f"{_called(node)} reduces nothing (noop_with_empty_axes)")
    if axes is not None and axes.size:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes.tolist())
    node.resize_inputs(1)


def _split_to_attribute(node: ir.Node) -> None:
    """`Split(x, split)` of 13: the sizes become an attribute; without any both split evenly."""
    sizes = _constant(node, 1, "sizes")
    if sizes is not None:
        node.attributes["split"] = ir.AttrInt64s("split", sizes.tolist())
    node.resize_inputs(1)


def _split_without_count(node: ir.Node) -> None:
    """`Split(x, num_outputs=n)` of 18 takes ceil(size / n) each, and less for the last: written as sizes."""
    if node.attributes.pop("num_outputs", None) is None:
        return
    axis = node.attributes.get_int("axis", 0)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    size = None if shape is None else shape[axis]
    if not isinstance(size, int):
        raise NoWay(f"{_called(node)} splits an axis of unknown size")
    n = len(node.outputs)
    each = -(-size // n)
    sizes = np.array([each] * (n - 1) + [size - each * (n - 1)], np.int64)
    node.resize_inputs(2)
    node.replace_input_with(1, _initializer(node, sizes, "sizes"))


def _last_axis_only(node: ir.Node) -> None:
    """`Softmax(axis)` of 13 works along an axis, the older one on all from there on: equal for the last."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        raise NoWay(f"{_called(node)} has an input of unknown rank")
    rank = len(shape)
    if node.attributes.get_int("axis", -1) % rank != rank - 1:
        raise NoWay(f"{_called(node)} is not along the last axis")
    node.attributes["axis"] = ir.AttrInt64("axis", rank - 1)


def _no_axes_input(node: ir.Node) -> None:
    """`Pad(x, pads, value, axes)` of 18: without axes the same."""
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        raise NoWay(f"{_called(node)} names axes")
    node.resize_inputs(min(len(node.inputs), 3))


def _no_wrap(node: ir.Node) -> None:
    """`Pad(mode="wrap")` came with 19."""
    if node.attributes.get_string("mode", "constant") == "wrap":
        raise NoWay(f"{_called(node)} wraps around")


def _no_symmetric(node: ir.Node) -> None:
    """`Resize(coordinate_transformation_mode="half_pixel_symmetric")` came with 19."""
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric":
        raise NoWay(f"{_called(node)} is half_pixel_symmetric")


def _all_resize_inputs(node: ir.Node) -> None:
    """`Resize(x, roi, scales, sizes)`: before 13 neither roi nor scales could be left out, only be empty."""
    empty = np.array([], np.float32)
    node.resize_inputs(max(len(node.inputs), 3))
    for index, name in ((1, "roi"), (2, "scales")):
        if node.inputs[index] is None:
            node.replace_input_with(index, _initializer(node, empty, name))


def _old_modes(node: ir.Node) -> None:
    """`GridSample` of 20 says linear and cubic, of 16 bilinear and bicubic, which are of images only."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or len(shape) != 4:
        raise NoWay(f"{_called(node)} is not known to be of images")
    mode = node.attributes.get_string("mode", "linear")
    node.attributes["mode"] = ir.AttrString("mode", {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode))


def _one_scale(node: ir.Node) -> None:
    """`QuantizeLinear(x, scale, axis)`: before 13 there was one scale for all channels."""
    scale = node.inputs[1]
    if scale is None or scale.shape is None or len(scale.shape) > 0:
        raise NoWay(f"{_called(node)} has scales by channel")
    node.attributes.pop("axis", None)


def _zero_is_no_size(node: ir.Node) -> None:
    """`Reshape(x, shape, allowzero=1)` of 14: a 0 is a size, and before it stands for that of x.

    The same for every shape without zeros: a constant one shows it, a computed one has none unless the tensor is empty.
    """
    allows = node.attributes.pop("allowzero", None)
    shape = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
    if allows is not None and allows.as_int() and shape is not None and 0 in shape.numpy():
        raise NoWay(f"{_called(node)} makes an empty tensor (allowzero)")


def _constant_tensor(node: ir.Node) -> None:
    """`Constant(value_ints=...)` and the like of 12 as a tensor."""
    if "value" in node.attributes:
        return
    tensor = ir.convenience.get_const_tensor(node.outputs[0])
    if tensor is None:
        raise NoWay(f"{_called(node)} is sparse")
    node.attributes.clear()
    node.attributes["value"] = ir.AttrTensor("value", ir.tensor(tensor.numpy(), name=tensor.name))


def _shape_and_slice(node: ir.Node) -> None:
    """`Shape(x, start, end)` of 15 is `Slice(Shape(x), start, end)`."""
    start, end = node.attributes.pop("start", None), node.attributes.pop("end", None)
    if start is None and end is None:
        return
    last = np.iinfo(np.int64).max if end is None else end.as_int()
    bounds = [np.array([0 if start is None else start.as_int()], np.int64), np.array([last], np.int64)]
    whole = ir.node(op.Shape, [node.inputs[0]], name=f"{node.name}/whole")
    ends = [_initializer(node, each, what) for each, what in zip(bounds, ("start", "end"), strict=True)]
    _replace(node, whole, ir.node(op.Slice, [whole.outputs[0], *ends], name=node.name))


def _decomposed_hard_swish(node: ir.Node) -> None:
    """`HardSwish(x) = x HardSigmoid(x, alpha=1/6, beta=1/2)`, as ONNX defines it."""
    gate = ir.node(op.HardSigmoid, [node.inputs[0]], {"alpha": 1 / 6, "beta": 0.5}, name=f"{node.name}/HardSigmoid")
    gate.outputs[0].shape, gate.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
    _replace(node, gate, ir.node(op.Mul, [node.inputs[0], gate.outputs[0]], name=node.name))


def _replace(node: ir.Node, first: ir.Node, last: ir.Node) -> None:
    """Put two nodes in the place of one; both are old enough for opset 11."""
    old, new = node.outputs[0], last.outputs[0]
    first.outputs[0].name = f"{old.name}/part"
    new.shape, new.type = old.shape, old.type
    for made in (first, last):
        made.metadata_props.update(node.metadata_props)
    if node.graph is None:
        raise RuntimeError(f"{_called(node)} is in no graph")
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [first, last], [old], [new])


_REDUCTIONS = (
    op.ReduceL1, op.ReduceL2, op.ReduceLogSum, op.ReduceLogSumExp, op.ReduceMax, op.ReduceMean, op.ReduceMin,
    op.ReduceProd, op.ReduceSumSquare,
)  # fmt: skip

RULES: dict[tuple[str, int], Callable[[ir.Node], None]] = {
    **{(name, 18): _axes_to_attribute for name in _REDUCTIONS},
    **{(name, 13): _axes_to_attribute for name in (op.ReduceSum, op.Squeeze, op.Unsqueeze)},
    **{(name, 13): _last_axis_only for name in (op.Softmax, op.LogSoftmax, op.Hardmax)},
    **{(name, 13): _one_scale for name in (op.QuantizeLinear, op.DequantizeLinear)},
    (op.Split, 18): _split_without_count,
    (op.Split, 13): _split_to_attribute,
    (op.Pad, 19): _no_wrap,
    (op.Pad, 18): _no_axes_input,
    (op.Resize, 19): _no_symmetric,
    (op.Resize, 13): _all_resize_inputs,
    (op.GridSample, 20): _old_modes,
    (op.HardSwish, 14): _decomposed_hard_swish,
    (op.Constant, 12): _constant_tensor,
    (op.Reshape, 14): _zero_is_no_size,
    (op.Shape, 15): _shape_and_slice,
}
"""(operator, the opset that changed it) -> its way back, which raises `NoWay` where there is none."""


def _constant(node: ir.Node, index: int, what: str) -> np.ndarray | None:
    """A constant integer input, None where it is left out."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or (value.is_graph_input()):
        raise NoWay(f"{_called(node)} takes {what} that are no constant")
    return np.asarray(tensor.numpy())


def _initializer(node: ir.Node, array: np.ndarray, what: str) -> ir.Value:
    if node.graph is None:
        raise RuntimeError(f"{_called(node)} is in no graph")
    name = f"{node.outputs[0].name}/{what}"
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(array, name=name),
    )  # fmt: skip
    node.graph.register_initializer(value)
    return value


def _called(node: ir.Node) -> str:
    return f"{node.op_type} ({node.name})" if node.name else node.op_type
