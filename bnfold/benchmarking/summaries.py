"""A report for pipelines: JUnit XML for the gates, and a Markdown summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bnfold.records.grid import in_grid
from bnfold.records.verdicts import verdict_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import BenchGate, BenchRatio, BenchReport, BenchRun

__all__ = ["gate_sentence", "junit_xml", "markdown"]


def junit_xml(report: BenchReport) -> bytes:
    """One test case per gate: failed, skipped (undecided) or passed.

    What the ratios say stands in the suite's `system-out`. The format is what GitLab, Jenkins and GitHub actions read
    (testmoapp/junitxml describes it).
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
    if report.ratios:
        ElementTree.SubElement(suite, "system-out").text = "\n".join(_ratio_sentences(report.ratios))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def gate_sentence(gate: BenchGate) -> str:
    """A gate in words."""
    found = f"{gate.ratio:.3f} ({gate.low:.3f} to {gate.high:.3f}), allowed {gate.limit:.3f}, "
    said = f"{gate.name}: {'' if gate.verdict == 'undecided' else found}{gate.verdict}"
    return said + (f": {gate.note}" if gate.note else "")


def _ratio_sentences(ratios: Sequence[BenchRatio]) -> list[str]:
    """Each ratio in words: where in the grid, the interval, the verdict and why it names no winner."""
    every = [vars(ratio) for ratio in ratios]
    return [
        f"{in_grid(f'{ratio.a} / {ratio.b}', row, every)}, batch {ratio.batch}: {ratio.ratio:.3f} "
        f"({ratio.low:.3f} to {ratio.high:.3f}), {verdict_in_words(row)}{f': {ratio.note}' if ratio.note else ''}"
        for ratio, row in zip(ratios, every, strict=True)
    ]


def markdown(report: BenchReport) -> str:
    """The runs, ratios, rates and gates as tables of GitHub Flavored Markdown."""
    blocks = [["### bnfold bench"], _runs(report.runs), _ratios(report.ratios), _rates(report.runs)]
    blocks.append([f"- {_text(gate_sentence(gate))}" for gate in report.gates])
    blocks.append([f"- missing: {_text(f'{peer.name}: {peer.reason}; {peer.remedy}')}" for peer in report.missing])
    facts = report.environment
    device, threads = facts.get("gpu") or facts.get("cpu"), facts.get("threads")
    plural = "" if threads == 1 else "s"
    version, noise = facts.get("onnxruntime"), facts.get("noise")
    blocks.append([_text(f"{device}, {threads} thread{plural}, onnxruntime {version}, {noise} machine")])
    if not report.complete:
        blocks.append(["Interrupted: this is what was measured so far."])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _runs(runs: Sequence[BenchRun]) -> list[str]:
    every = [vars(run) for run in runs]
    rows = []
    for run in runs:
        ends = run.intervals.get("median_ms")
        interval = "-" if ends is None else f"{ends[0]:.4g} to {ends[1]:.4g}"
        p95 = "-" if run.p95_ms is None else f"{run.p95_ms:.4g}"
        name = in_grid(run.name, vars(run), every)
        rows.append((name, run.batch, f"{run.median_ms:.4g}", interval, p95, _count(run.images_per_s)))
    return _table(("file", "batch", "median ms", "99 % interval", "p95 ms", "images/s"), rows)


def _ratios(ratios: Sequence[BenchRatio]) -> list[str]:
    every = [vars(ratio) for ratio in ratios]
    rows = []
    for ratio in ratios:
        verdict = verdict_in_words(vars(ratio)) + (f" ({ratio.note})" if ratio.note else "")
        pair = in_grid(f"{ratio.a} / {ratio.b}", vars(ratio), every)
        rows.append((pair, ratio.batch, f"{ratio.ratio:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", verdict))
    return _table(("time ratio", "batch", "ratio", "99 % interval", "verdict"), rows)


def _rates(runs: Sequence[BenchRun]) -> list[str]:
    every = [vars(run) for run in runs]
    rows = [
        (
            in_grid(run.name, vars(run), every), run.batch, f"{run.slo_p95_ms:.4g}", _count(run.rate_per_s),
            "yes" if run.rate_confirmed else "no",
        )
        for run in runs if run.rate_per_s is not None
    ]  # fmt: skip
    return _table(("open loop", "batch", "p95 limit ms", "requests/s", "confirmed"), rows)


def _count(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table whose first column is text; nothing where it has no rows."""
    if not rows:
        return []
    body = [" | ".join(_text(str(cell)) for cell in row) for row in rows]
    return [f"| {line} |" for line in (" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)]), *body)]


def _text(text: str) -> str:
    """Text that is no markup, on one line (CommonMark, section 2.4: any ASCII punctuation may follow a backslash)."""
    return re.sub(r"([\\`*_<\[|~&])", r"\\\1", " ".join(text.split()))
