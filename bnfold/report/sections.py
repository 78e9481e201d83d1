"""Sections that several pages have: the ledger, the equality, the channels that left, and what a page does not know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnfold.report.answers import OUTCOMES
from bnfold.report.cells import error, fact_list, is_empty, plain, table, title, value
from bnfold.report.elements import Child, element

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["REMOVED", "folded_away", "ledger_section", "other_sections", "proof_sections", "removed_section", "section"]

Facts = Mapping[str, Any]

N_OPEN = 30  # entries of a ledger that are shown without being asked for
REMOVED = "removed_channels"
_OUTPUT = dict.fromkeys(("e_source", "e_output", "allowed"), error)


def section(heading: str, *content: Child, **attributes: str) -> Element:
    return element("section", element("h2", heading[:1].upper() + heading[1:]), *content, **attributes)


def proof_sections(report: Facts, prefix: str) -> list[Child]:
    """Ledger, equality and latency of a `fold-export`; `prefix` says whose JSON the numbers are in, "" for its own."""
    ledger, verify = report["ledger"], report["verify"]
    outputs = None
    if verify["outputs"]:
        first = ("name", "e_source", "e_output", "allowed")
        outputs = table(verify["outputs"], f"{prefix}verify.outputs", first=first, formats=_OUTPUT)
    rest = {key: content for key, content in verify.items() if key != "outputs"}
    measured = ledger.get("measured")
    return [
        ledger_section(ledger, f"{prefix}ledger"),
        removed_section(report, prefix),
        section("Equality", outputs, fact_list(rest, f"{prefix}verify")),
        None if measured is None else section("Latency", fact_list(measured, f"{prefix}ledger.measured")),
    ]


def removed_section(report: Facts, prefix: str) -> Element | None:
    removed = report.get(REMOVED)  # a report of an earlier version has none
    return section("Dead channels that were removed", table(removed, f"{prefix}{REMOVED}")) if removed else None


def ledger_section(ledger: Facts, path: str) -> Element:
    """Counts, warnings, what stayed, and then what the others became; `path` is the ledger's place in the JSON."""
    counts = {key: ledger[key] for key in ("found", *OUTCOMES)}
    known = (*counts, "entries", "warnings", "measured")
    others = {key: own for key, own in ledger.items() if key not in known and not is_empty(own)}
    warnings = [element("p", f"Warning: {warning}", class_="bad") for warning in ledger.get("warnings") or ()]
    numbered = list(enumerate(ledger["entries"]))
    kept = [(index, entry) for index, entry in numbered if entry["outcome"] == "kept"]
    gone = [(index, entry) for index, entry in numbered if entry["outcome"] != "kept"]
    return section(
        "BatchNorms",
        fact_list(counts, path),
        *warnings,
        _entries(kept, path) if kept else None,
        folded_away(f"{len(gone)} that vanished", _entries(gone, path), shown=len(gone) <= N_OPEN) if gone else None,
        fact_list(others, path) if others else None,
        id="batchnorms",
    )


def _entries(numbered: list[tuple[int, Facts]], path: str) -> Element:
    return table(
        [entry for _, entry in numbered],
        f"{path}.entries",
        first=("name", "outcome", "reason", "into"),
        indices=[index for index, _ in numbered],
        highlight=lambda entry: entry["outcome"],
    )


def folded_away(summary: str, content: Element, *, shown: bool) -> Element:
    return element("details", element("summary", summary), content, **({"open": "open"} if shown else {}))


def other_sections(report: Facts, known: tuple[str, ...]) -> list[Child]:
    """What the report holds besides the known fields."""
    rest = [(key, content) for key, content in report.items() if key not in known and not is_empty(content)]
    return [section(title(key), value(content, key, plain)) for key, content in rest]
