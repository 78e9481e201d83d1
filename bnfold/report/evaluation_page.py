"""The sections of the page of `bnfold evaluate`: metrics, differences, the confusion matrix, the worst mistakes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.report.cells import table
from bnfold.report.elements import Child, element, number_cell

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["confusion_matrix", "differences", "metrics", "mistakes"]

Facts = Mapping[str, Any]

MAX_CLASSES = 40
"""Rows and columns of a confusion matrix that a page can show."""
N_CONFUSED = 20


def metrics(report: Facts) -> Element:
    """One row for each file: every metric with its interval."""
    names = list(dict.fromkeys(name for file in report["files"] for name in file["metrics"]))
    head = element("tr", element("th", "file", scope="col"), *(element("th", name, scope="col") for name in names))
    rows = []
    for index, file in enumerate(report["files"]):
        cells: list[Child] = [element("th", file["name"], scope="row")]
        for name in names:
            own = file["metrics"].get(name)
            if own is None:
                cells.append(element("td", "-", data_label=name))
                continue
            path = f"files.{index}.metrics.{name}"
            parts = [
                number_cell("span", f"{own[key]:.4f}", own[key], f"{path}.{key}") for key in ("value", "low", "high")
            ]
            cells.append(element("td", parts[0], " (", parts[1], " to ", parts[2], ")", data_label=name))
        rows.append(element("tr", *cells))
    return element("div", element("table", element("thead", head), element("tbody", *rows)), class_="scroll")


def differences(report: Facts) -> Element | None:
    """The first file against the others."""
    if not report["pairs"]:
        return None
    formats = dict.fromkeys(("difference", "low", "high"), lambda value: f"{value:+.4f}")
    return table(report["pairs"], "pairs", first=("a", "b", "metric", "difference", "low", "high"), formats=formats)


def confusion_matrix(file: Facts, index: int) -> list[Child]:
    """Labels by predictions; of many classes only the pairs that are confused most."""
    matrix, names = file.get("confusion"), file["classes"]
    if matrix is None:
        return []
    if len(names) > MAX_CLASSES:
        return [_most_confused(matrix, names)]
    head = element("tr", element("th", "label \\ said", scope="col"), *(element("th", n, scope="col") for n in names))
    body = []
    for i, row in enumerate(matrix):
        most = max(sum(row), 1)
        cells = [
            number_cell(
                "td", str(count) if count else "", count, f"files.{index}.confusion.{i}.{j}", data_label=names[j],
                class_=f"number {'right' if i == j else 'wrong'} s{min(9, 10 * count // most)}" if count else "number",
            )
            for j, count in enumerate(row)
        ]  # fmt: skip
        body.append(element("tr", element("th", names[i], scope="row"), *cells))
    made = element("table", element("thead", head), element("tbody", *body), class_="confusion")
    return [element("div", made, class_="scroll")]


def _most_confused(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Element:
    pairs = sorted(
        ((count, i, j) for i, row in enumerate(matrix) for j, count in enumerate(row) if count and i != j),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )[:N_CONFUSED]
    items = [element("li", f"{names[i]} taken for {names[j]}: {count}") for count, i, j in pairs]
    return element("ol", *items) if items else element("p", "No sample was misclassified.")


def mistakes(file: Facts, pictures: Sequence[bytes]) -> Element | None:
    """The surest mistakes, with what the network saw."""
    found = file.get("worst_mistakes")
    if not found:
        return None
    cards = []
    for number, mistake in enumerate(found):
        said = f"{mistake['label']} taken for {mistake['predicted']} ({mistake['probability']:.3f})"
        where = mistake["sample"] or f"sample {mistake['index']}"
        picture = None
        if number < len(pictures):
            source = f"data:image/png;base64,{base64.b64encode(pictures[number]).decode()}"
            picture = element("img", src=source, alt=f"{where}: {said}")
        cards.append(element("figure", picture, element("figcaption", said, element("br"), where)))
    return element("div", *cards, class_="pictures")
