"""The account of every BatchNorm of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnfold.folding.found import Found
from bnfold.folding.units import Refusal
from bnfold.numerics.affine import BatchNormParameters
from bnfold.records import Ledger, LedgerEntry, Outcome
from bnfold.records.causes import Stays

__all__ = ["Fate", "account"]


@dataclass(frozen=True)
class Fate:
    """What the fold did with a node: `into` names the operators that took it, `stays` is why it did not vanish."""

    outcome: Outcome
    into: tuple[str, ...] = ()
    stays: Stays | None = None


def account(
    found: tuple[Found, ...], facts: Mapping[ir.Node, BatchNormParameters | Refusal], fates: Mapping[ir.Node, Fate]
) -> Ledger:
    """One entry per BatchNorm, `facts` being its parameters in the source.

    One without a fate was taken out with what nobody reads.

    Raises:
        RuntimeError: one that is still there has no fate; a fault of the fold.
    """
    entries = []
    for item in found:
        parameters = facts[item.node]
        fate = fates.get(item.node)
        if item.node.graph is None and (fate is None or fate.outcome == "kept"):
            fate = Fate("removed")
        elif fate is None:
            raise RuntimeError(f"the fold left BatchNorm {item.name} without a fate")
        entries.append(_entry(item.name, fate, parameters))
    return Ledger(tuple(entries))


def _entry(name: str, fate: Fate, parameters: BatchNormParameters | Refusal) -> LedgerEntry:
    if isinstance(parameters, Refusal):
        return LedgerEntry(name, fate.outcome, fate.into, fate.stays, np.nan, np.nan, 0)
    mean, variance, epsilon = parameters.mean, parameters.variance, parameters.epsilon
    scale, _ = parameters.affine()
    ratio = float(variance.min(initial=np.inf) / epsilon) if epsilon else np.inf
    dead = int(np.sum(scale == 0))
    fresh = not mean.any() and bool((variance == 1).all())
    return LedgerEntry(
        name, fate.outcome, fate.into, fate.stays, float(np.abs(scale).max(initial=0.0)), ratio, dead, fresh
    )
