"""`bnfold predict`: class names and probabilities, masks and boxes, from the file alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import bnfold
from bnfold.errors import InputRefused
from bnfold.records import FileFacts, Preprocessing

from .conftest import TEXT, image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Cli = Callable[..., Result]

SMALL = Preprocessing(size=(4, 4))
PIXELS = (
    TEXT.split("{", maxsplit=1)[0].replace("float[N, 3] logits", "float[N, 3, 4, 4] scores")
    + "{ scores = Identity (x) }"
)


def test_names_and_probabilities(cli: Cli, classifier: Callable[..., Path], folder: Path) -> None:
    result = cli("predict", classifier(), folder / "red" / "3.png", "--json", "-", "--top", 2)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    (first, sure), (_, other) = found["classes"]
    logits = (np.array([210, 40, 40]) / 255 - 0.5) / 0.25
    expected = np.exp(logits) / np.exp(logits).sum()
    assert first == "red"
    assert (sure, other) == pytest.approx((expected[0], expected[1]), rel=1e-5)


def test_a_folder_and_a_table(cli: Cli, classifier: Callable[..., Path], folder: Path) -> None:
    result = cli("predict", classifier(), folder)
    assert result.stdout.count(".png") == 12
    assert "red 0." in result.stdout


def test_a_mask(classifier: Callable[..., Path], tmp_path: Path) -> None:
    facts = FileFacts("segmentation", ("red", "green", "blue"), Preprocessing(size=(4, 4)))
    image("green").resize((4, 4)).save(tmp_path / "green.png")
    (found,) = bnfold.predict(
        classifier("pixels", facts, PIXELS), tmp_path / "green.png", pictures=tmp_path / "pictures"
    )  # fmt: skip
    assert found.areas == {"green": 1.0}
    assert found.picture is not None
    with Image.open(found.picture) as picture:
        assert picture.size == (4, 4)


def test_boxes_of_the_detector_of_the_zoo(tmp_path: Path) -> None:
    bnfold.train("detector", tmp_path / "run", epochs=1, batch_size=200)
    bnfold.fold_export(tmp_path / "run", tmp_path / "out")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32), np.uint8)).save(tmp_path / "canvas.png")
    (found,) = bnfold.predict(
        tmp_path / "out" / "model.onnx", tmp_path / "canvas.png", normalize="none,channels=gray",
        pictures=tmp_path / "pictures",
    )  # fmt: skip
    assert found.picture is not None
    assert found.picture.is_file()
    assert all(0 <= score <= 1 for _, score, *_ in found.boxes)


@pytest.mark.parametrize(
    ("facts", "name", "task", "words"),
    [
        (None, "red/0.png", None, "nothing says how images become the input"),
        (FileFacts("generation", preprocessing=SMALL), "red/0.png", None, "nothing can be predicted"),
        (FileFacts(preprocessing=SMALL), "none.png", None, "no such image"),
        (FileFacts(preprocessing=SMALL), "empty", None, "the folder holds no image"),
        (FileFacts(preprocessing=Preprocessing(size=(5, 5))), "red/0.png", None, "do not fit the inputs"),
        (FileFacts(preprocessing=SMALL), "red/0.png", "detection", "does not fit the task"),
    ],
)
def test_bad_input(
    classifier: Callable[..., Path], folder: Path, *, facts: FileFacts | None, name: str, task: str | None, words: str
) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputRefused, match=words):
        bnfold.predict(classifier(facts=facts), folder / name, task=task)
