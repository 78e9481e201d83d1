"""A model without functions of its own: their bodies stand where they were called. Nothing else inlines.

A network is inlined where it is folded, canonicalised or lowered, as the IR holds it (`inline_functions`); a file where
it is evaluated, as it was written (`inlined`). What only measures or runs a file leaves it as it is.
"""

from __future__ import annotations

import onnx
import onnx.inliner
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnx import helper

from bnfold.errors import InputRefused

__all__ = ["inline_functions", "inlined", "inlined_in_one_opset"]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined; the very same one where it has none."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def inlined_in_one_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined if one is written in another opset than the graph; else the very same one.

    Raises:
        InputRefused: such a function cannot be converted.
    """
    if not _mixes_opsets(model):
        return model
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    for tensor in model.graph.initializer:  # the converter asks for the types of what it meets
        typed.graph.value_info.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        return onnx.inliner.inline_local_functions(typed, convert_version=True)
    except (RuntimeError, ValueError) as error:
        raise InputRefused(
            "functions of the model are written in another opset than its graph, and cannot be converted",
            found=" ".join(str(error).split())[:200],
            remedy="export it again with one opset",
        ) from error


def inline_functions(model: ir.Model) -> None:
    """Write the functions of a model where they are called, in place: rules read operators of ONNX."""
    if model.functions:
        passes.InlinePass()(model)


def _mixes_opsets(model: onnx.ModelProto) -> bool:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    return any(
        versions.get(entry.domain, entry.version) != entry.version
        for function in model.functions
        for entry in function.opset_import
    )
