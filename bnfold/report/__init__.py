"""Tables and JSON for people and pipelines."""

from __future__ import annotations

from bnfold.report.progress import progress_bar
from bnfold.report.tables import render_bench, render_doctor, render_ledger, render_verdict
from bnfold.report.write import write_json

__all__ = ["progress_bar", "render_bench", "render_doctor", "render_ledger", "render_verdict", "write_json"]
