"""The fold of a workflow, and whether its file has as many BatchNorms as the ledger says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from bnfold.records import Ledger, NetworkFacts

__all__ = ["check_file", "drawn", "fold_accounted"]


def fold_accounted(
    model: ir.Model, *, provider: str = "cpu", pixels: str | None = None, bytes_read: bool = False, **rewrites: Any
) -> Ledger:
    """Fold a model in place; its ledger has one entry for each BatchNormalization node, or decomposed one, there was.

    Args:
        model: the model to fold.
        provider: what the file is made for, which decides in what blocks dead channels leave.
        pixels: the input whose preprocessing is to go into the weights; None for none.
        bytes_read: whether convolutions are to read its bytes, whatever a channel of ones costs.
        rewrites: which ones to do, by the names that `bnfold.folding.fold_model` has for them.

    Raises:
        onnx_ir.passes.InvariantError: the sums do not come out; a fault of the fold core.
    """
    from bnfold.folding import CHANNEL_BLOCK, fold_model
    from bnfold.runtime import provider_spec

    spec = provider_spec(provider)
    limits = {
        "channel_block": spec.channel_block or CHANNEL_BLOCK,
        "ones_limit": None if bytes_read else spec.ones_limit,
    }
    return fold_model(model, pixels=pixels, **{**limits, **rewrites})


def check_file(ledger: Ledger, *, n_left: int) -> None:
    """Compare the BatchNormalization nodes left in the finished file with the ledger.

    Raises:
        RuntimeError: the file has more of them than the ledger says were kept; a fault of the program.
    """
    if n_left > ledger.kept:
        raise RuntimeError(f"the file has {n_left} BatchNorms, the ledger kept {ledger.kept}")


def drawn(before: onnx.ModelProto, after: onnx.ModelProto) -> NetworkFacts:
    """The nodes of a graph as it was and as its file has it."""
    import onnx_ir as ir

    from bnfold.graph.outline import outline
    from bnfold.records import NetworkFacts

    return NetworkFacts(outline(ir.from_proto(before), is_source=True), outline(ir.from_proto(after), is_source=False))
