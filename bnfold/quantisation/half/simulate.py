"""A float16 file as a GPU computes it, on the CPU: sums in float32, every value that is stored rounded to float16.

    y (f16) = op(x (f16))   becomes   y = Cast_f32(Cast_f16(op_f32(x)))

A value beyond 65504 is infinite then, as it is on the GPU; ONNX Runtime's CPU provider keeps such values in float32
between operators, and hides it. The simulation is a file in float32 of its own, read from the float16 file alone.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

__all__ = ["half_values", "simulated"]


def half_values(model: ModelProto) -> list[str]:
    """The names of the values that a file stores in float16, in graph order."""
    types = _types(model)
    return [name for node in model.graph.node for name in node.output if types.get(name) == TensorProto.FLOAT16]


def simulated(model: ModelProto) -> ModelProto:
    """The float32 graph that computes what a float16 file computes on a GPU; run it without optimizations.

    Args:
        model: the file, external data loaded; unchanged.
    """
    half = set(half_values(model))
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            array = numpy_helper.to_array(tensor).astype(np.float32)
            made.graph.initializer.append(numpy_helper.from_array(array, tensor.name))
        else:
            made.graph.initializer.append(tensor)
    for node in model.graph.node:
        made.graph.node.extend(_rounded(node, half))
    return made


def _rounded(node: NodeProto, half: set[str]) -> list[NodeProto]:
    """The node in float32, and behind it what rounds its outputs."""
    own = NodeProto()
    own.CopyFrom(node)
    if kind_of(node) == op.Cast:
        for attribute in own.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
    behind = []
    for index, name in enumerate(node.output):
        if name in half:
            own.output[index] = f"{name}/exact"
            behind += [
                helper.make_node(op.Cast, [f"{name}/exact"], [f"{name}/stored"], to=TensorProto.FLOAT16),
                helper.make_node(op.Cast, [f"{name}/stored"], [name], to=TensorProto.FLOAT),
            ]
    return [own, *behind]


def _types(model: ModelProto) -> dict[str, int]:
    """The element type of every value by name, as ONNX infers it."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=False)
    infos = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    return {info.name: info.type.tensor_type.elem_type for info in infos}
