"""Which rule speaks for which operator.

A rule relates the units around one node (`relate`) and, where the node has parameters, recomputes them in the chosen
units (`rewrite`, pure NumPy). Kinds: `carry` rearranges elements, `linear` reads channels through weights, `affine` may
vanish, `other` restricts units. Where a node is of another kind than its operator's rule, the
relation returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.folding.gauge import Gauge
from bnfold.folding.units import Refusal, Units
from bnfold.graph.scaled import Scaled
from bnfold.records.causes import Cause

__all__ = ["RULES", "Kind", "Parameters", "Rewrite", "Rule", "relation", "rewrites"]

Kind = Literal["carry", "linear", "affine", "other"]
Relate = Callable[[ir.Node, Units], Refusal | Kind | None]
_Related = TypeVar("_Related", bound=Relate)
# New parameters by input index.
Parameters = Mapping[int, NDArray[np.float64] | Scaled]


@dataclass(frozen=True)
class Rewrite:
    """A node in new units.

    Attributes:
        parameters: by the input that takes each.
        bias: an offset of y along its last axis, shape (N,), of an operator that has no input for one (MatMul).
    """

    parameters: Parameters
    bias: NDArray[np.float64] | None = None


# None: this node has no parameters (an Add of two tensors).
Rewriting = Callable[[ir.Node, Gauge], Rewrite | None]


@dataclass
class Rule:
    """The relation of an operator, and how its parameters follow."""

    relate: Relate
    kind: Kind
    rewrite: Rewriting | None = None


RULES: dict[str, Rule] = {}


def relation(*op_types: str, kind: Kind) -> Callable[[_Related], _Related]:
    """Register a relation for operators of the default ONNX domain.

    Raises:
        ValueError: an operator has one already: which of two holds would depend on the order of imports.
    """

    def register(function: _Related) -> _Related:
        for op_type in op_types:
            if op_type in RULES:
                raise ValueError(f"{op_type} must have one relation, got a second one, {function.__name__}")
            RULES[op_type] = Rule(function, kind)
        return function

    return register


def rewrites(*op_types: str) -> Callable[[Rewriting], Rewriting]:
    """Register the rewrite of operators that have a relation.

    Raises:
        ValueError: an operator has a rewrite already, or no relation.
    """

    def register(function: Rewriting) -> Rewriting:
        for op_type in op_types:
            if op_type not in RULES or RULES[op_type].rewrite is not None:
                raise ValueError(f"{op_type} must have a relation and no other rewrite than {function.__name__}")
            RULES[op_type].rewrite = function
        return function

    return register


def unhandled_attributes(node: ir.Node, known: Mapping[str, Any]) -> Refusal | None:
    """A refusal if the node has an attribute outside `known`, or one whose value differs from a required one."""
    for name, attr in node.attributes.items():
        if name not in known:
            return Refusal(Cause.NO_RULE, "attribute", name)
        required = known[name]
        if required is not None and attr.value != required:
            return Refusal(Cause.NO_RULE, "attribute value", f"{name}={attr.value}")
    return None
