"""A classifier of colours whose answers are known, and folders of coloured images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
from PIL import Image

from bnfold.export import write_facts
from bnfold.records import FileFacts, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COLOURS = ("red", "green", "blue")
TEXT = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 3, 4, 4] x) => (float[N, 3] logits) {
  mean = GlobalAveragePool (x)
  logits = Flatten <axis = 1> (mean)
}
"""
FACTS = FileFacts("classification", COLOURS, Preprocessing(mean=(0.5,), std=(0.25,), size=(4, 4)))


def image(colour: str, *, brightness: int = 200) -> Image.Image:
    """A picture of 6 x 8 pixels in which one channel is brighter than the others."""
    pixels = np.full((6, 8, 3), 40, np.uint8)
    pixels[..., COLOURS.index(colour)] = brightness
    return Image.fromarray(pixels)


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[..., Path]:
    """Write the file: the largest mean of a channel is the class; `facts` of its metadata."""

    def write(name: str = "colours", facts: FileFacts | None = FACTS, text: str = TEXT) -> Path:
        model = onnx.parser.parse_model(text)
        if facts is not None:
            write_facts(model, facts)
        path = tmp_path / f"{name}.onnx"
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images a class; one of those in `green` is blue."""
    root = tmp_path / "pictures"
    for colour in COLOURS:
        (root / colour).mkdir(parents=True)
        for number in range(4):
            shown = "blue" if (colour, number) == ("green", 0) else colour
            image(shown, brightness=120 + 30 * number).save(root / colour / f"{number}.png")
    return root
