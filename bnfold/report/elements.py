"""HTML as a tree of elements: text is escaped when the tree is written, so that no name can become markup."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element, tostring

__all__ = ["Child", "element", "number_cell", "page"]

Child = Element | str | None
"""What an element may hold; None is left out."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def element(tag: str, *children: Child, **attributes: str) -> Element:
    """An element with its children in order; `class_` and `data_path` stand for `class` and `data-path`."""
    made = Element(tag, {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif child is not None and len(made):
            made[-1].tail = (made[-1].tail or "") + child
        elif child is not None:
            made.text = (made.text or "") + child
    return made


def number_cell(tag: str, text: str, value: Any, path: str, **attributes: str) -> Element:
    """A number as people read it; `data-value` holds it in full, `data-path` its place in the JSON."""
    return element(tag, text, data_value=json.dumps(value), data_path=path, **attributes)


def page(title: str, *body: Child) -> bytes:
    """A page of one file: its style inside it, scripts and requests forbidden by its own policy."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", **{"http-equiv": "Content-Security-Policy"}, content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", files("bnfold.report").joinpath("style.css").read_text(encoding="utf-8")),
    )
    root = element("html", head, element("body", element("main", *body)), lang="en")
    text = tostring(root, encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}\n".encode(errors="replace")  # half a surrogate pair in a file's name
