"""One rule per operator: how the units of its inputs and outputs hang together, and how its parameters follow."""

from bnfold.folding.relations import affine, layout, linear, maximum, norms, pointwise, pooling, selection, sequence
from bnfold.folding.relations.registry import RULES, Kind, Parameters, Rewrite, Rule

__all__ = [
    "RULES",
    "Kind",
    "Parameters",
    "Rewrite",
    "Rule",
    "affine",
    "layout",
    "linear",
    "maximum",
    "norms",
    "pointwise",
    "pooling",
    "selection",
    "sequence",
]
