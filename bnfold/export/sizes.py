"""How large a model is, and the limit of the file format."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

__all__ = ["PROTOBUF_LIMIT", "fits_protobuf", "proto_fits"]

PROTOBUF_LIMIT = 2**31 - 2**24  # bytes; 2 GiB is protobuf's limit, 16 MiB are left for nodes and names


def fits_protobuf(model: ir.Model) -> bool:
    """Whether the model can be one protobuf message of less than 2 GiB."""
    tensors = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    return sum(tensor.nbytes for tensor in tensors if tensor is not None) < PROTOBUF_LIMIT


def proto_fits(proto: onnx.ModelProto) -> bool:
    """Whether the message can be serialized; `ByteSize` itself fails beyond the limit."""
    return sum(len(tensor.raw_data) for tensor in proto.graph.initializer) < PROTOBUF_LIMIT
