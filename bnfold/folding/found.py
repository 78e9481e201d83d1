"""The BatchNorms of the source, each under a name of its own."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bnfold.graph.outline import batchnorm_names

__all__ = ["Found", "find_batchnorms"]


@dataclass(frozen=True)
class Found:
    """A BatchNorm of the source, under a name that no other has."""

    node: ir.Node
    name: str


def find_batchnorms(model: ir.Model) -> tuple[Found, ...]:
    """Every BatchNormalization node, those in subgraphs included, in the graph's order. One used twice is two."""
    return tuple(Found(node, name) for node, name in batchnorm_names(model).items())
