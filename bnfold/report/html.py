"""`report.html`: one file that holds the whole report, opens offline, and reads on a phone, in dark and in light.

It is made of the JSON form of a report and nothing else: every number of a table carries its place in the JSON and its
full value, and a field that this module does not know is shown under its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.records import as_json
from bnfold.report.answers import (
    NAME_LENGTH,
    OUTCOMES,
    bench_answers,
    evaluation_answers,
    fold_export_answers,
    inspection_answers,
)
from bnfold.report.cells import error, fact_list, is_empty, plain, table, title, value
from bnfold.report.elements import Child, element, page
from bnfold.report.evaluation_page import confusion_matrix, differences, metrics, mistakes
from bnfold.report.layer_pictures import layer_panels
from bnfold.report.network_page import network_section
from bnfold.report.pictures import WIDTH_IN, Panel, panels
from bnfold.report.settings import shortened
from bnfold.report.svg import drawing, inline_svg, new_figure
from bnfold.report.tables import number
from bnfold.report.write import write_bytes
from bnfold.version import __version__

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

__all__ = ["PAGES", "ledger_section", "other_sections", "render_html", "write_html"]

Facts = Mapping[str, Any]

PAGES = ("bnfold.fold-export/", "bnfold.inspect/", "bnfold.bench/", "bnfold.evaluate/", "bnfold.quantize/")
"""The schemas that have a page."""
PICTURES_NEED = "Pictures need matplotlib; run `pip install bnfold[report]`."
N_OPEN = 30  # entries of a ledger that are shown without being asked for
_THREE = dict.fromkeys(("ratio", "low", "high"), lambda ratio: f"{ratio:.3f}")
_RUN = {key: lambda ms: number(ms, 4) for key in ("median_ms", "p90_ms", "p95_ms", "p99_ms")}
_SHARE = {"ms": lambda ms: number(ms, 3), "share": lambda share: f"{share:.1%}"}
_RATIO = "time(file) / time(compared with)"
_SELDOM = ("cuda_graph",)  # columns that are shown where a row has a yes
_REMOVED = "removed_channels"
_DRAWN = ("network", "merged_branches", _REMOVED)
_OUTPUT = dict.fromkeys(("e_source", "e_output", "allowed"), error)


def write_html(record: Any, target: Path, *, proof: Facts | None = None, pictures: Sequence[bytes] = ()) -> None:
    """Write a report as a page; see `render_html`.

    Raises:
        InputRefused: the file cannot be written.
        EnvironmentNotReady: matplotlib is missing, which the pictures of a measurement need.
    """
    write_bytes(render_html(as_json(record), proof=proof, pictures=pictures), target)


def render_html(
    report: Facts, *, proof: Facts | None = None, pictures: Sequence[bytes] = (), drawn: bool = True
) -> bytes:
    """The page of a report, the same bytes every time.

    Args:
        report: the JSON of `bnfold fold-export`, `bnfold bench`, `bnfold evaluate` or `bnfold quantize`.
        proof: for `bench`, the JSON of `fold-export` on the first file, which tells whether it is equal.
        pictures: for `evaluate`, PNG files of the worst mistakes of the first file, in their order.
        drawn: whether a measurement has its pictures, which need matplotlib.

    Raises:
        ValueError: another schema.
        EnvironmentNotReady: matplotlib is missing, which the pictures of a measurement need.
    """
    schema = str(report.get("schema"))
    if schema.startswith("bnfold.fold-export/"):
        name, body = str(report["source"]["spec"]), _fold_export(report)
    elif schema.startswith("bnfold.inspect/"):
        name, body = str(report["source"]["spec"]), _inspection(report)
    elif schema.startswith("bnfold.bench/"):
        names = dict.fromkeys(shortened(run["name"], NAME_LENGTH) for run in report["runs"])
        name, body = ", ".join(names) or "nothing measured", _bench(report, proof, drawn=drawn)
    elif schema.startswith("bnfold.evaluate/"):
        name, body = str(report["data"]["spec"]), _evaluation(report, pictures)
    elif schema.startswith("bnfold.quantize/"):
        name, body = str(report["source"]["spec"]), _quantize(report, drawn=drawn)
    else:
        raise ValueError(f"no page for the schema {schema}")
    command = schema.partition("/")[0].replace(".", " ")
    heading = element("h1", name, element("small", f"{command}, version {__version__}"))
    return page(f"{name} - {command}", heading, *body)


def _fold_export(report: Facts) -> list[Child]:
    known = ("schema", "passed", "source", "output", "graph", "seconds", "environment", "ledger", "verify", *_DRAWN)
    return [
        fold_export_answers(report),
        network_section(report),
        *_proof_sections(report, ""),
        *(_section(title(key), fact_list(report[key], key)) for key in known[2:7] if not is_empty(report.get(key))),
        *other_sections(report, known),
    ]


def _inspection(report: Facts) -> list[Child]:
    return [
        inspection_answers(report),
        network_section(report),
        ledger_section(report["ledger"], "ledger"),
        _removed(report, ""),
        _section("Source", fact_list(report["source"], "source")),
        *other_sections(report, ("schema", "source", "ledger", *_DRAWN)),
    ]


def _bench(report: Facts, proof: Facts | None, *, drawn: bool) -> list[Child]:
    unfinished = None
    if report.get("complete") is False:
        unfinished = element("p", "Interrupted: this is what was measured so far.", class_="bad")
    ratios = runs = None
    if report["ratios"]:
        unused = [key for key in _SELDOM if not any(ratio.get(key) for ratio in report["ratios"])]
        ratios = table(report["ratios"], "ratios", first=("a", "b", "batch"), leave_out=unused, formats=_THREE)
    if report["runs"]:
        first = ("name", "batch", "median_ms", "p90_ms", "p95_ms", "p99_ms", "images_per_s", "n")
        unused = [key for key in _SELDOM if not any(run.get(key) for run in report["runs"])]
        runs = table(report["runs"], "runs", first=first, leave_out=unused, formats=_RUN)
    figures = _figures(panels(report), drawn=drawn)
    return [
        unfinished,
        bench_answers(report, proof),
        _section("Pictures", *figures) if figures else None,
        None if ratios is None else _section("Ratios", element("p", _RATIO, class_="note"), ratios),
        _section("Runs", runs) if runs is not None else None,
        None if proof is None else network_section(proof, profile=_first_profile(report)),
        *_profiles(report),
        *([] if proof is None else _proof_sections(proof, "report.json:")),
        *other_sections(report, ("schema", "complete", "runs", "ratios", "profiles", "environment")),
        _section("Environment", fact_list(report["environment"], "environment")),
    ]


def _quantize(report: Facts, *, drawn: bool) -> list[Child]:
    shown = ("timing", "source", "output", "seconds")
    known = ("schema", "passed", "failures", "warnings", "layers", "plans", "ledger", *_DRAWN, *shown)
    ledger = report.get("ledger")  # a report of an earlier version has none
    held_back = [element("p", failure, class_="bad") for failure in report["failures"]]
    tried = table(report["plans"], "plans", first=("name", "ratio", "low", "high"), formats=_THREE)
    layers = table(report["layers"], "layers", first=("name", "op", "precision", "sqnr_db", "sentence"))
    return [
        _section("No file: what holds it back", *held_back) if held_back else None,
        *(element("p", warning, class_="note") for warning in report["warnings"]),
        network_section(report),
        _section("Layers", *_figures(layer_panels(report), drawn=drawn), layers),
        _section("Plans, timed against the float file", tried) if report["plans"] else None,
        *(_section(title(key), fact_list(report[key], key)) for key in shown if not is_empty(report.get(key))),
        None if ledger is None else ledger_section(ledger, "ledger"),
        _removed(report, ""),
        *other_sections(report, known),
    ]


def _evaluation(report: Facts, pictures: Sequence[bytes]) -> list[Child]:
    first = report["files"][0]
    pairs = differences(report)
    weakest = sorted(first["per_class"], key=lambda own: own["recall"])
    sections: list[Child] = [
        evaluation_answers(report),
        _section("Metrics", element("p", "With 99 % intervals.", class_="note"), metrics(report)),
        None if pairs is None else _section("Differences, sample by sample", pairs),
        None if not report["gates"] else _section("Gates", table(report["gates"], "gates", first=("name", "verdict"))),
    ]
    for index, file in enumerate(report["files"]):
        matrix = confusion_matrix(file, index)
        if matrix:
            sections.append(_section(f"Confusion of {file['name']}", *matrix))
    if weakest:
        sections.append(_section("Classes, weakest first", table(weakest, "files.0.per_class", first=("name",))))
    wrong = mistakes(first, pictures)
    if wrong is not None:
        sections.append(_section("The surest mistakes", wrong))
    known = ("schema", "data", "task", "files", "pairs", "gates", "seconds")
    return [*sections, *other_sections(report, known), _section("Data", fact_list(report["data"], "data"))]


def _first_profile(report: Facts) -> Facts | None:
    """Where the time of the first file goes, in the first cell of the grid that it was profiled in."""
    profiles = report.get("profiles") or ()
    return next((profile for profile in profiles if profile["name"] == report["runs"][0]["name"]), None)


def _profiles(report: Facts) -> list[Element]:
    """Where the time of each file goes; layers are many, and shown when asked for."""
    sections = []
    for index, profile in enumerate(report.get("profiles") or ()):
        path = f"profiles.{index}"
        parts = {key: table(profile[key], f"{path}.{key}", formats=_SHARE) for key in ("operators", "layers")}
        facts = {key: content for key, content in profile.items() if key not in parts}
        layers = _folded_away(f"{len(profile['layers'])} layers", parts["layers"], shown=False)
        heading = f"Where the time of {profile['name']} goes"
        sections.append(_section(heading, fact_list(facts, path), parts["operators"], layers))
    return sections


def _figures(shown: Sequence[Panel], *, drawn: bool) -> list[Element]:
    """Each picture with the sentence that says how to read it, or the sentence that says what they need."""
    if not (shown and drawn):
        return [element("p", PICTURES_NEED, class_="note")] if shown else []
    made = []
    with drawing():
        for panel in shown:
            panel.draw(figure := new_figure(WIDTH_IN, panel.height_in))
            picture = inline_svg(figure, panel.name, panel.caption)
            made.append(element("figure", picture, element("figcaption", panel.caption)))
    return made


def _proof_sections(report: Facts, prefix: str) -> list[Child]:
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
        _removed(report, prefix),
        _section("Equality", outputs, fact_list(rest, f"{prefix}verify")),
        None if measured is None else _section("Latency", fact_list(measured, f"{prefix}ledger.measured")),
    ]


def _removed(report: Facts, prefix: str) -> Element | None:
    removed = report.get(_REMOVED)  # a report of an earlier version has none
    return _section("Dead channels that were removed", table(removed, f"{prefix}{_REMOVED}")) if removed else None


def ledger_section(ledger: Facts, path: str) -> Element:
    """Counts, warnings, what stayed, and then what the others became; `path` is the ledger's place in the JSON."""
    counts = {key: ledger[key] for key in ("found", *OUTCOMES)}
    known = (*counts, "entries", "warnings", "measured")
    others = {key: own for key, own in ledger.items() if key not in known and not is_empty(own)}
    warnings = [element("p", f"Warning: {warning}", class_="bad") for warning in ledger.get("warnings") or ()]
    numbered = list(enumerate(ledger["entries"]))
    kept = [(index, entry) for index, entry in numbered if entry["outcome"] == "kept"]
    gone = [(index, entry) for index, entry in numbered if entry["outcome"] != "kept"]
    return _section(
        "BatchNorms",
        fact_list(counts, path),
        *warnings,
        _entries(kept, path) if kept else None,
        _folded_away(f"{len(gone)} that vanished", _entries(gone, path), shown=len(gone) <= N_OPEN) if gone else None,
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


def _folded_away(summary: str, content: Element, *, shown: bool) -> Element:
    return element("details", element("summary", summary), content, **({"open": "open"} if shown else {}))


def other_sections(report: Facts, known: tuple[str, ...]) -> list[Child]:
    """What the report holds besides the known fields."""
    rest = [(key, content) for key, content in report.items() if key not in known and not is_empty(content)]
    return [_section(title(key), value(content, key, plain)) for key, content in rest]


def _section(heading: str, *content: Child, **attributes: str) -> Element:
    return element("section", element("h2", heading[:1].upper() + heading[1:]), *content, **attributes)
