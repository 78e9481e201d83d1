"""Values of a JSON report as cells, lists and tables, without knowing every field: a new one shows up by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.report.elements import element, number_cell
from bnfold.report.tables import number

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["error", "fact_list", "is_empty", "table", "title", "value"]

Facts = Mapping[str, Any]
Format = Callable[[Any], str]

WIDE = 4  # columns from which on a table may be wider than its place
_UNITS = {"ms": "ms", "s": "s", "mb": "MiB", "bytes": "bytes"}
_TITLES = {
    "n": "runs",
    "a": "file",
    "b": "compared with",
    "into": "into",
    "images_per_s": "images/s",
    "low": "from",
    "high": "to",
    "spec": "source",
    "max_abs_scale": "max |s|",
    "min_var_over_eps": "min var/eps",
    "n_dead_channels": "dead channels",
    "n_parameters": "parameters",
    "n_nodes": "nodes",
    "n_compared": "values compared",
    "e_source": "source error",
    "e_output": "file error",
    "macs_before": "multiply-adds before",
    "macs_after": "multiply-adds after",
    "batchnorm_after": "BatchNorm nodes after",
}


def title(key: str) -> str:
    """The heading of a field: `load_ms` is "load ms", unless it has a name of its own."""
    if key in _TITLES:
        return _TITLES[key]
    *words, last = key.split("_")
    return " ".join([*words, _UNITS.get(last, last)])


def error(value: float) -> str:
    """An error, to two digits behind the point of the mantissa."""
    return f"{value:.2e}"


def is_empty(value: Any) -> bool:
    """Whether there is nothing to show: null, empty texts and lists, mappings to such; 0 and false are something."""
    if isinstance(value, Mapping):
        return all(map(is_empty, value.values()))
    return value is None or value in ("", [], ())


def plain(value: float) -> str:
    """A whole number with its thousands apart, another one with four digits."""
    return f"{value:,}" if isinstance(value, int) else number(value, 4)


def value(content: Any, path: str, formatted: Format = plain) -> Element:
    """Any JSON value: a number with its place in the report, a text, a list, a mapping, a table."""
    if isinstance(content, bool) or content is None:
        return element("span", {True: "yes", False: "no", None: "-"}[content])
    if isinstance(content, int | float):
        return number_cell("span", formatted(content), content, path)
    if isinstance(content, Mapping):
        return fact_list(content, path)
    if isinstance(content, list | tuple):
        if content and all(isinstance(item, Mapping) for item in content):
            return table(content, path)
        items = [value(item, f"{path}.{index}", formatted) for index, item in enumerate(content)]
        separated = [part for item in items for part in (", ", item)][1:]
        return element("span", *separated)
    return element("span", str(content))


def fact_list(facts: Facts, path: str) -> Element:
    """A mapping as terms and their values, the empty ones left out."""
    pairs = []
    for key, content in facts.items():
        if not is_empty(content):
            pairs.append(element("dt", title(key)))
            pairs.append(element("dd", value(content, f"{path}.{key}")))
    return element("dl", *pairs)


def table(
    rows: Sequence[Facts], path: str, *, first: Sequence[str] = (), leave_out: Sequence[str] = (),
    formats: Mapping[str, Format] | None = None, indices: Sequence[int] | None = None,
    highlight: Callable[[Facts], str] = lambda _: "",
) -> Element:  # fmt: skip
    """Records as a table; on a phone each row becomes a block with the headings in front of the values.

    Args:
        rows: the records.
        path: their place in the report, `runs` for instance.
        first: columns to begin with; the others follow in their order, but those that are empty in every row.
        leave_out: columns not to show.
        formats: how to write the numbers of a column.
        indices: the places of the rows in the report, where they are not all of it.
        highlight: the class of a row.
    """
    formats = formats or {}
    keys = [*first, *dict.fromkeys(key for row in rows for key in row if key not in first)]
    keys = [key for key in keys if key not in leave_out and not all(is_empty(row.get(key)) for row in rows)]
    numeric = {key for key in keys if all(_is_number(row.get(key)) for row in rows)}
    kinds = {key: "number" if key in numeric else "text" for key in keys}
    head = element("tr", *(element("th", title(key), scope="col", class_=kinds[key]) for key in keys))
    body = []
    for index, row in zip(indices or range(len(rows)), rows, strict=True):
        cells = [
            element(
                "td", value(row.get(key), f"{path}.{index}.{key}", formats.get(key, plain)),
                data_label=title(key), class_=kinds[key],
            )
            for key in keys
        ]  # fmt: skip
        body.append(element("tr", *cells, class_=highlight(row)))
    made = element("table", element("thead", head), element("tbody", *body))
    if len(keys) < WIDE:
        return element("div", made, class_="scroll")
    name = title(path.rpartition(".")[2])  # the keyboard scrolls what has the focus
    return element("div", made, class_="scroll", tabindex="0", role="group", aria_label=name)


def _is_number(content: Any) -> bool:
    return content is None or (isinstance(content, int | float) and not isinstance(content, bool))
