"""Counts of an ONNX graph: nodes, BatchNorms, multiply-adds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx
import onnx.shape_inference

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.records import GraphFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bnfold.graph.costs import Shapes

__all__ = ["all_graphs", "count_batchnorms", "count_macs", "count_nodes", "graph_facts"]

GraphLike = onnx.GraphProto | onnx.FunctionProto

_SMALL = 1024  # elements; larger constants are no shapes, and shape inference needs only their sizes


def graph_facts(before: onnx.ModelProto, after: onnx.ModelProto) -> GraphFacts:
    """Compare the graph before folding with the finished file."""
    return GraphFacts(
        nodes_before=count_nodes(before),
        nodes_after=count_nodes(after),
        batchnorm_after=count_batchnorms(after),
        macs_before=count_macs(before),
        macs_after=count_macs(after),
    )


def all_graphs(proto: onnx.ModelProto) -> Iterator[GraphLike]:
    """The graph, its subgraphs at every depth, and the functions of the model."""
    pending: list[GraphLike] = [proto.graph, *proto.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += [attribute.g] if attribute.HasField("g") else []
                pending += attribute.graphs


def count_nodes(proto: onnx.ModelProto) -> int:
    """Nodes, those of subgraphs and functions included."""
    return sum(len(graph.node) for graph in all_graphs(proto))


def count_batchnorms(proto: onnx.ModelProto) -> int:
    """BatchNormalization nodes of ONNX's own domain, those of subgraphs and functions included."""
    nodes = (node for graph in all_graphs(proto) for node in graph.node)
    return sum(kind_of(node) == op.BatchNormalization for node in nodes)


def count_macs(proto: onnx.ModelProto) -> int | None:
    """Multiply-adds of Conv, ConvTranspose, Gemm and MatMul at batch 1 (at its own batch where that is fixed).

    None where a shape is unknown, or where such an operator lies in a subgraph or a function.
    """
    if any(_counter(node) for graph in list(all_graphs(proto))[1:] for node in graph.node):
        return None
    shapes = _shapes(proto)
    total = 0
    for node in proto.graph.node:
        macs = _counter(node)
        try:
            total += macs(node, shapes) if macs else 0
        except KeyError:  # the shape of an input or output is unknown
            return None
    return total


def _counter(node: onnx.NodeProto) -> Callable[[onnx.NodeProto, Shapes], int] | None:
    """What counts the multiply-adds of a node; None for an operator that has none, or is not counted."""
    cost = kind_of(node).cost
    return None if cost is None else cost.macs


def _shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes that the exporter stated and ONNX's shape inference finds at batch 1, by value name."""
    light = _without_large_constants(proto)
    sizes = {tensor.name: tuple(tensor.dims) for tensor in light.graph.initializer}
    batch = set()
    for value in light.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in sizes and dims and not dims[0].HasField("dim_value"):
            batch.add(dims[0].dim_param)
            dims[0].dim_value = 1
    for value in (*light.graph.value_info, *light.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in batch:
                dim.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor_type = value.type.tensor_type
        if tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor_type.shape.dim):
            sizes[value.name] = tuple(dim.dim_value for dim in tensor_type.shape.dim)
    return sizes


def _without_large_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the sizes of its large initializers only."""
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import, functions=proto.functions)
    graph = light.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.value_info.extend(proto.graph.value_info)
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    return light
