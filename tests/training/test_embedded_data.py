"""Data sets made of other data sets: nothing leaks from one split to another, and targets say what inputs show."""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine

from bnfold.errors import InputRefused
from bnfold.training.data import DATA_SETS, SPLITS, MemoryData, make_data
from bnfold.training.data import canvases as canvases_module
from bnfold.training.data import moving as moving_module
from bnfold.training.data.digits import Digits, load_digits
from bnfold.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

CANVAS = ((1, 1, 32, 32),)
VIDEO = ((1, 1, 6, 16, 16),)
LEVELS = {"train": 0.4, "val": 0.6, "test": 0.8}
MAKERS = [
    ("digits", "classification", ((1, 1, 8, 8),)),
    ("digits", "generation", ((1, 16, 1, 1),)),
    ("canvases", "segmentation", CANVAS),
    ("canvases", "detection", CANVAS),
    ("moving-digits", "classification", VIDEO),
    ("breast-cancer", "classification", ((1, 20), (1, 10))),
    ("wine", "classification", ((1, 13),)),
]


def _made(name: str, task: str, shapes: tuple[tuple[int, ...], ...], **recipe: object) -> MemoryData:
    data = make_data(Recipe(data=name, task=task, **recipe), shapes)  # type: ignore[arg-type]
    assert isinstance(data, MemoryData)
    return data


def test_every_data_set_is_tested_here() -> None:
    assert {(name, task) for name, task, _ in MAKERS} == {
        (name, task) for name, entry in DATA_SETS.items() for task in entry.tasks
    }


@pytest.mark.parametrize(("name", "task", "shapes"), MAKERS)
def test_split_seed_decides_everything(name: str, task: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    first, again, other = (_made(name, task, shapes, split_seed=seed) for seed in (1, 1, 2))
    for split in SPLITS:
        tensors = [(*data.splits[split].inputs, data.splits[split].targets) for data in (first, again, other)]
        assert all(torch.equal(a, b) for a, b in zip(tensors[0], tensors[1], strict=True))
        assert not torch.equal(tensors[0][0], tensors[2][0])
        assert [x.shape[1:] for x in first.splits[split].inputs] == [shape[1:] for shape in shapes]
        assert first.facts["split"]["sizes"][split] == len(first.splits[split].targets)


@pytest.fixture
def marked_digits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Digits that are squares of one brightness, another in each split, and no noise."""

    def mark(recipe: Recipe) -> Digits:
        source = load_digits(recipe)
        images = np.zeros_like(source.images)
        for split, index in source.indices.items():
            images[index] = LEVELS[split]
        return source._replace(images=images, facts=MappingProxyType(dict(source.facts)))

    def apply() -> None:
        for module in (canvases_module, moving_module):
            monkeypatch.setattr(module, "load_digits", mark)
            monkeypatch.setattr(module, "NOISE", 0.0)

    return apply


@pytest.mark.parametrize(("name", "task", "shapes"), [MAKERS[2], MAKERS[4]], ids=["canvases", "moving-digits"])
def test_splits_are_composed_of_their_own_digits(
    marked_digits: Callable[[], None], name: str, task: str, shapes: tuple[tuple[int, ...], ...]
) -> None:
    marked_digits()
    data = _made(name, task, shapes)
    for split in SPLITS:
        shades = data.splits[split].inputs[0].unique()
        np.testing.assert_allclose(shades.numpy(), [0.0, LEVELS[split]], rtol=1e-6)


def test_canvas_of_nothing_but_digits(marked_digits: Callable[[], None]) -> None:
    marked_digits()
    (images,), masks = _made("canvases", "segmentation", CANVAS).splits["val"]
    (same,), boxes = _made("canvases", "detection", CANVAS).splits["val"]
    assert torch.equal(images, same)
    assert torch.equal(masks > 0, images[:, 0] > 0)
    for mask, rows in zip(masks, boxes, strict=True):
        present = rows[rows[:, 0] >= 0]
        assert 1 <= len(present) <= canvases_module.MAX_OBJECTS
        drawn = torch.zeros_like(mask)
        for label, left, top, right, bottom in present.long().tolist():
            area = (slice(top, bottom), slice(left, right))
            assert drawn[area].sum() == 0, "two digits overlap"
            drawn[area] = label + 1
        assert torch.equal(drawn, mask)


def test_boxes_are_tight_around_the_ink() -> None:
    _, masks = _made("canvases", "segmentation", CANVAS).splits["test"]
    _, boxes = _made("canvases", "detection", CANVAS).splits["test"]
    for mask, rows in zip(masks, boxes, strict=True):
        for label, left, top, right, bottom in rows[rows[:, 0] >= 0].long().tolist():
            ink = mask[top:bottom, left:right] == label + 1
            assert all(bool(edge.any()) for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))


def test_videos_move_as_their_class_says(marked_digits: Callable[[], None]) -> None:
    marked_digits()
    data = _made("moving-digits", "classification", VIDEO)
    (videos,), classes = data.splits["val"]
    for video, label in zip(videos, classes.tolist(), strict=True):
        corners = [torch.nonzero(frame).amin(0) for frame in video[0]]
        assert all((frame > 0).sum() == 64 for frame in video[0]), "the digit leaves the frame"
        steps = {tuple((b - a).tolist()) for a, b in itertools.pairwise(corners)}
        assert steps == {moving_module.DIRECTIONS[label]}
    assert data.n_classes == len(classes.unique()) == 8


@pytest.mark.parametrize(("name", "bunch"), [("breast-cancer", load_breast_cancer()), ("wine", load_wine())])
def test_columns_are_numbers_or_quarters_of_the_training_rows(name: str, bunch: object) -> None:
    table, n = bunch.data, bunch.data.shape[1]  # type: ignore[attr-defined]
    data = _made(name, "classification", ((1, n - 4), (1, 4)), standardise=False)
    train = data.facts["split"]["indices"]["train"]
    numbers, categories = data.splits["train"].inputs
    low, high = table[train, : n - 4].min(0), table[train, : n - 4].max(0)
    # computed in float64 and rounded once to float32: half an ulp of numbers up to 1
    np.testing.assert_allclose(numbers.numpy(), (table[train, : n - 4] - low) / (high - low), rtol=0, atol=2**-25)
    assert categories.dtype == torch.int64
    for split in SPLITS:
        own = table[data.facts["split"]["indices"][split], n - 4 :]
        quarters = [(own >= np.quantile(table[train, n - 4 :], q, axis=0)).astype(int) for q in (0.25, 0.5, 0.75)]
        np.testing.assert_array_equal(data.splits[split].inputs[1].numpy(), sum(quarters))


def test_standardised_columns() -> None:
    (numbers,), _ = _made("wine", "classification", ((1, 13),)).splits["train"]
    # rounded once to float32: half an ulp of numbers below 8
    np.testing.assert_allclose(numbers.double().mean(0).numpy(), 0, atol=2**-22)
    np.testing.assert_allclose(numbers.double().std(0, correction=0).numpy(), 1, rtol=2**-22)


def test_images_to_imitate_fill_the_range_of_tanh() -> None:
    data = _made("digits", "generation", ((1, 5),))
    (latents,), images = data.splits["train"]
    assert latents.shape == (1259, 5)
    assert images.shape == (1259, 1, 8, 8)
    assert (images.min(), images.max()) == (-1, 1)


@pytest.mark.parametrize(
    ("name", "task", "shapes", "message"),
    [
        ("canvases", "segmentation", ((1, 3, 32, 32),), "the canvases do not fit"),
        ("canvases", "detection", ((1, 1, 16, 32),), "at least 24 pixels"),
        ("moving-digits", "classification", ((1, 1, 12, 16, 16),), "frames \\+ 7"),
        ("wine", "classification", ((1, 12),), r"the columns of wine do not fit.*expected \(1, 13\)"),
        ("breast-cancer", "classification", ((1, 20), (1, 9)), "add up to 30"),
        ("digits", "detection", ((1, 1, 8, 8),), r"no targets for the task 'detection'.*take the data set canvases"),
        ("wine", "clasification", ((1, 13),), "correct the task"),
        ("canvas", "detection", CANVAS, "did you mean canvases"),
        ("folder:", "classification", CANVAS, "there is no data set 'folder:'"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, task: str, shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        _made(name, task, shapes)
