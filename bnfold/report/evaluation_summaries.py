"""An evaluation for pipelines: JUnit XML for its gates, and a Markdown summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.report.evaluation_tables import metric_gate_sentence
from bnfold.report.junit import Case, junit
from bnfold.report.markdown import escaped

if TYPE_CHECKING:
    from bnfold.records import EvaluateReport, MetricGate

__all__ = ["evaluation_junit", "evaluation_markdown"]


def evaluation_junit(report: EvaluateReport) -> bytes:
    """One test case per gate: failed, skipped (undecided) or passed."""
    return junit("evaluate", [_case(gate) for gate in report.gates])


def _case(gate: MetricGate) -> Case:
    sentence = metric_gate_sentence(gate)
    return Case(
        gate.name,
        sentence,
        failure="worse than allowed" if gate.verdict == "failed" else None,
        skipped=sentence if gate.verdict == "undecided" else None,
    )


def evaluation_markdown(report: EvaluateReport) -> str:
    """Metrics, differences and gates as tables of GitHub Flavored Markdown."""
    lines = ["### bnfold evaluate", "", "| file | metric | value | 99 % interval |", "| --- | --- | ---: | ---: |"]
    for file in report.files:
        for name, own in file.metrics.items():
            lines.append(f"| {escaped(file.name)} | {name} | {own.value:.4f} | {own.low:.4f} to {own.high:.4f} |")
    if report.pairs:
        lines += [
            "",
            "| difference | metric | value | 99 % interval | agreement |",
            "| --- | --- | ---: | ---: | ---: |",
        ]
    for pair in report.pairs:
        agreement = "-" if pair.agreement is None else f"{pair.agreement:.4f}"
        names = f"{escaped(pair.a)} - {escaped(pair.b)}"
        interval = f"{pair.low:+.4f} to {pair.high:+.4f}"
        lines.append(f"| {names} | {pair.metric} | {pair.difference:+.4f} | {interval} | {agreement} |")
    lines += ["", *(f"- {escaped(metric_gate_sentence(gate))}" for gate in report.gates)]
    lines.append(f"{report.data.n:,} samples of {escaped(report.data.spec)}, split {report.data.split}")
    return "\n".join(lines) + "\n"
