"""Tables and JSON for people and pipelines."""

from __future__ import annotations

from bnfold.report.bench_tables import render_bench
from bnfold.report.evaluation_tables import (
    metric_gate_sentence,
    render_evaluation,
    render_facts,
    render_predictions,
)
from bnfold.report.html import write_html
from bnfold.report.outcome_tree import render_outcomes, tree_fits
from bnfold.report.pictures import write_picture
from bnfold.report.progress import notebook_progress, notebook_stages, progress_bar
from bnfold.report.stages import StagePace, stage_bar, stage_spinner
from bnfold.report.statistics_table import render_recalibration
from bnfold.report.svg import require_matplotlib
from bnfold.report.tables import render_doctor, render_ledger, render_removed_channels, render_verdict, terminal_height
from bnfold.report.write import write_bytes, write_json

__all__ = [
    "StagePace",
    "metric_gate_sentence",
    "notebook_progress",
    "notebook_stages",
    "progress_bar",
    "render_bench",
    "render_doctor",
    "render_evaluation",
    "render_facts",
    "render_ledger",
    "render_outcomes",
    "render_predictions",
    "render_recalibration",
    "render_removed_channels",
    "render_verdict",
    "require_matplotlib",
    "stage_bar",
    "stage_spinner",
    "terminal_height",
    "tree_fits",
    "write_bytes",
    "write_html",
    "write_json",
    "write_picture",
]
