"""From a module to a copy of it without the BatchNorms that can vanish."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.export.metadata import keep_layer_names
from bnfold.export.torch_export import export_torch
from bnfold.export.zero_bias import drop_zero_biases
from bnfold.modules.applying import apply_writing, materialise
from bnfold.modules.checking import check_float64, check_rounded
from bnfold.modules.notes import notes_of
from bnfold.modules.places import Places
from bnfold.modules.proving import check_graph, check_parameters
from bnfold.modules.solve import Solution, solve
from bnfold.sources.copies import copied_module, duplicate
from bnfold.sources.onnx_checks import refuse_training_mode
from bnfold.sources.torch_source import module_source
from bnfold.sources.trial import TRIAL_BATCH
from bnfold.verification.data.precision import accumulation_lengths

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from bnfold.records import Ledger
    from bnfold.sources.examples import Example
    from bnfold.sources.types import TorchSource

__all__ = ["fold_module", "fold_source"]

log = logging.getLogger("bnfold.modules")


def fold_module(
    network: nn.Module,
    example: Example | None,
    where: str,
    *,
    inplace: bool = False,
    progress: Callable[[str], None] | None = None,
) -> tuple[nn.Module, Ledger]:
    """Fold the BatchNorms of a module into its parameters.

    Args:
        network: in whatever mode, on whatever device; unchanged unless `inplace`.
        example: what it is called with.
        where: the module in messages.
        inplace: whether the module itself is changed, once the copy is proven.
        progress: told the name of each stage when it begins: export, fold, verify.

    Returns:
        The module, of the same class and in eval mode, and what became of each BatchNorm, with the certificate.

    Raises:
        InputRefused: it cannot be copied, run or exported.
        GateFailed: the folded module is not equal; nothing is changed.
    """
    if any(part.training for part in network.modules()):
        log.warning("%s is in train mode: it is its eval mode that is folded", where)
    work = copied_module(network, where=where).eval()
    stored = materialise(work)
    source = module_source(work, example, where)
    solution, check = _proven(source, progress)
    notes = notes_of(Places(work), solution.writing.parameters, stored)
    ledger = dataclasses.replace(solution.ledger, notes=notes)
    apply_writing(work, solution.writing)
    check(duplicate(work).cpu())
    if inplace:
        materialise(network)
        apply_writing(network, solution.writing)
        return network.eval(), ledger
    return work, ledger


def fold_source(source: TorchSource, progress: Callable[[str], None] | None = None) -> Solution:
    """Fold a loaded module, which is changed in place, and prove it equal; the caller takes out what is identity now.

    Raises:
        InputRefused: it cannot be exported.
        GateFailed: the folded module is not equal.
    """
    original = dataclasses.replace(source, module=duplicate(source.module))
    solution, check = _proven(original, progress)
    apply_writing(source.module, solution.writing)
    check(source.module)
    return solution


def _proven(
    source: TorchSource, progress: Callable[[str], None] | None
) -> tuple[Solution, Callable[[nn.Module], object]]:
    """What a module becomes, equal in float64 before rounding; and the check of what is made of that, as it is stored.

    The module stays as it is.
    """
    begin = progress or log.debug
    begin("export")
    model, batch = _exported(source)
    before = ir.to_proto(model)
    lengths = accumulation_lengths(before)
    begin("fold")
    solution = solve(model, Places(source.module))
    begin("verify")
    check_graph(source, before, ir.to_proto(model), solution, batch)
    del model, before
    wide = duplicate(source.module).double()
    apply_writing(wide, solution.writing)
    error = check_float64(source, wide, batch, lengths)
    log.info("%s: equal in float64 to %.1e before rounding", source.facts.spec, error)

    def check(folded: nn.Module) -> None:
        check_parameters(folded, solution.writing, source.facts.spec)
        check_rounded(source, folded, batch, lengths)

    return solution, check


def _exported(source: TorchSource) -> tuple[Any, int | None]:
    """The graph of a module, with a dynamic batch where it can be exported so; else the batch that it has."""
    batch = None
    try:
        model = export_torch(source, opset=None, static_batch=None).model
    except InputRefused as refused:
        batch = source.example[0].shape[0] if source.example and source.example[0].ndim else TRIAL_BATCH
        log.info("%s; it is folded at a batch of %d", refused, batch)
        model = export_torch(source, opset=None, static_batch=batch).model
    refuse_training_mode(model, source.facts.spec)
    drop_zero_biases(model)
    keep_layer_names(model, keep_model_properties=False)
    return model, batch
