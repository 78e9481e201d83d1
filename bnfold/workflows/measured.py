"""Rewrites that a measurement decides."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from bnfold.benchmarking import Axes, bench_files
from bnfold.export import finish, save
from bnfold.records import Ledger, MeasuredChoice
from bnfold.verification.certificate.joined import with_joined
from bnfold.workflows.accounts import fold_accounted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from bnfold.runtime import Provider

__all__ = ["BRANCHES_LEFT", "CHANNELS_LEFT", "REWRITE", "fastest_variant"]

REWRITE = "BatchNorm-ReLU as Max with a constant, scale and shift in the operators behind it"
CHANNELS_LEFT = "dead channels left in, as zeros"
BRANCHES_LEFT = "parallel branches left apart"
MEAN_IN_NODE = "the mean of pixels in a node of its own"
MEASURED_FASTER = "it was measured faster"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    MEAN_IN_NODE: {"ones_limit": 0},
    CHANNELS_LEFT: {"remove_channels": False},
    BRANCHES_LEFT: {"merge_branches": False},
    REWRITE: {"move_behind_relus": True},
}
"""What to try, one after the other, each beside the best so far, and the options of `fold_model` that do it."""


def fastest_variant(
    plain: onnx.ModelProto,
    folded: onnx.ModelProto,
    ledger: Ledger,
    *,
    provider: Provider,
    batch: int = 1,
    threads: int | None = None,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    budget_s: float = 10.0,
    pixels: str | None = None,
) -> tuple[onnx.ModelProto, Ledger]:
    """Fold in other ways too, and take what is measured faster; a variant of the same work is not measured.

    Args:
        plain: the graph before the fold.
        folded: the file that a fold makes by default, and
        ledger: its ledger.
        provider: where two files are compared, side by side.
        batch: the batch size that they run at.
        threads: threads of one operator.
        input_shapes: shapes of the inputs, where axes besides the batch are dynamic.
        budget_s: seconds of each measurement, about.
        pixels: the input whose preprocessing is part of the file, None for none.

    Returns:
        The chosen file and its ledger, which holds the choices with both times; unchanged where there is no choice.
    """
    options: dict[str, Any] = {} if pixels is None else {"pixels": pixels}
    choices: dict[str, MeasuredChoice] = {}
    opset = next(entry.version for entry in folded.opset_import if entry.domain == "")
    for rewrite, changes in VARIANTS.items():
        if (rewrite == REWRITE and not ledger.kept) or (rewrite == MEAN_IN_NODE and pixels is None):
            continue
        model = ir.from_proto(plain)
        other = fold_accounted(model, provider=provider, **{**options, **changes})
        candidate = finish(model, opset=opset)
        other = dataclasses.replace(other, certificate=with_joined(other.certificate, candidate, plain))
        if (rewrite == REWRITE and other.kept >= ledger.kept) or _work(candidate) == _work(folded):
            continue
        choice = _measured(
            rewrite, candidate, folded,
            Axes(provider=provider, batch=batch, threads=threads, input_shapes=input_shapes), budget_s,
        )  # fmt: skip
        choices[rewrite] = choice
        if choice.taken:
            if rewrite == MEAN_IN_NODE and other.preprocessing is not None:
                measured = dataclasses.replace(other.preprocessing, reason=MEASURED_FASTER)
                other = dataclasses.replace(other, preprocessing=measured)
            folded, ledger, options = candidate, other, {**options, **changes}
    return folded, dataclasses.replace(ledger, measured=choices.get(REWRITE), choices=tuple(choices.values()))


def _work(model: onnx.ModelProto) -> tuple[list[Any], list[Any]]:
    """The operators of a file and the shapes of its parameters: what its time depends on."""
    return (
        [node.op_type for node in model.graph.node],
        sorted(tuple(tensor.dims) for tensor in model.graph.initializer),
    )


def _measured(
    rewrite: str, candidate: onnx.ModelProto, folded: onnx.ModelProto, axes: Axes, budget_s: float
) -> MeasuredChoice:
    """The choice between two files: the candidate is taken if it is measured faster."""
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        files = [Path(folder) / "with.onnx", Path(folder) / "without.onnx"]
        for path, proto in zip(files, (candidate, folded), strict=True):
            save(proto, path)
        report = bench_files(files, axes, budget_s=budget_s, cold_starts=False)
    ratio, (with_it, without) = report.ratios[0], report.runs
    return MeasuredChoice(
        rewrite,
        ratio.verdict == "faster",
        with_it.provider,
        with_it.median_ms,
        without.median_ms,
        ratio.ratio,
        ratio.low,
        ratio.high,
        ratio.verdict,
        ratio.leaning,
    )
