"""Rewrites that a measurement decides."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from bnfold.benchmarking import bench_files
from bnfold.export import finish, save
from bnfold.records import Ledger, MeasuredChoice
from bnfold.workflows.accounts import fold_accounted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from bnfold.runtime import Provider

__all__ = ["faster_behind_relus"]

REWRITE = "BatchNorm-ReLU as Max with a constant, scale and shift in the operators behind it"


def faster_behind_relus(
    plain: onnx.ModelProto,
    folded: onnx.ModelProto,
    ledger: Ledger,
    *,
    provider: Provider,
    batch: int = 1,
    threads: int | None = None,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    budget_s: float = 10.0,
) -> tuple[onnx.ModelProto, Ledger]:
    """Move the kept BatchNorms behind their ReLUs, and take that file only if it is measured faster.

    Args:
        plain: the graph before the fold.
        folded: the file folded without the rewrite, and
        ledger: its ledger.
        provider: where the two files are compared, side by side.
        batch: the batch size that they run at.
        threads: threads of one operator.
        input_shapes: shapes of the inputs, where axes besides the batch are dynamic.
        budget_s: seconds of measuring, about.

    Returns:
        The chosen file and its ledger, which holds the choice and both times; unchanged where nothing can be moved.
    """
    model = ir.from_proto(plain)
    other = fold_accounted(model, provider=provider, move_behind_relus=True)
    if other.kept >= ledger.kept:
        return folded, ledger
    candidate = finish(model)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, proto in (("with", candidate), ("without", folded)):
            path = Path(folder) / f"{name}.onnx"
            save(proto, path)
            files.append(path)
        report = bench_files(
            files, batches=(batch,), provider=provider, threads=threads, budget_s=budget_s, input_shapes=input_shapes
        )
    ratio, (with_it, without) = report.ratios[0], report.runs
    taken = ratio.verdict == "faster"
    choice = MeasuredChoice(
        REWRITE,
        taken,
        with_it.provider,
        with_it.median_ms,
        without.median_ms,
        ratio.ratio,
        ratio.low,
        ratio.high,
        ratio.verdict,
    )
    return (candidate if taken else folded), dataclasses.replace(other if taken else ledger, measured=choice)
