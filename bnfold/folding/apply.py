"""Write the chosen units into a graph: new parameters first, all computed, then the vanished sites go."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from bnfold.folding.choose import Choice
from bnfold.folding.gauge import Gauge
from bnfold.folding.provenance import change_units, forget, forget_without_bias, stand_for, take_over
from bnfold.folding.relations import RULES, Parameters, Rewrite
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure, attempted
from bnfold.graph.constants import float64_constant, is_only_use, store_constant
from bnfold.graph.edit import bypass
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.graph.scaled import Scaled
from bnfold.numerics.affine import Float64

__all__ = ["apply_choice", "parameter_type", "plan_parameters"]


def plan_parameters(graph: ir.Graph, choice: Choice) -> tuple[dict[ir.Node, Rewrite], dict[ir.Node, Failure]]:
    """The new parameters of every node whose neighbourhood changes units, in float64; nothing is changed yet.

    Returns:
        The parameters, and the nodes whose rule failed: in these units the graph cannot be written.
    """
    failed: dict[ir.Node, Failure] = {}
    gone = {site.node for site in choice.vanished}
    plan: dict[ir.Node, Rewrite] = {}
    for node in graph:
        rule = RULES.get(kind_of(node))
        if rule is None or rule.rewrite is None or node in gone or not _touched(node, choice.gauge):
            continue
        compute = functools.partial(rule.rewrite, node, choice.gauge)
        rewrite = attempted(f"the rule for {node.op_type}", f"`{layer_name(node)}`", compute)
        if isinstance(rewrite, Failure):
            failed[node] = rewrite
        elif rewrite is not None:
            plan[node] = rewrite
    for node, bias in [(node, rewrite.bias) for node, rewrite in plan.items() if rewrite.bias is not None]:
        _give_bias_away(node, bias, gone, plan)
    return plan, failed


def _give_bias_away(node: ir.Node, bias: Float64, gone: set[ir.Node], plan: dict[ir.Node, Rewrite]) -> None:
    """A MatMul whose one reader adds a constant needs no bias of its own: the constant takes it."""
    uses = node.outputs[0].uses()
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return
    ((add, index),) = uses
    if kind_of(add) != op.Add or add in gone or add.graph is not node.graph:
        return
    held = float64_constant(add.inputs[1 - index])
    planned = plan[add].parameters.get(1 - index, held) if add in plan else held
    if planned is not None and not isinstance(planned, Scaled):
        plan[node] = Rewrite(plan[node].parameters)
        plan[add] = Rewrite({1 - index: planned + bias})


def _touched(node: ir.Node, gauge: Gauge) -> bool:
    values = [*node.inputs, *node.outputs]
    return any(value in gauge.units.ids and not gauge.trivial(value) for value in values if value is not None)


def apply_choice(graph: ir.Graph, choice: Choice, plan: dict[ir.Node, Rewrite]) -> None:
    """Store the planned parameters, not yet rounded to the type they had, and take the vanished sites out, in place."""
    change_units(choice.gauge)
    shared: dict[tuple[ir.Value, str], ir.Value] = {}
    read_often = {
        value for node, new in plan.items() for value in _replaced(node, new.parameters) if len(value.uses()) > 1
    }
    for node, new in plan.items():
        if new.bias is None:
            forget_without_bias(node, choice.gauge)
        for index, array in new.parameters.items():
            common = shared if index < len(node.inputs) and node.inputs[index] in read_often else None
            _replace_parameter(graph, node, index, array, common)
        if new.bias is not None:
            _add_bias(graph, node, new.bias)
    for site in choice.vanished:
        y = site.node.outputs[0]
        x, out = bypass(graph, site.node)
        stand_for(x, y)
        if out is not x:
            take_over(out, y)
    for site, _ in choice.refused:
        if site.deviation is not None:
            choice.gauge.units.deviations[site.node] = np.abs(choice.gauge.scale[site.x_ids]) * site.deviation


def _replaced(node: ir.Node, parameters: Parameters) -> list[ir.Value]:
    values = [node.inputs[index] for index in parameters if index < len(node.inputs)]
    return [value for value in values if value is not None]


def _fingerprint(array: np.ndarray | Scaled) -> str:
    """The same for new parameters that are the same, given that the old ones were."""
    arrays = array.factors if isinstance(array, Scaled) else (array,)
    return hashlib.sha256(b"|".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def _replace_parameter(
    graph: ir.Graph,
    node: ir.Node,
    index: int,
    array: np.ndarray | Scaled,
    shared: dict[tuple[ir.Value, str], ir.Value] | None,
) -> None:
    """Give one node its own new parameter; nodes that shared an initializer and still agree go on sharing one."""
    old = node.inputs[index] if index < len(node.inputs) else None
    dtype = parameter_type(node, index)
    name = old.name if old is not None and old.name else f"{layer_name(node)}.bias"
    key = None if old is None or shared is None else (old, _fingerprint(array))
    if shared is not None and key in shared:
        node.replace_input_with(index, shared[key])
        return
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    if old is not None and is_only_use(graph, old):
        node.replace_input_with(index, None)
        del graph.initializers[name]
        old.const_value = None  # onnx_ir's graph goes on holding a value that has left it
    value = store_constant(graph, name, array, dtype, rounded=False)
    node.replace_input_with(index, value)
    if shared is not None and key is not None:
        shared[key] = value


def parameter_type(node: ir.Node, index: int) -> ir.DataType:
    """The element type of a parameter; of one that the node has yet to get, that of its others."""
    candidates: Iterable[ir.Value | None] = (node.inputs[index] if index < len(node.inputs) else None, *node.inputs[1:])
    for value in candidates:
        if value is not None and value.const_value is not None and value.dtype is not None:
            return value.dtype
    raise ValueError(f"{node.op_type} `{layer_name(node)}` has no parameter to take the type from")


def _add_bias(graph: ir.Graph, node: ir.Node, bias: Float64) -> None:
    """Give a MatMul a bias: over two axes it becomes Gemm, else an Add follows it."""
    value = store_constant(graph, f"{layer_name(node)}.bias", bias, parameter_type(node, 1), rounded=False)
    y = node.outputs[0]
    metadata = dict(node.metadata_props)
    becomes_gemm = y.shape is not None and len(y.shape) == 2
    if becomes_gemm:
        new = ir.node(op.Gemm, [*node.inputs, value], name=node.name, metadata_props=metadata)
    else:
        new = ir.node(op.Add, [None, value], metadata_props=metadata)
    out = new.outputs[0]
    out.shape, out.type = y.shape, y.type
    graph.insert_after(node, new)
    is_output = y.is_graph_output()
    y.replace_all_uses_with(out, replace_graph_outputs=True)
    take_over(out, y)
    forget(y)
    if is_output:
        out.name, y.name = y.name, f"{y.name}_before_bias"
    if becomes_gemm:
        graph.remove(node, safe=True)
    else:
        new.replace_input_with(0, y)
