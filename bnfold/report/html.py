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
    bench_answers,
    evaluation_answers,
    fold_export_answers,
    inspection_answers,
)
from bnfold.report.cells import fact_list, is_empty, table, title
from bnfold.report.elements import Child, element, page
from bnfold.report.evaluation_page import confusion_matrix, differences, metrics, mistakes
from bnfold.report.layer_pictures import layer_panels
from bnfold.report.network_page import network_section
from bnfold.report.pictures import WIDTH_IN, Panel, panels
from bnfold.report.sections import (
    REMOVED,
    folded_away,
    ledger_section,
    other_sections,
    proof_sections,
    removed_section,
    section,
)
from bnfold.report.settings import shortened
from bnfold.report.svg import drawing, inline_svg, new_figure
from bnfold.report.tables import number
from bnfold.report.write import write_bytes
from bnfold.version import __version__

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

__all__ = ["PAGES", "render_html", "write_html"]

Facts = Mapping[str, Any]

PAGES = ("bnfold.fold-export/", "bnfold.inspect/", "bnfold.bench/", "bnfold.evaluate/", "bnfold.quantize/")
"""The schemas that have a page."""
PICTURES_NEED = "Pictures need matplotlib; run `pip install bnfold[report]`."
_THREE = dict.fromkeys(("ratio", "low", "high"), lambda ratio: f"{ratio:.3f}")
_RUN = {key: lambda ms: number(ms, 4) for key in ("median_ms", "p90_ms", "p95_ms", "p99_ms")}
_SHARE = {"ms": lambda ms: number(ms, 3), "share": lambda share: f"{share:.1%}"}
_RATIO = "time(file) / time(compared with)"
_SELDOM = ("cuda_graph",)  # columns that are shown where a row has a yes
_DRAWN = ("network", "merged_branches", REMOVED)


def write_html(record: Any, target: Path, *, proof: Facts | None = None, pictures: Sequence[bytes] = ()) -> None:
    """Write a report as a page; see `render_html`.

    Raises:
        InputRefused: the file cannot be written.
        EnvironmentNotReady: matplotlib is missing, which the pictures of a measurement need.
    """
    write_bytes(render_html(as_json(record), proof=proof, pictures=pictures), target)


def render_html(
    report: Facts, *, proof: Facts | None = None, pictures: Sequence[bytes] = (), drawn: bool = True,
    linked: bool = True,
) -> bytes:  # fmt: skip
    """The page of a report, the same bytes every time.

    Args:
        report: the JSON of `bnfold fold-export`, `bnfold bench`, `bnfold evaluate` or `bnfold quantize`.
        proof: for `bench`, the JSON of `fold-export` on the first file, which tells whether it is equal.
        pictures: for `evaluate`, PNG files of the worst mistakes of the first file, in their order.
        drawn: whether a measurement has its pictures, which need matplotlib.
        linked: whether it has links into itself, see `network_section`.

    Raises:
        ValueError: another schema.
        EnvironmentNotReady: matplotlib is missing, which the pictures of a measurement need.
    """
    schema = str(report.get("schema"))
    if schema.startswith("bnfold.fold-export/"):
        name, body = str(report["source"]["spec"]), _fold_export(report, linked=linked)
    elif schema.startswith("bnfold.inspect/"):
        name, body = str(report["source"]["spec"]), _inspection(report, linked=linked)
    elif schema.startswith("bnfold.bench/"):
        names = dict.fromkeys(shortened(run["name"], NAME_LENGTH) for run in report["runs"])
        name, body = ", ".join(names) or "nothing measured", _bench(report, proof, drawn=drawn, linked=linked)
    elif schema.startswith("bnfold.evaluate/"):
        name, body = str(report["data"]["spec"]), _evaluation(report, pictures)
    elif schema.startswith("bnfold.quantize/"):
        name, body = str(report["source"]["spec"]), _quantize(report, drawn=drawn, linked=linked)
    else:
        raise ValueError(f"no page for the schema {schema}")
    command = schema.partition("/")[0].replace(".", " ")
    heading = element("h1", name, element("small", f"{command}, version {__version__}"))
    return page(f"{name} - {command}", heading, *body)


def _fold_export(report: Facts, *, linked: bool) -> list[Child]:
    known = ("schema", "passed", "source", "output", "graph", "seconds", "environment", "ledger", "verify", "timing")
    return [
        fold_export_answers(report),
        network_section(report, linked=linked),
        *proof_sections(report, ""),
        *(section(title(key), fact_list(report[key], key)) for key in known[2:7] if not is_empty(report.get(key))),
        _timing(report.get("timing")),
        *other_sections(report, (*known, *_DRAWN)),
    ]


def _timing(timing: Facts | None) -> Element | None:
    """The time against the other file; layers are many, and shown when asked for."""
    if not timing:
        return None
    layers = timing.get("layers")
    shown = folded_away(f"{len(layers)} layers", table(layers, "timing.layers"), shown=False) if layers else None
    return section("Timing", fact_list({**timing, "layers": None}, "timing"), shown)


def _inspection(report: Facts, *, linked: bool) -> list[Child]:
    return [
        inspection_answers(report),
        network_section(report, linked=linked),
        ledger_section(report["ledger"], "ledger"),
        removed_section(report, ""),
        section("Source", fact_list(report["source"], "source")),
        *other_sections(report, ("schema", "source", "ledger", *_DRAWN)),
    ]


def _bench(report: Facts, proof: Facts | None, *, drawn: bool, linked: bool) -> list[Child]:
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
        section("Pictures", *figures) if figures else None,
        None if ratios is None else section("Ratios", element("p", _RATIO, class_="note"), ratios),
        section("Runs", runs) if runs is not None else None,
        None if proof is None else network_section(proof, profile=_first_profile(report), linked=linked),
        *_profiles(report),
        *([] if proof is None else proof_sections(proof, "report.json:")),
        *other_sections(report, ("schema", "complete", "runs", "ratios", "profiles", "environment")),
        section("Environment", fact_list(report["environment"], "environment")),
    ]


def _quantize(report: Facts, *, drawn: bool, linked: bool) -> list[Child]:
    shown = ("timing", "source", "output", "seconds")
    known = ("schema", "passed", "failures", "warnings", "layers", "plans", "ledger", *_DRAWN, *shown)
    ledger = report.get("ledger")  # a report of an earlier version has none
    held_back = [element("p", failure, class_="bad") for failure in report["failures"]]
    tried = table(report["plans"], "plans", first=("name", "ratio", "low", "high"), formats=_THREE)
    layers = table(report["layers"], "layers", first=("name", "op", "precision", "sqnr_db", "sentence"))
    return [
        section("No file: what holds it back", *held_back) if held_back else None,
        *(element("p", warning, class_="note") for warning in report["warnings"]),
        network_section(report, linked=linked),
        section("Layers", *_figures(layer_panels(report), drawn=drawn), layers),
        section("Plans, timed against the float file", tried) if report["plans"] else None,
        *(section(title(key), fact_list(report[key], key)) for key in shown if not is_empty(report.get(key))),
        None if ledger is None else ledger_section(ledger, "ledger"),
        removed_section(report, ""),
        *other_sections(report, known),
    ]


def _evaluation(report: Facts, pictures: Sequence[bytes]) -> list[Child]:
    first = report["files"][0]
    pairs = differences(report)
    weakest = sorted(first["per_class"], key=lambda own: own["recall"])
    sections: list[Child] = [
        evaluation_answers(report),
        section("Metrics", element("p", "With 99 % intervals.", class_="note"), metrics(report)),
        None if pairs is None else section("Differences, sample by sample", pairs),
        None if not report["gates"] else section("Gates", table(report["gates"], "gates", first=("name", "verdict"))),
    ]
    for index, file in enumerate(report["files"]):
        matrix = confusion_matrix(file, index)
        if matrix:
            sections.append(section(f"Confusion of {file['name']}", *matrix))
    if weakest:
        sections.append(section("Classes, weakest first", table(weakest, "files.0.per_class", first=("name",))))
    wrong = mistakes(first, pictures)
    if wrong is not None:
        sections.append(section("The surest mistakes", wrong))
    known = ("schema", "data", "task", "files", "pairs", "gates", "seconds")
    return [*sections, *other_sections(report, known), section("Data", fact_list(report["data"], "data"))]


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
        layers = folded_away(f"{len(profile['layers'])} layers", parts["layers"], shown=False)
        heading = f"Where the time of {profile['name']} goes"
        sections.append(section(heading, fact_list(facts, path), parts["operators"], layers))
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
