"""A model of any exporter as the IR holds it: what ONNX Runtime takes and the IR does not is written in its form first.

Nodes in any order, several nodes of one name, sparse tensors, functions of another opset than the graph's, and sizes
of -1, which stand for one that is not known.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    SparseTensorProto,
    TensorProto,
    TensorShapeProto,
    helper,
    numpy_helper,
)

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.float64_values import reads
from bnfold.graph.inlined import inlined_in_one_opset

__all__ = ["read_model", "tidied"]


def read_model(proto: ModelProto) -> ir.Model:
    """The model in the IR, which shares the tensors of `proto`; `proto` is not changed.

    Raises:
        InputRefused: the IR cannot hold it.
    """
    try:
        return ir.serde.deserialize_model(tidied(proto))
    except (ir.serde.SerdeError, ValueError, TypeError, NotImplementedError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputRefused(
            "the graph cannot be read", found=" ".join(f"{type(cause).__name__}: {cause}".split())[:300],
            remedy="export it again; `onnx.checker.check_model(model, full_check=True)` may say more",
        ) from error  # fmt: skip


def tidied(proto: ModelProto) -> ModelProto:
    """The same model, or a copy: nodes sorted and named apart, tensors dense, functions inlined, unknown sizes open.

    Nodes that read each other in a circle stay as they are.
    """
    proto = inlined_in_one_opset(proto)
    if not any(_is_untidy(graph) for graph in _graphs(proto.graph)):
        return proto
    copy = ModelProto()
    copy.CopyFrom(proto)
    for graph in _graphs(copy.graph):
        _sort(graph)
        _make_dense(graph)
        _name_apart(graph)
        for size in _negative_sizes(graph):
            size.Clear()
    return copy


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.type == AttributeProto.GRAPH else []), *attribute.graphs):
                yield from _graphs(inner)


def _is_untidy(graph: GraphProto) -> bool:
    is_odd = bool(graph.sparse_initializer or _sparse_constants(graph) or [*_negative_sizes(graph)])
    return is_odd or _order(graph) is not None or max(_counts(graph).values(), default=1) > 1


def _order(graph: GraphProto) -> list[int] | None:
    """The nodes, each behind those that it reads and else as they stand; None if they stand so, or in a circle."""
    writers = {name: k for k, node in enumerate(graph.node) for name in node.output if name}
    read = [{writers[name] for name in reads(node) if name in writers} for node in graph.node]
    if all(writer < k for k, before in enumerate(read) for writer in before):
        return None
    readers: list[list[int]] = [[] for _ in read]
    for k, before in enumerate(read):
        for writer in before:
            readers[writer].append(k)
    waits, order = [len(before) for before in read], []
    ready = [k for k, count in enumerate(waits) if count == 0]
    while ready:
        order.append(heapq.heappop(ready))
        for k in readers[order[-1]]:
            waits[k] -= 1
            if waits[k] == 0:
                heapq.heappush(ready, k)
    return order if len(order) == len(read) else None


def _sort(graph: GraphProto) -> None:
    order = _order(graph)
    if order is not None:
        nodes = GraphProto(node=[graph.node[k] for k in order]).node
        del graph.node[:]
        graph.node.extend(nodes)


def _sparse_constants(graph: GraphProto) -> list[AttributeProto]:
    return [
        attribute
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == op.Constant and attribute.name == "sparse_value"
    ]


def _make_dense(graph: GraphProto) -> None:
    graph.initializer.extend(_dense(tensor) for tensor in graph.sparse_initializer)
    del graph.sparse_initializer[:]
    for attribute in _sparse_constants(graph):
        attribute.CopyFrom(helper.make_attribute("value", _dense(attribute.sparse_tensor)))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    """Indices are those of the flat tensor, or one row of them per value: https://onnx.ai/onnx/repo-docs/IR.html."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        array.reshape(-1)[indices] = values
    else:
        array[tuple(indices.T)] = values
    return numpy_helper.from_array(array, sparse.values.name)


def _negative_sizes(graph: GraphProto) -> Iterator[TensorShapeProto.Dimension]:
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield from (size for size in value.type.tensor_type.shape.dim if size.dim_value < 0)


def _counts(graph: GraphProto) -> Counter[str]:
    return Counter(node.name for node in graph.node if node.name)


def _name_apart(graph: GraphProto) -> None:
    """Nodes of one name get numbers, as the ledger writes them: `bn`, `bn#2`."""
    used, seen = set(_counts(graph)), Counter[str]()
    for node in graph.node:
        seen[node.name] += 1
        count = seen[node.name]
        if not node.name or count == 1:
            continue
        while (unique := f"{node.name}#{count}") in used:
            count += 1
        node.name = unique
        used.add(unique)
