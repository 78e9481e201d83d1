"""BatchNorms and weights of an ONNX graph that no exact fold can start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.sources.healthy import first_names, refuse_bad_variance, refuse_not_finite

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import onnx_ir as ir

__all__ = ["all_nodes", "refuse_training_mode", "refuse_unhealthy_graph"]

WEIGHTED = having(Trait.LINEAR) - {op.MatMul} | {op.BatchNormalization}


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the graph, its subgraphs and its functions."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def refuse_unhealthy_graph(model: ir.Model, where: str) -> None:
    """Refuse BatchNorms in training mode or with invalid variances, and weights that are not finite.

    Raises:
        InputRefused: names the nodes.
    """
    refuse_training_mode(model, where)
    for node in all_nodes(model):
        if kind_of(node) == op.BatchNormalization:
            variance = _constant(node, 4)
            if variance is not None:
                refuse_bad_variance(_name(node), variance)
    refuse_not_finite(_finiteness(model))


def refuse_training_mode(model: ir.Model, where: str) -> None:
    """Refuse BatchNormalization nodes that use the statistics of the batch.

    From opset 14 the attribute training_mode says so, from 7 to 13 the number of outputs, before 7 is_test
    (https://onnx.ai/onnx/operators/onnx__BatchNormalization.html).

    Raises:
        InputRefused: names the first three.
    """
    opset = model.opset_imports.get("", 1)
    training = [
        _name(node)
        for node in all_nodes(model)
        if kind_of(node) == op.BatchNormalization and _in_training_mode(node, opset)
    ]
    if training:
        raise InputRefused(
            "BatchNormalization in training mode uses the statistics of the batch",
            where=where,
            found=f"training_mode=1 in {first_names(training)}",
            expected="training_mode=0",
            remedy="export the network in eval mode (model.eval() before torch.onnx.export)",
        )


def _in_training_mode(node: ir.Node, opset: int) -> bool:
    if opset >= 14:
        return node.attributes.get_int("training_mode", 0) != 0
    if opset >= 7:
        return sum(bool(output.name) for output in node.outputs) > 1
    return node.attributes.get_int("is_test", 0) == 0


def _finiteness(model: ir.Model) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Name and finiteness of every constant that a linear operator or a BatchNorm reads, each once."""
    seen: set[int] = set()
    for node in all_nodes(model):
        if kind_of(node) not in WEIGHTED:
            continue
        for index, value in enumerate(node.inputs):
            array = _constant(node, index)
            if value is None or array is None or id(value) in seen:
                continue
            seen.add(id(value))
            yield str(value.name), np.isfinite(array.astype(np.float32, copy=False))


def _constant(node: ir.Node, index: int) -> npt.NDArray[np.generic] | None:
    """The floating-point constant at an input of a node, if there is one."""
    import onnx_ir as ir

    value = node.inputs[index] if index < len(node.inputs) else None
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or not tensor.dtype.is_floating_point():
        return None
    return tensor.numpy()


def _name(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)
