"""What `quantize` did, for pipelines: JUnit XML for its gates, and a Markdown summary."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from bnfold.records.verdicts import verdict_in_words
from bnfold.report.junit import Case, junit
from bnfold.report.markdown import escaped, table

if TYPE_CHECKING:
    from bnfold.records.quantisation import PairedAccuracy, QuantizedTiming, QuantizeReport

__all__ = ["quantize_junit", "quantize_markdown"]


def quantize_junit(report: QuantizeReport) -> bytes:
    """Test cases: the file with all that holds it back, its accuracy where a limit was given, its time."""
    sentence = "; ".join(report.failures) or report.in_a_line()
    cases = [Case(f"{report.precision} file", sentence, failure=None if report.passed else "did not pass", told=True)]
    if report.accuracy is not None and report.accuracy.limit is not None:
        cases.append(_accuracy_case(report.accuracy))
    if report.timing is not None:
        cases.append(_timing_case(report.timing))
    return junit("quantize", cases, [f"warning: {warning}" for warning in report.warnings])


def _accuracy_case(accuracy: PairedAccuracy) -> Case:
    sentence = f"{_accuracy_sentence(accuracy)}, allowed {-100 * (accuracy.limit or 0.0):+.2f} points"
    return Case(
        accuracy.metric,
        sentence,
        failure=None if accuracy.passed else "worse than allowed",
        skipped=f"undecided: {sentence}" if accuracy.passed and accuracy.undecided else None,
        told=True,
    )


def _timing_case(timing: QuantizedTiming) -> Case:
    sentence = _timing_sentence(timing)
    return Case(
        "time of the folded float file",
        sentence,
        failure="slower" if timing.verdict == "slower" else None,
        skipped=f"undecided: {timing.note or sentence}" if timing.verdict == "undecided" else None,
        told=True,
    )


def quantize_markdown(report: QuantizeReport) -> str:
    """What is lost and what it is worth, in GitHub Flavored Markdown."""
    counts = Counter(layer.precision for layer in report.layers)
    layers = f"{counts[report.precision]} layers {report.precision}, {counts['float32']} float32"
    blocks = [[f"### bnfold quantize {escaped(report.source.spec)}"], [f"{layers}, for {report.target}"]]
    if report.error is not None:
        rows = [
            (out.name, f"{out.sqnr_db:.1f}", "-" if out.agreement is None else f"{out.agreement:.1%}")
            for out in report.error.outputs
        ]
        blocks.append(table(("output", "SQNR dB", "same class"), rows))
    told = [] if report.accuracy is None else [_accuracy_sentence(report.accuracy)]
    told += [] if report.timing is None else [f"time: {_timing_sentence(report.timing)}"]
    told += [f"failed: {failure}" for failure in report.failures]
    told += [f"warning: {warning}" for warning in report.warnings]
    blocks.append([f"- {escaped(sentence)}" for sentence in told])
    kept = [(layer.name, layer.op, layer.sentence or "") for layer in report.layers if layer.reason is not None]
    blocks.append(table(("layer that stays float", "operator", "reason"), kept))
    if report.output is not None:
        blocks.append([escaped(f"{report.output.path}: {report.output.bytes:,} bytes, sha256 {report.output.sha256}")])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _accuracy_sentence(accuracy: PairedAccuracy) -> str:
    ends = f"{100 * accuracy.low:+.2f} to {100 * accuracy.high:+.2f}"
    return (
        f"{accuracy.metric}: {accuracy.own:.4f} against {accuracy.float_:.4f}, {100 * accuracy.difference:+.2f} points "
        f"({ends}) on {accuracy.n:,} samples"
    )


def _timing_sentence(timing: QuantizedTiming) -> str:
    return (
        f"{timing.ratio:.3f} ({timing.low:.3f} to {timing.high:.3f}) of the time of the folded float file, "
        f"{verdict_in_words(vars(timing))}"
    )
