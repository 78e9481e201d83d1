"""What `fold-export` did, for pipelines: JUnit XML for its gates, and a Markdown summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.records import as_json
from bnfold.records.sentences import preprocessing_sentence
from bnfold.report.junit import Case, junit
from bnfold.report.markdown import escaped, table
from bnfold.report.timings import AGAINST, slower_warning, timing_sentence
from bnfold.report.verification_summaries import equality_cases, verdict_blocks

if TYPE_CHECKING:
    from bnfold.records import FoldExportReport, Ledger

__all__ = ["fold_export_junit", "fold_export_markdown"]


def fold_export_junit(report: FoldExportReport) -> bytes:
    """One test case per gate: that the file is equal, proven, and no slower than allowed; the ledger below."""
    cases = equality_cases(report.verify, "equal to the source")
    timing = report.timing
    if timing is not None and timing.limit is not None:
        sentence = f"{timing_sentence(as_json(timing))}, allowed {timing.limit:.3f}"
        undecided = timing.verdict == "undecided"
        cases.append(
            Case(
                f"time of {AGAINST[timing.against]}",
                sentence,
                failure="slower than allowed" if timing.failed else None,
                skipped=f"undecided: {timing.note or sentence}" if undecided else None,
                told=True,
            )
        )
    return junit("fold-export", cases, _ledger_sentences(report.ledger))


def fold_export_markdown(report: FoldExportReport) -> str:
    """What became of the BatchNorms, the verdict and the time, in GitHub Flavored Markdown."""
    blocks = [[f"### bnfold fold-export {escaped(report.source.spec)}"]]
    ledger = report.ledger
    counts = (ledger.found, ledger.absorbed, ledger.merged, ledger.removed, ledger.kept)
    blocks.append(table(("BatchNorms", "found", "absorbed", "merged", "removed", "kept"), [("", *counts)]))
    blocks.append([f"- {escaped(sentence)}" for sentence in _ledger_sentences(ledger)[1:]])
    blocks += verdict_blocks(report.verify)
    if report.timing is not None:
        facts = as_json(report.timing)
        told = [f"time: {timing_sentence(facts)}", slower_warning(facts)]
        blocks.append([f"- {escaped(sentence)}" for sentence in told if sentence is not None])
    if report.output is not None:
        out = report.output
        blocks.append([escaped(f"{out.path}: {out.bytes:,} bytes, opset {out.opset}, sha256 {out.sha256}")])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _ledger_sentences(ledger: Ledger) -> list[str]:
    """The counts; then what stays and why, and what else the fold has to say."""
    counts = ", ".join(f"{getattr(ledger, name)} {name}" for name in ("absorbed", "merged", "removed", "kept"))
    said = [f"BatchNorms: {ledger.found} found, {counts}"]
    said += [f"kept {entry.name}: {entry.reason}" for entry in ledger.entries if entry.outcome == "kept"]
    if ledger.preprocessing is not None:
        said.append(f"preprocessing: {preprocessing_sentence(ledger.preprocessing)}")
    return said + [f"warning: {warning}" for warning in ledger.warnings]
