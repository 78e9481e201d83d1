"""The table of `bnfold recalibrate`: every BatchNorm with what its statistics were worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.report.tables import new_table, number, print_table, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records import RecalibrationReport

__all__ = ["render_recalibration"]


def render_recalibration(report: RecalibrationReport) -> None:
    """Print the layers, the findings, and the metrics before and after."""
    table = new_table("BatchNorm", ["mean drift", "variance ratio", "initial", "min var/eps", "small γ", "γ = 0"])
    for layer in report.layers:
        table.add_row(
            layer.name,
            number(layer.mean_drift),
            number(layer.variance_ratio),
            f"{layer.initial_share:.0%}",
            number(layer.min_var_over_eps),
            str(layer.n_gamma_small),
            str(layer.n_gamma_zero),
        )
    print_table(table)
    for warning in report.warnings:
        say(f"found: {warning}")
    say(f"measured on {report.n_samples:,} samples of {report.data} in {report.n_batches} batches, {_how(report)}")
    say(f"test: {_change(report.before, report.after)}")
    if report.target_after:
        say(f"target: {_change(report.target_before, report.target_after)}")
    if report.written:
        say(f"{report.run}")
        say(f"next: bnfold fold-export {report.run} -o {report.run / 'export'}")
    else:
        say("nothing was written")


def _how(report: RecalibrationReport) -> str:
    if report.mode == "adapt":
        return f"layer by layer, the old statistics counting as {report.prior:g} samples"
    return "layer by layer" if report.mode == "layerwise" else "pooled"


def _change(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {before[name]:.4f} -> {after[name]:.4f}" for name in after)
