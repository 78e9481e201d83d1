"""The sums that have to come out: every BatchNorm of the source is in the ledger, none in the file is unaccounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from bnfold.records import Ledger

__all__ = ["check_file", "fold_accounted"]


def fold_accounted(model: ir.Model, *, provider: str = "cpu", pixels: str | None = None, **rewrites: bool) -> Ledger:
    """Fold a model in place; its ledger has one entry for each BatchNormalization node, or one in parts, there was.

    Args:
        model: the model to fold.
        provider: what the file is made for, which decides in what blocks dead channels leave.
        pixels: the input whose preprocessing is to go into the weights; None for none.
        rewrites: which ones to do, by the names that `bnfold.folding.fold_model` has for them.

    Raises:
        RuntimeError: the counts differ, or a kept entry has no cause; a fault of the fold core.
    """
    import onnx_ir.passes.common as passes

    from bnfold.folding import CHANNEL_BLOCK, fold_model
    from bnfold.folding.compose import compose_batchnorms
    from bnfold.runtime import provider_spec

    if model.functions:
        passes.InlinePass()(model)  # a function called twice holds two BatchNorms
    compose_batchnorms(model)  # one in parts is one
    n_before = _count_batchnorms(model)
    block = provider_spec(provider).channel_block or CHANNEL_BLOCK
    ledger = fold_model(model, channel_block=block, pixels=pixels, **rewrites)
    n_ended = ledger.absorbed + ledger.merged + ledger.removed + ledger.kept
    if ledger.found != n_before or n_ended != n_before:
        raise RuntimeError(f"the graph had {n_before} BatchNorms, the ledger has {ledger.found}, {n_ended} with an end")
    unexplained = [entry.name for entry in ledger.entries if entry.outcome == "kept" and not entry.cause]
    if unexplained:
        raise RuntimeError(f"kept without a cause: {', '.join(unexplained)}")
    return ledger


def check_file(ledger: Ledger, *, n_left: int) -> None:
    """Compare the BatchNormalization nodes left in the finished file with the ledger.

    Raises:
        RuntimeError: the file has more of them than the ledger says were kept; a fault of the program.
    """
    if n_left > ledger.kept:
        raise RuntimeError(f"the file has {n_left} BatchNorms, the ledger kept {ledger.kept}")


def _count_batchnorms(model: ir.Model) -> int:
    """How many BatchNormalization nodes (ai.onnx) a model without functions has, subgraphs included."""
    return sum(kind_of(node) == op.BatchNormalization for node in model.graph.all_nodes())
