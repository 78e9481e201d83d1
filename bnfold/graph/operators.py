"""Which operator a node is: names mean something in their own domain only."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["kind_of"]

_ONNX = frozenset({"", "ai.onnx"})


def kind_of(node: ir.Node) -> str:
    """`Conv` for an operator of ONNX itself, else its domain too: `com.example::Conv`, which no rule knows."""
    return node.op_type if node.domain in _ONNX else f"{node.domain}::{node.op_type}"
