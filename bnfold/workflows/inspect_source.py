"""`bnfold inspect`: what would happen to each BatchNorm of a source, without writing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.records import InspectReport, NetworkFacts
from bnfold.workflows.accounts import fold_accounted
from bnfold.workflows.networks import loaded_network, undisturbed
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from bnfold.sources.interface import DynamicShapes

__all__ = ["inspect"]


@runs_user_code()
def inspect(
    network: Any,
    example: Any = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_dim: str | None = None,
    dynamic_shapes: DynamicShapes | None = None,
) -> InspectReport:
    """Fold a network in memory and return its ledger; the network stays as it is.

    An `.onnx` source needs neither PyTorch nor ONNX Runtime, and no sizes.

    Args:
        network: what to look at: a `torch.nn.Module`, a `torch.export.ExportedProgram`, an `onnx.ModelProto`, an
            `onnx_ir.Model`, or a SOURCE, see docs/sources.md.
        example: what a module is called with, see `bnfold.fold_export`.
        weights: parameters for a source that has none of its own (`.safetensors`, `.pt`).
        pretrained: take the pretrained parameters of timm or torchvision, which may download them.
        input_shapes: one shape per input, batch first, where the source does not tell them.
        input_dtypes: NumPy's name of each input's type, or one for all, where Python code does not tell them.
        dims: sizes of an `.onnx` file's dynamic axes, by their name in the file (`INPUT[AXIS]` where it has none).
        batch_dim: the name of the axis that counts the samples; None for one called batch, else axis 0.
        dynamic_shapes: axes of a PyTorch network that are dynamic besides the batch, see `bnfold.fold_export`.

    Raises:
        InputRefused: the source cannot be used.
        EnvironmentNotReady: a package that the source needs is missing.
    """
    from bnfold.export import plain_graph
    from bnfold.graph.outline import outline
    from bnfold.sources import facts_of

    with undisturbed(network):
        loaded = loaded_network(
            network, example, weights=weights, pretrained=pretrained, input_shapes=input_shapes,
            input_dtypes=input_dtypes, runs=False, dims=dims, batch_dim=batch_dim, dynamic_shapes=dynamic_shapes,
        )  # fmt: skip
        model = plain_graph(loaded)
    before = outline(model, is_source=True)
    ledger = fold_accounted(model)
    network = NetworkFacts(before, outline(model, is_source=False))
    return InspectReport(source=loaded.facts, ledger=ledger, facts=facts_of(loaded), network=network)
