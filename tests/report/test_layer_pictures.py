"""The picture of layers: all of a small network, the most telling of a large one, with or without times."""

from __future__ import annotations

from typing import Any

import pytest

from bnfold.report.layer_pictures import MOST_ROWS, layer_panels
from bnfold.report.pictures import WIDTH_IN
from bnfold.report.svg import drawing, inline_svg, new_figure


def layer(k: int, **facts: Any) -> dict[str, Any]:
    return {
        "name": f"conv{k}",
        "op": "Conv",
        "precision": "int8",
        "sqnr_db": 20.0 + k,
        "ms": None,
        "float_ms": None,
    } | facts


def drawn(layers: list[dict[str, Any]]) -> tuple[str, str]:
    from xml.etree import ElementTree as ET

    (panel,) = layer_panels({"layers": layers})
    with drawing():
        figure = new_figure(WIDTH_IN, panel.height_in)
        panel.draw(figure)
        text = ET.tostring(inline_svg(figure, panel.name, panel.caption), encoding="unicode")
    return text, panel.caption


def test_every_layer_of_a_small_network_is_named_with_its_precision_and_times() -> None:
    layers = [layer(0, ms=1.5, float_ms=3.0), layer(1, precision="float32", ms=2.25, float_ms=2.0)]
    text, caption = drawn(layers)
    for words in ("int8  conv0", "float32  conv1", "1.5 of 3", "2.25 of 2", "error in dB", "ms; less is better"):
        assert words in text
    assert "in grey" in caption


def test_without_times_there_are_only_errors() -> None:
    text, caption = drawn([layer(0), layer(1)])
    assert "ms; less is better" not in text
    assert "in grey" not in caption


@pytest.mark.parametrize("timed", [False, True])
def test_of_many_layers_the_most_telling_are_shown_in_order(timed: bool) -> None:
    n = MOST_ROWS + 10
    layers = [layer(k, **({"ms": float(n - k), "float_ms": 0.1} if timed else {})) for k in range(n)]
    text, caption = drawn(layers)
    assert f"{MOST_ROWS} of {n} layers" in caption
    assert f"conv{MOST_ROWS - 1}<" in text  # the first have least decibels, and take most time
    assert f"conv{MOST_ROWS}<" not in text
    assert text.index("conv0<") < text.index("conv1<") < text.index(f"conv{MOST_ROWS - 1}<")


def test_layers_without_figures_make_no_picture() -> None:
    assert layer_panels({"layers": [layer(0, sqnr_db=None)]}) == []
