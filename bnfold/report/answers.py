"""The first screen of a report: what is it, is it equal, how fast is it, what stayed and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.records.verdicts import verdict_in_words
from bnfold.report.cells import plain
from bnfold.report.comparisons import basis
from bnfold.report.elements import Child, element
from bnfold.report.settings import label, shortened
from bnfold.report.tables import number
from bnfold.report.timings import AGAINST, slower_warning, timing_sentence

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["bench_answers", "evaluation_answers", "fold_export_answers", "inspection_answers"]

Facts = Mapping[str, Any]

OUTCOMES = ("absorbed", "merged", "removed", "kept")
TONES = {"faster": "good", "slower": "bad", "tie": "neutral", "undecided": "neutral"}
N_RATIOS = 3  # more would push the next answer off a phone's first screen
NAME_LENGTH = 48


def inspection_answers(report: Facts) -> Element:
    """The answers that the JSON of `bnfold inspect` gives."""
    what = f"{plain(report['source']['n_parameters'])} parameters; nothing was written"
    return _answers(_answer("What is it?", shortened(report["source"]["spec"], NAME_LENGTH), what), _stayed(report))


def fold_export_answers(report: Facts) -> Element:
    """The answers that the JSON of `bnfold fold-export` gives."""
    source, output = report["source"], report["output"]
    written = "no file was kept"
    if output is not None:
        written = f"{output['path']}: {output['bytes']:,} bytes, opset {output['opset']}"
    what = f"{plain(source['n_parameters'])} parameters; {written}"
    return _answers(
        _answer("What is it?", shortened(source["spec"], NAME_LENGTH), what),
        _equal(report["verify"]),
        _fold_export_speed(report),
        _stayed(report),
    )


def bench_answers(report: Facts, proof: Facts | None) -> Element:
    """The answers that the JSON of `bnfold bench` gives, and that of `fold-export` for the first file.

    Args:
        report: the measurement.
        proof: the report of `fold-export` on the first file, None where there is none.
    """
    names = list(dict.fromkeys(run["name"] for run in report["runs"]))
    first, *rest = names or ["nothing"]
    against = f" against {_few(rest)}" if rest else ""
    where = ", ".join(machine(report["environment"]))
    if proof is None:
        equal = _answer("Is it equal?", "Not checked here", "bnfold verify SOURCE FILE proves it.", tone="neutral")
        why = "There is no report of fold-export beside the first file; bnfold inspect FILE tells."
        stayed = _answer("What stayed, and why?", "Not known here", why, tone="neutral")
    else:
        equal, stayed = _equal(proof["verify"]), _stayed(proof)
    return _answers(
        _answer("What is it?", shortened(first, NAME_LENGTH) + against, where), equal, _bench_speed(report), stayed
    )


def evaluation_answers(report: Facts) -> Element:
    """The answers that the JSON of `bnfold evaluate` gives."""
    data, files = report["data"], report["files"]
    what = f"{data['n']:,} samples of {data['spec']}, split {data['split']}"
    cards = [_answer("What is it?", _few([file["name"] for file in files]), what)]
    metric, own = next(iter(files[0]["metrics"].items()))
    interval = f"{own['low']:.4f} to {own['high']:.4f}"
    cards.append(_answer("How good is it?", f"{metric} {own['value']:.4f}", f"99 % interval {interval}"))
    for pair in report["pairs"][:1]:
        sign = "better" if pair["low"] > 0 else "worse" if pair["high"] < 0 else "no difference shown"
        text = f"{pair['difference']:+.4f} ({pair['low']:+.4f} to {pair['high']:+.4f}) against {pair['b']}"
        cards.append(_answer("Is it as good as the other?", sign, text, tone="bad" if sign == "worse" else "good"))
    verdicts = [gate["verdict"] for gate in report["gates"]]
    if verdicts:
        worst = next(word for word in ("failed", "undecided", "passed") if word in verdicts)
        tone = {"failed": "bad", "undecided": "neutral", "passed": "good"}[worst]
        cards.append(_answer("Does it pass?", worst, f"{len(verdicts)} gates", tone=tone))
    return _answers(*cards)


def machine(environment: Facts) -> list[str]:
    """What a latency depends on first of all: the device, the threads, the runtime, whether it was quiet."""
    facts = [environment.get("gpu") or environment.get("cpu")]
    if environment.get("threads") is not None:
        facts.append(f"{environment['threads']} thread{'' if environment['threads'] == 1 else 's'}")
    if environment.get("onnxruntime"):
        facts.append(f"ONNX Runtime {environment['onnxruntime']}")
    if environment.get("noise"):
        facts.append(f"{environment['noise']} machine")
    return [str(fact) for fact in facts if fact]


def _equal(verify: Facts) -> Element:
    batches = ", ".join(map(str, verify["batches"]))
    scope = f"{verify['n_compared']:,} values against {basis(verify)}, batches {batches}"
    if not verify["n_compared"]:
        scope = f"No values were compared with {basis(verify)}."
    if not verify["passed"]:
        return _answer("Is it equal?", "Not equal", verify["failure"] or "no reason given", scope, tone="bad")
    shares = [output["e_output"] / output["allowed"] for output in verify["outputs"] if output["allowed"]]
    most = f"Largest error: {max(shares):.0%} of what is allowed." if shares else None
    return _answer("Is it equal?", "Equal", scope, most, _proof(verify), tone="good")


def _proof(verify: Facts) -> str:
    """What holds whatever the inputs are."""
    certificate = verify.get("certificate")
    if certificate is None:
        return "Verified on inputs: there is no certificate."
    proven = f"{certificate['certified']:,} of {certificate['regions']:,} values of the file"
    quick = " Quick: compared on one input." if verify.get("quick") else ""
    return f"Proven operator by operator: {proven}.{quick}"


def _fold_export_speed(report: Facts) -> Element:
    graph, measured, timing = report["graph"], report["ledger"].get("measured"), report.get("timing")
    work = f"Nodes: {graph['nodes_before']:,} before, {graph['nodes_after']:,} after."
    if graph["macs_before"] is not None and graph["macs_after"] is not None:
        same = graph["macs_before"] == graph["macs_after"]
        change = "unchanged" if same else f"{_big(graph['macs_before'])} before, {_big(graph['macs_after'])} after"
        work += f" Multiply-adds: {change}."
    if timing is not None:
        headline = f"{timing['ratio']:.3f} × the time of {AGAINST[timing['against']]}"
        limit = f"Slower than allowed (at most {timing['limit']:.3f})." if timing["failed"] else None
        details = (limit, timing_sentence(timing), slower_warning(timing), work)
        return _answer("How fast is it?", headline, *details, tone=TONES[timing["verdict"]])
    if measured is None:
        how = "bnfold bench model.onnx --html FILE measures it." if report["passed"] else None
        return _answer("How fast is it?", "Not measured", work, how, tone="neutral")
    interval = f"{measured['low']:.3f} to {measured['high']:.3f}"
    taken = "taken" if measured["taken"] else "not taken"
    text = f"{measured['rewrite']}: {taken} ({interval}, {verdict_in_words(measured)})"
    headline = f"{number(measured['with_ms' if measured['taken'] else 'without_ms'], 4)} ms"
    return _answer(
        "How fast is it?", headline, text, work, tone=TONES[measured["verdict"]] if measured["taken"] else ""
    )


def _bench_speed(report: Facts) -> Element:
    question, unsure = "How fast is it?", _unsure(report)
    ratios, runs = report["ratios"], report["runs"]
    rates = [run for run in runs if run.get("rate_per_s") is not None]
    if rates and not ratios:
        return element("section", element("h2", question), *_rates(rates), *unsure, class_="answer")
    if not ratios:
        run = runs[0] if runs else None
        headline = "Not measured" if run is None else f"{number(run['median_ms'], 4)} ms"
        detail = None if run is None else f"median, {label(run, runs)}"
        more = f"and {len(runs) - 1} more below" if len(runs) > 1 else None
        return _answer(question, headline, detail, more, *unsure, tone="neutral")
    lines: list[Child] = []
    for ratio in ratios[:N_RATIOS]:
        interval = f"{ratio['low']:.3f} to {ratio['high']:.3f}"
        name = shortened(ratio["b"], NAME_LENGTH)
        note = ratio.get("note") or ""
        said = note.partition(":")[0] if unsure else note  # the machine's noise is told once
        shown = f"{ratio['ratio']:.3f} × the time of {name}"
        lines.append(element("strong", shown, class_=TONES.get(ratio["verdict"], "neutral")))
        said = f" ({said})" if said else ""
        lines.append(element("p", f"{verdict_in_words(ratio)}, {interval}, {label(ratio, ratios)}{said}"))
    if len(ratios) > N_RATIOS:
        lines.append(element("p", f"and {len(ratios) - N_RATIOS} more below"))
    return element("section", element("h2", question), *lines, *unsure, class_="answer")


def _unsure(report: Facts) -> list[Element]:
    """What a reader must know before relying on a number: gates that failed, a noisy machine."""
    gates = report.get("gates") or ()
    failed = sum(gate["verdict"] == "failed" for gate in gates)
    lines = [f"{failed} of {len(gates)} gates failed: slower than allowed."] if failed else []
    if report["environment"].get("noise") == "noisy":
        causes = report["environment"].get("noise_causes")
        lines.append(f"The machine was noisy{f': {causes}' if causes else ''}. Repeat before relying on it.")
    return [element("p", line, class_="bad") for line in lines]


def _rates(runs: Sequence[Facts]) -> list[Child]:
    """The rates that the open loop found."""
    lines: list[Child] = []
    for run in runs[:N_RATIOS]:
        tone = "good" if run["rate_confirmed"] and run["rate_per_s"] else "bad"
        word = "confirmed by another search" if run["rate_confirmed"] else "not confirmed: repeat on a quiet machine"
        name = f"{shortened(run['name'], NAME_LENGTH)}, {label(run, runs)}"
        lines.append(element("strong", f"{number(run['rate_per_s'], 4)} requests/s", class_=tone))
        lines.append(element("p", f"{name}: p95 within {number(run['slo_p95_ms'])} ms, {word}"))
    if len(runs) > N_RATIOS:
        lines.append(element("p", f"and {len(runs) - N_RATIOS} more below"))
    return lines


def _stayed(report: Facts) -> Element:
    question, ledger, channels = "What stayed, and why?", report["ledger"], _channels(report)
    counts = ", ".join(f"{ledger[outcome]} {outcome}" for outcome in OUTCOMES)
    kept = [entry for entry in ledger["entries"] if entry["outcome"] == "kept"]
    if not ledger["found"]:
        return _answer(question, "There was no BatchNorm", channels, tone="neutral")
    if not kept:
        return _answer(question, "No BatchNorm stayed", f"{ledger['found']} found: {counts}", channels, tone="good")
    more = f"And {len(kept) - 1} more, each with its reason, below." if len(kept) > 1 else None
    reason = element("p", f"{kept[0]['name']}: {kept[0]['reason']}", class_="clamp")
    return _answer(
        question,
        f"{len(kept)} of {ledger['found']} BatchNorms stayed",
        f"{ledger['found']} found: {counts}",
        reason,
        more,
        channels,
    )


def _channels(report: Facts) -> str | None:
    """How many dead channels left, None where none did."""
    removed = report.get("removed_channels") or ()
    n_gone = sum(layer["from"] - layer["to"] for layer in removed)
    layers = f"{len(removed)} layer{'' if len(removed) == 1 else 's'}"
    return f"Dead channels: {n_gone:,} removed in {layers}, below." if removed else None


def _answers(*answers: Element) -> Element:
    return element("div", *answers, class_="answers")


def _answer(question: str, headline: str, *details: Child, tone: str = "") -> Element:
    """A card; texts become paragraphs."""
    lines = [element("p", detail) if isinstance(detail, str) else detail for detail in details]
    return element(
        "section", element("h2", question), element("strong", headline, class_=tone), *lines, class_="answer"
    )


def _big(count: int) -> str:
    """A count of multiply-adds: plain below a million, then in millions."""
    return f"{count:,}" if count < 10**6 else f"{count / 1e6:,.1f} million"


def _few(names: Sequence[str]) -> str:
    """The first two names, and how many more there are."""
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(shortened(name, NAME_LENGTH) for name in names[:2]) + more
