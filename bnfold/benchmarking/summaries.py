"""A report for pipelines: JUnit XML for the gates, and a Markdown summary."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from bnfold.records import BenchGate, BenchReport

__all__ = ["gate_sentence", "junit_xml", "markdown"]


def junit_xml(report: BenchReport) -> bytes:
    """One test case per gate: failed, skipped (undecided) or passed.

    The format is what GitLab, Jenkins and GitHub actions read (testmoapp/junitxml describes it).
    """
    cases = report.gates
    suite = ElementTree.Element(
        "testsuite", name="bnfold bench", tests=str(len(cases)), errors="0",
        failures=str(sum(gate.verdict == "failed" for gate in cases)),
        skipped=str(sum(gate.verdict == "undecided" for gate in cases)),
    )  # fmt: skip
    for gate in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="bnfold.bench", name=gate.name)
        if gate.verdict == "failed":
            message = "slower than allowed" + (f" ({gate.note})" if gate.note else "")
            ElementTree.SubElement(case, "failure", message=message).text = gate_sentence(gate)
        elif gate.verdict == "undecided":
            ElementTree.SubElement(case, "skipped", message=f"undecided: {gate.note}")
        elif gate.note:
            ElementTree.SubElement(case, "system-out").text = gate_sentence(gate)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def gate_sentence(gate: BenchGate) -> str:
    """A gate in words."""
    found = f"{gate.name}: {gate.ratio:.3f} ({gate.low:.3f} to {gate.high:.3f}), allowed {gate.limit:.3f}"
    return f"{found}, {gate.verdict}" + (f": {gate.note}" if gate.note else "")


def markdown(report: BenchReport) -> str:
    """The runs, ratios and gates as tables of GitHub Flavored Markdown."""
    lines = ["### bnfold bench", ""]
    lines += _row("file", "provider", "threads", "level", "batch", "median ms", "99 % interval", "p95 ms", "images/s")
    lines += _row(*["---"] * 4, *["---:"] * 5)
    for run in report.runs:
        low, high = run.intervals.get("median_ms", (float("nan"), float("nan")))
        lines += _row(
            run.name, run.provider, run.threads, run.opt_level, run.batch, f"{run.median_ms:.4g}",
            f"{low:.4g} to {high:.4g}", "-" if run.p95_ms is None else f"{run.p95_ms:.4g}", f"{run.images_per_s:.4g}",
        )  # fmt: skip
    if report.ratios:
        lines += ["", *_row("time ratio", "batch", "ratio", "99 % interval", "verdict")]
        lines += _row("---", "---:", "---:", "---:", "---")
    for ratio in report.ratios:
        verdict = f"{ratio.verdict} ({ratio.note})" if ratio.note else ratio.verdict
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        lines += _row(f"{ratio.a} / {ratio.b}", ratio.batch, f"{ratio.ratio:.3f}", interval, verdict)
    rates = [run for run in report.runs if run.rate_per_s is not None]
    if rates:
        lines += ["", *_row("open loop", "batch", "p95 limit ms", "requests/s", "confirmed")]
        lines += _row("---", "---:", "---:", "---:", "---")
    for run in rates:
        confirmed = "yes" if run.rate_confirmed else "no"
        lines += _row(run.name, run.batch, f"{run.slo_p95_ms:.4g}", f"{run.rate_per_s:.4g}", confirmed)
    if report.gates:
        lines += ["", *(f"- {gate_sentence(gate)}" for gate in report.gates)]
    if report.missing:
        lines += ["", *(f"- missing: {peer.name}: {peer.reason}; {peer.remedy}" for peer in report.missing)]
    facts = report.environment
    noise = facts.get("noise")
    lines += ["", f"{facts.get('gpu') or facts.get('cpu')}, onnxruntime {facts.get('onnxruntime')}, {noise} machine"]
    if not report.complete:
        lines += ["", "Interrupted: this is what was measured so far."]
    return "\n".join(lines) + "\n"


def _row(*cells: object) -> list[str]:
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"]
