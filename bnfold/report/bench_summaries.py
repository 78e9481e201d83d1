"""A measurement for pipelines: JUnit XML for its gates, and a Markdown summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.records.grid import in_grid
from bnfold.records.verdicts import verdict_in_words
from bnfold.report.junit import Case, junit
from bnfold.report.markdown import escaped, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import BenchGate, BenchRatio, BenchReport, BenchRun

__all__ = ["bench_junit", "bench_markdown", "gate_sentence"]


def bench_junit(report: BenchReport) -> bytes:
    """One test case per gate; what the ratios say stands in the suite's `system-out`."""
    return junit("bench", [_case(gate) for gate in report.gates], _ratio_sentences(report.ratios))


def _case(gate: BenchGate) -> Case:
    failure = "slower than allowed" + (f" ({gate.note})" if gate.note else "")
    return Case(
        gate.name,
        gate_sentence(gate),
        failure=failure if gate.verdict == "failed" else None,
        skipped=f"undecided: {gate.note}" if gate.verdict == "undecided" else None,
        told=bool(gate.note),
    )


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


def bench_markdown(report: BenchReport) -> str:
    """The runs, ratios, rates and gates as tables of GitHub Flavored Markdown."""
    blocks = [["### bnfold bench"], _runs(report.runs), _ratios(report.ratios), _rates(report.runs)]
    blocks.append([f"- {escaped(gate_sentence(gate))}" for gate in report.gates])
    blocks.append([f"- missing: {escaped(f'{peer.name}: {peer.reason}; {peer.remedy}')}" for peer in report.missing])
    facts = report.environment
    device, threads = facts.get("gpu") or facts.get("cpu"), facts.get("threads")
    plural = "" if threads == 1 else "s"
    version, noise = facts.get("onnxruntime"), facts.get("noise")
    blocks.append([escaped(f"{device}, {threads} thread{plural}, onnxruntime {version}, {noise} machine")])
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
    return table(("file", "batch", "median ms", "99 % interval", "p95 ms", "images/s"), rows)


def _ratios(ratios: Sequence[BenchRatio]) -> list[str]:
    every = [vars(ratio) for ratio in ratios]
    rows = []
    for ratio in ratios:
        verdict = verdict_in_words(vars(ratio)) + (f" ({ratio.note})" if ratio.note else "")
        pair = in_grid(f"{ratio.a} / {ratio.b}", vars(ratio), every)
        rows.append((pair, ratio.batch, f"{ratio.ratio:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", verdict))
    return table(("time ratio", "batch", "ratio", "99 % interval", "verdict"), rows)


def _rates(runs: Sequence[BenchRun]) -> list[str]:
    every = [vars(run) for run in runs]
    rows = [
        (
            in_grid(run.name, vars(run), every), run.batch, f"{run.slo_p95_ms:.4g}", _count(run.rate_per_s),
            "yes" if run.rate_confirmed else "no",
        )
        for run in runs if run.rate_per_s is not None
    ]  # fmt: skip
    return table(("open loop", "batch", "p95 limit ms", "requests/s", "confirmed"), rows)


def _count(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"
