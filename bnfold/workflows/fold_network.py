"""`bnfold.fold`: a network of the same kind, without the BatchNorms that can vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.report.progress import notebook_stages
from bnfold.workflows.networks import loaded_network, undisturbed
from bnfold.workflows.stages import FOLD_STAGES
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from bnfold.records import Ledger
    from bnfold.workflows.stopwatch import Progress

__all__ = ["fold"]


@runs_user_code()
def fold(
    network: Any,
    example: Any = None,
    *,
    inplace: bool = False,
    channel_block: int | None = None,
    progress: Progress | None = None,
) -> tuple[Any, Ledger]:
    """Fold the BatchNorms of a network into the parameters around them.

    A module comes back as a copy of the same class, in eval mode, whose submodules keep their classes; a BatchNorm that
    vanished is `nn.Identity`, or what it held besides (timm's BatchNormAct). It is proven before it is returned: in
    float64, before its parameters are rounded, on random and border inputs to 1e-10; and as it is stored, against the
    module's own rounding error. ONNX models lose merged branches and dead channels, too.

    Args:
        network: a `torch.nn.Module`; a `torch.export.ExportedProgram`, which is exported again; an `onnx.ModelProto` or
            an `onnx_ir.Model`; or a SOURCE, see docs/sources.md, which gives an `onnx.ModelProto`. It stays as it is.
        example: what a module is called with: a tensor, a tuple of the arguments of `forward`, a dict of keyword
            arguments, or shapes, batch first.
        inplace: change the module itself, or the `onnx_ir.Model`, once the fold is proven, and return it.
        channel_block: dead channels of an ONNX model leave in such blocks, see `bnfold.folding.blocks`; None takes
            those of the CPU.
        progress: called with the name of each stage of a module's fold when it begins; None shows a bar in a notebook.

    Returns:
        The network, and the ledger: what became of each BatchNorm. `ledger.certificate` holds the certificate.

    Raises:
        InputRefused: it is not a network, or cannot be run, exported or folded safely.
        GateFailed: the folded module is not equal, and nothing is changed.
        EnvironmentNotReady: a package is missing.
    """
    from bnfold.folding import CHANNEL_BLOCK
    from bnfold.sources.examples import example_of
    from bnfold.sources.in_memory import kind_of_network, named

    kind, where = kind_of_network(network), named(network)
    block = CHANNEL_BLOCK if channel_block is None else channel_block
    if kind == "module":
        from bnfold.modules import fold_module

        with undisturbed(network), notebook_stages(f"fold {where}", progress, FOLD_STAGES) as told:
            return fold_module(network, example_of(example, where=where), where, inplace=inplace, progress=told)
    if inplace and kind != "onnx_ir":
        raise InputRefused(
            "only a module or an onnx_ir.Model is folded in place",
            where=where,
            remedy="take the network that is returned",
        )
    if kind in ("program", "onnx", "onnx_ir") and example is not None:
        raise InputRefused("the network states its inputs itself", where=where, remedy="leave the example out")
    if kind == "program":
        from bnfold.modules import fold_program

        with undisturbed(network), notebook_stages(f"fold {where}", progress, FOLD_STAGES) as told:
            return fold_program(network, where, progress=told)
    if kind == "onnx":
        from bnfold.folding import fold as fold_proto

        return fold_proto(network, channel_block=block)
    if kind == "onnx_ir":
        return _fold_model(network, inplace=inplace, channel_block=block)
    return _fold_source(network, example, channel_block=block)


def _fold_model(model: Any, *, inplace: bool, channel_block: int) -> tuple[Any, Ledger]:
    from bnfold.folding import fold_model
    from bnfold.graph.claims import settle_claims

    folded = model if inplace else model.clone()
    settle_claims(folded)
    return folded, fold_model(folded, channel_block=channel_block)


def _fold_source(network: Any, example: Any, *, channel_block: int) -> tuple[Any, Ledger]:
    from bnfold.export import finish, plain_graph
    from bnfold.folding import fold_model

    with undisturbed(network):
        source = loaded_network(network, example)
        model = plain_graph(source)
    ledger = fold_model(model, channel_block=channel_block)
    return finish(model, where=source.facts.spec), ledger
