"""Plans: which layers stay float because integers are slower there, and files that hold them.

Kernels in integers are not faster everywhere: on a CPU a depthwise convolution may lose what a dense one gains, and
every border between integers and float costs a pass over memory. Which plan is fastest is measured on the target, once,
and a file of it makes the same bytes again elsewhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir
from scipy.cluster.hierarchy import DisjointSet

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant
from bnfold.graph.operators import kind_of
from bnfold.quantisation.cheapest import float_by_cost
from bnfold.quantisation.operators import WEIGHTED, is_depthwise, reads_one_position
from bnfold.quantisation.placement import integer_inputs, place

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.records.recipes import Target

__all__ = ["PLAN_SCHEMA", "candidate_plans", "multiply_adds", "plan_text", "read_plan", "regions"]

PLAN_SCHEMA = "bnfold.quantize-plan/1"
MOST_REGIONS = 3  # that are tried alone


def candidate_plans(graph: ir.Graph, target: Target) -> dict[str, tuple[str, ...]]:
    """Plans worth trying, by name: the nodes that stay float. The first leaves nothing float; no two are the same.

    Args:
        graph: prepared, float.
        target: whose costs count.
    """
    layers = [node for node in graph if kind_of(node) in WEIGHTED and constant(node.inputs[1]) is not None]
    choices: dict[str, Callable[[ir.Node], bool]] = {
        "all": lambda _: True,
        "without depthwise": lambda node: not is_depthwise(node),
        "without grouped": lambda node: attribute(node, "group", 1) == 1,
        "1x1 only": lambda node: math.prod(_kernel(node)) == 1,
        "dense spatial only": lambda node: math.prod(_kernel(node)) > 1 and attribute(node, "group", 1) == 1,
        "without gates": lambda node: not reads_one_position(node),
        "1x1 without gates": lambda node: math.prod(_kernel(node)) == 1 and not reads_one_position(node),
    }
    own = [str(node.name) for node in layers]
    plans = {name: tuple(str(node.name) for node in layers if not holds(node)) for name, holds in choices.items()}
    plans["by cost"] = float_by_cost(graph, target)
    for region in regions(graph)[:MOST_REGIONS]:
        first = next(name for name in own if name in region)
        plans[f"single region from {first}"] = tuple(name for name in own if name not in region)
    found: dict[str, tuple[str, ...]] = {}
    for name, kept in plans.items():
        if kept not in found.values() and len(kept) < len(layers):
            found[name] = kept
    return found


def regions(graph: ir.Graph) -> list[frozenset[str]]:
    """The layers with weights that integers connect, where all that can be is in integers; most multiply-adds first.

    Args:
        graph: prepared, float.
    """
    chosen = place(graph).nodes
    parts = DisjointSet(chosen)
    writer = {plan.output: name for name, plan in chosen.items()}
    for node in graph:
        if str(node.name) in chosen:
            for value in integer_inputs(node):
                if str(value.name) in writer:
                    parts.merge(str(node.name), writer[str(value.name)])
    counts = multiply_adds(graph)
    layers = {name for name, plan in chosen.items() if plan.op in WEIGHTED}
    found = [frozenset(part & layers) for part in parts.subsets() if part & layers]
    order = {name: k for k, name in enumerate(chosen)}
    work = {part: sum(counts.get(name, 0) for name in part) for part in found}
    return sorted(found, key=lambda part: (-work[part], min(order[name] for name in part)))


def multiply_adds(graph: ir.Graph) -> dict[str, int]:
    """Multiply-adds of one sample by the name of the node, for layers whose output sizes are known."""
    found = {}
    for node in graph:
        weight = constant(node.inputs[1]) if kind_of(node) in WEIGHTED else None
        shape = node.outputs[0].shape
        if weight is None or shape is None or not all(isinstance(size, int) for size in list(shape)[1:]):
            continue
        sizes = [size for size in list(shape)[1:] if isinstance(size, int)]
        per_output = math.prod(weight.shape[1:]) if kind_of(node) == op.Conv else weight.size // sizes[-1]
        found[str(node.name)] = math.prod(sizes) * per_output
    return found


def plan_text(kept: Sequence[str], target: str) -> str:
    """A plan as a file holds it."""
    return json.dumps({"schema": PLAN_SCHEMA, "target": target, "float": list(kept)}, indent=2) + "\n"


def read_plan(path: Path, graph: ir.Graph) -> tuple[str, ...]:
    """The nodes that stay float by a plan's file.

    Raises:
        InputRefused: it is no plan, or one of another network.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputRefused(
            "the plan cannot be read", where=str(path), found=str(error)[:200],
            remedy="give the plan.json that bnfold quantize --measure wrote",
        ) from error  # fmt: skip
    if not isinstance(found, Mapping) or found.get("schema") != PLAN_SCHEMA or not isinstance(found.get("float"), list):
        raise InputRefused(
            "the file is not a plan of bnfold quantize", where=str(path), expected=f"schema {PLAN_SCHEMA}",
            remedy="give the plan.json that bnfold quantize --measure wrote",
        )  # fmt: skip
    kept = tuple(str(name) for name in found["float"])
    missing = set(kept) - {str(node.name) for node in graph}
    if missing:
        raise InputRefused(
            "the plan is one of another network", where=str(path), found=", ".join(sorted(missing)[:3]),
            expected="names of its nodes", remedy="measure it again with --measure",
        )  # fmt: skip
    return kept


def _kernel(node: ir.Node) -> tuple[int, ...]:
    weight = constant(node.inputs[1])
    return tuple(weight.shape[2:]) if weight is not None and kind_of(node) == op.Conv else ()
