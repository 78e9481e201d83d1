"""The fold core: BatchNorms vanish into the weights around them.

`fold_model` works in place on an `onnx_ir` model, `fold` on an `onnx.ModelProto`; `FoldPass` is the same as a pass of
`onnx_ir`. Stages: decomposed BatchNorms put together, canonical form (constants computed), linear branches merged,
relations between the units of all tensors, choice of units, new parameters, ledger, dead channels.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.folding.blocks import CHANNEL_BLOCK
from bnfold.folding.fold_pass import FoldOptions, FoldPass
from bnfold.graph.claims import settle_claims
from bnfold.graph.reading import read_model
from bnfold.records import Ledger

__all__ = ["CHANNEL_BLOCK", "FoldOptions", "FoldPass", "fold", "fold_model"]


def fold(onnx_model: onnx.ModelProto, *, channel_block: int = CHANNEL_BLOCK) -> tuple[onnx.ModelProto, Ledger]:
    """Fold the BatchNorms of a model and return the new model with the ledger; the argument stays as it is.

    `channel_block`: see `fold_model`.

    Raises:
        InputRefused: the argument is no `onnx.ModelProto` or cannot be read, a BatchNorm has a negative or non-finite
            variance, or a weight leaves the range of its type.
    """
    if not isinstance(onnx_model, onnx.ModelProto):
        raise InputRefused(
            "fold takes a model in memory", found=type(onnx_model).__name__, expected="an onnx.ModelProto",
            remedy="read the file with onnx.load, or give its path to fold_export",
        )  # fmt: skip
    model = read_model(onnx_model)
    settle_claims(model)
    ledger = fold_model(model, channel_block=channel_block)
    return ir.to_proto(model), ledger


def fold_model(
    model: ir.Model,
    *,
    move_behind_relus: bool = False,
    merge_branches: bool = True,
    remove_channels: bool = True,
    rounded: bool = True,
    certified: bool = True,
    channel_block: int = CHANNEL_BLOCK,
    pixels: str | None = None,
    ones_limit: int | None = None,
) -> Ledger:
    """Fold the BatchNorms of a model in place; inputs, outputs and their names stay.

    Args:
        model: the model to fold.
        move_behind_relus: whether a BatchNorm that could not vanish in front of a ReLU goes behind it, which makes the
            ReLU a Max with a constant; whether that is faster depends on the runtime.
        merge_branches: whether sums of convolutions of one tensor become one convolution.
        remove_channels: whether channels that are constant leave.
        rounded: whether new parameters are rounded to their type at the end; else they keep their float64 digits, and
            the ledger does not say which are beyond float16.
        certified: whether the ledger has a certificate. It holds the source's weights in memory, of which it computes
            the digits that are rounded off.
        channel_block: dead channels leave in such blocks, see `bnfold.folding.blocks`: a property of the target, so
            that the same source gives the same file on whatever machine.
        pixels: an input of pixels whose preprocessing is to go into the convolutions behind it, see
            `bnfold.folding.preprocessing`.
        ones_limit: multiply-adds for each pixel that a channel of ones may cost there; where it would cost more, the
            mean stays a node. None for any number.

    Raises:
        InputRefused: a BatchNorm has a negative or non-finite variance, or a weight leaves the range of its type.
        onnx_ir.passes.InvariantError: nodes are in no topological order, or the ledger's sums do not come out, which
            is a fault of the fold; see `FoldPass`.
    """
    step = FoldPass(
        FoldOptions(
            move_behind_relus=move_behind_relus,
            merge_branches=merge_branches,
            remove_channels=remove_channels,
            rounded=rounded,
            certified=certified,
            channel_block=channel_block,
            pixels=pixels,
            ones_limit=ones_limit,
        )
    )
    step(model)
    return step.ledger
