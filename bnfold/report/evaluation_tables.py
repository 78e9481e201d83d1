"""What `bnfold evaluate`, `bnfold predict` and `bnfold inspect` print of accuracy and of what a file says of itself."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bnfold.report.tables import new_table, number, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import EvaluateReport, FileFacts, MetricGate, Prediction

__all__ = ["metric_gate_sentence", "render_evaluation", "render_facts", "render_predictions"]

N_WORST = 10
"""Classes that are printed, those recognised least; the JSON holds all."""


def render_evaluation(report: EvaluateReport) -> None:
    """Print metrics, differences, the weakest classes and the gates."""
    metrics = list(dict.fromkeys(name for file in report.files for name in file.metrics))
    table = new_table("file", metrics)
    for file in report.files:
        table.add_row(file.name, *(_metric(file.metrics[name]) if name in file.metrics else "-" for name in metrics))
    print_table(table)
    if report.pairs:
        pairs = new_table("difference", ["metric", "difference", "99 % interval", "agreement", "gained", "lost", "p"])
        for pair in report.pairs:
            pairs.add_row(
                f"{pair.a} - {pair.b}",
                pair.metric,
                f"{pair.difference:+.4f}",
                f"{pair.low:+.4f} to {pair.high:+.4f}",
                "-" if pair.agreement is None else f"{pair.agreement:.4f}",
                *("-" if count is None else str(count) for count in (pair.gained, pair.lost)),
                number(pair.p_value, 2),
            )
        print_table(pairs)
    weakest = sorted(report.files[0].per_class, key=lambda own: (own.recall, own.name))[:N_WORST]
    if weakest:
        classes = new_table("class, weakest first", ["samples", "recall", "precision", "F1"])
        for own in weakest:
            classes.add_row(own.name, str(own.n), *(f"{value:.3f}" for value in (own.recall, own.precision, own.f1)))
        print_table(classes)
    say(f"{report.data.n:,} samples of {report.data.spec}, split {report.data.split}; intervals are 99 %")
    for note in report.notes:
        say(note)
    for gate in report.gates:
        say(metric_gate_sentence(gate))


def metric_gate_sentence(gate: MetricGate) -> str:
    """A gate in words."""
    said = f"{gate.name}: {gate.value:.4f} ({gate.low:.4f} to {gate.high:.4f}), limit {gate.limit:g}, {gate.verdict}"
    if gate.verdict != "undecided":
        return said
    if gate.n_to_decide is None:
        return f"{said}: no number of samples like these would decide, the value is the limit"
    return f"{said}: too few samples; about {gate.n_to_decide:,} like these would decide"


def _metric(metric: object) -> str:
    value, low, high = (getattr(metric, name) for name in ("value", "low", "high"))
    return f"{value:.4f} ({low:.4f} to {high:.4f})"


def render_facts(facts: FileFacts) -> None:
    """Print what a file says of itself; nothing where it says nothing."""
    names = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    known = {name: value for name, value in names.items() if value not in (None, ())}
    for name, value in known.items():
        say(f"{name.replace('_', ' ')}: {_in_words(value)}")


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        more = f", and {len(value) - 5} more" if len(value) > 5 else ""
        return f"{', '.join(map(str, value[:5]))}{more} ({len(value)})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_number_list(entry)}" for key, entry in value.items() if entry is not None)
    return str(value)


def _number_list(value: object) -> str:
    return ":".join(f"{entry:g}" for entry in value) if isinstance(value, (tuple, list)) else str(value)


def render_predictions(predictions: Sequence[Prediction]) -> None:
    """Print what a file says of each image."""
    if any(own.classes for own in predictions):
        table = new_table("image", [], text=["class and probability"])
        for own in predictions:
            table.add_row(own.image, ", ".join(f"{name} {value:.3f}" for name, value in own.classes))
        print_table(table)
    if any(own.boxes for own in predictions):
        table = new_table("image", ["score", "left", "top", "right", "bottom"], text=["class"])
        for own in predictions:
            for name, score, *box in own.boxes:
                table.add_row(own.image, name, f"{score:.3f}", *(f"{side:.1f}" for side in box))
        print_table(table)
    if any(own.areas for own in predictions):
        table = new_table("image", [], text=["part of the pixels by class"])
        for own in predictions:
            table.add_row(own.image, ", ".join(f"{name} {part:.3f}" for name, part in own.areas.items()))
        print_table(table)
    for own in predictions:
        if own.picture is not None:
            say(str(own.picture))
