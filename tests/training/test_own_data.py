"""Data of a user's own: folders of images and arrays, what is read and what is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from bnfold.errors import InputRefused
from bnfold.training.data import SPLITS, Batch, DataSet, make_data
from bnfold.training.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

COLOUR = ((1, 3, 6, 6),)
Shapes = tuple[tuple[int, ...], ...]


def _write_images(folder: Path, n: int, level: int) -> None:
    folder.mkdir(parents=True)
    for number in range(n):
        Image.new("RGB", (9, 7), (level, number, 0)).save(folder / f"{number}.png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten images of each of two classes, told apart by red."""
    for name, level in (("dark", 50), ("light", 200)):
        _write_images(tmp_path / "images" / name, 10, level)
    return tmp_path / "images"


def _folder(path: Path, shapes: Shapes = COLOUR, **recipe: Any) -> DataSet:
    return make_data(Recipe(data=f"folder:{path}", **recipe), shapes)


def _all(data: DataSet, split: Any) -> Batch:
    (batch,) = data.batches(split, 1000)
    return batch


def test_folder_of_classes_is_split(images: Path) -> None:
    data = _folder(images, standardise=False)
    sizes = {split: len(_all(data, split).targets) for split in SPLITS}
    assert sizes == data.facts["split"]["sizes"] == {"train": 14, "val": 2, "test": 4}
    assert (data.n_classes, data.facts["classes"]) == (2, ["dark", "light"])
    seen = []
    for split in SPLITS:
        (pixels,), targets = _all(data, split)
        assert pixels.shape[1:] == (3, 6, 6)
        reds = (pixels[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(reds, torch.where(targets == 0, 50, 200))
        seen += [(int(t), int(g)) for t, g in zip(targets, (pixels[:, 1, 0, 0] * 255).round(), strict=True)]
    assert sorted(seen) == [(label, number) for label in (0, 1) for number in range(10)]


def test_pixels_are_standardised_over_training(images: Path) -> None:
    (pixels,), _ = _all(_folder(images), "train")
    varying = pixels[:, :2].double()
    # pixel, mean, deviation, difference and quotient are rounded to float32: numbers below 4
    tolerance = 8 * np.finfo(np.float32).eps
    np.testing.assert_allclose(varying.mean((0, 2, 3)).numpy(), 0, atol=tolerance)
    np.testing.assert_allclose(varying.std((0, 2, 3), correction=0).numpy(), 1, rtol=tolerance)
    assert pixels[:, 2].abs().max() == 0, "a channel that is one value everywhere stays finite"


def test_images_become_gray_for_one_channel(images: Path) -> None:
    (pixels,), _ = _all(_folder(images, ((1, 1, 4, 4),)), "test")
    assert pixels.shape == (4, 1, 4, 4)


def test_folders_of_splits_stay_apart(tmp_path: Path) -> None:
    for split, n in (("train", 10), ("test", 3)):
        for name, level in (("dark", 50), ("light", 200)):
            _write_images(tmp_path / split / name, n, level)
    data = _folder(tmp_path)
    assert data.facts["split"]["sizes"] == {"train": 18, "val": 2, "test": 6}
    assert "folders train, test" in data.facts["split"]["scheme"]


def test_unreadable_image_is_named(images: Path) -> None:
    (images / "dark" / "3.png").write_bytes(b"no image")
    with pytest.raises(InputRefused, match=r"an image cannot be read in .*dark/3\.png"):
        _folder(images)


def test_image_that_ends_early_is_named_when_it_is_decoded(images: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(images / "dark" / "3.jpg")
    content = (images / "dark" / "3.jpg").read_bytes()
    (images / "dark" / "3.jpg").write_bytes(content[: len(content) // 2])
    data = _folder(images, standardise=False)
    with pytest.raises(InputRefused, match=r"an image cannot be read in .*dark/3\.jpg"):
        [_all(data, split) for split in SPLITS]


def test_folders_that_cannot_be_learnt_from(tmp_path: Path, images: Path) -> None:
    with pytest.raises(InputRefused, match="no such folder"):
        _folder(tmp_path / "missing")
    with pytest.raises(InputRefused, match="no classes to tell apart"):
        _folder(images / "dark")
    with pytest.raises(InputRefused, match=r"do not fit the network's INPUT_SHAPE.*1, 3 or 4 channels"):
        _folder(images, ((1, 2, 8, 8),))
    for name in ("dark", "light"):
        (tmp_path / "hollow" / name).mkdir(parents=True)
    with pytest.raises(InputRefused, match=r"folders of the classes hold no images.*\.png.* in dark, light"):
        _folder(tmp_path / "hollow")
    for name in ("dark", "light"):
        _write_images(tmp_path / "few" / name, 2, 0)
    with pytest.raises(InputRefused, match=r"the val split of .* is empty: found train 4, val 0, test 0"):
        _folder(tmp_path / "few")
    for split, name in (("train", "a"), ("train", "b"), ("test", "c")):
        _write_images(tmp_path / "odd" / split / name, 10, 0)
    with pytest.raises(InputRefused, match="the class 'c' is not among those of training"):
        _folder(tmp_path / "odd")


def test_single_training_sample_is_refused(tmp_path: Path) -> None:
    for split in SPLITS:
        _write_images(tmp_path / split / "a", 1, 0)
        (tmp_path / split / "b").mkdir()
    with pytest.raises(InputRefused, match=r"train split .* is a single sample.*BatchNorm has no variance over one"):
        _folder(tmp_path)


def _npz(path: Path, shapes: Shapes = ((1, 4),), **arrays: np.ndarray) -> DataSet:
    np.savez(path / "data.npz", **arrays)  # type: ignore[arg-type]
    return make_data(Recipe(data=f"npz:{path / 'data.npz'}"), shapes)


X, Y = np.random.default_rng(0).normal(3, 2, (40, 4)), np.arange(40) % 2


def test_arrays_are_split_and_standardised(tmp_path: Path) -> None:
    data = _npz(tmp_path, x=X, y=Y)
    assert data.facts["split"]["sizes"] == {"train": 28, "val": 4, "test": 8}
    (x,), y = _all(data, "train")
    assert (x.dtype, y.dtype, data.n_classes) == (torch.float32, torch.int64, 2)
    # rounded once to float32: half an ulp of numbers below 8
    np.testing.assert_allclose([x.double().mean(), x.double().std(correction=0)], [0, 1], rtol=0, atol=2**-22)


def test_arrays_of_splits_are_kept(tmp_path: Path) -> None:
    data = _npz(tmp_path, x_train=X, y_train=Y, x_val=X[:6], y_val=Y[:6], x_test=X[:3], y_test=Y[:3])
    assert data.facts["split"]["sizes"] == {"train": 40, "val": 6, "test": 3}
    assert torch.equal(_all(data, "test").inputs[0], _all(data, "train").inputs[0][:3])


def test_masks_of_arrays(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "masks.npz", x=x, y=(x[:, 0] > 100).astype(np.uint8))
    recipe = Recipe(data=f"npz:{tmp_path / 'masks.npz'}", task="segmentation", standardise=False)
    (pixels,), masks = _all(make_data(recipe, ((1, 1, 4, 4),)), "train")
    assert pixels.max() <= 1
    assert torch.equal(masks, (pixels[:, 0] * 255 > 100.5).long())


def test_boxes_of_arrays(tmp_path: Path) -> None:
    y = np.full((40, 2, 5), -1.0)
    y[:, 0] = [1, 0, 0, 3, 2]
    y[::2, 1] = [0, 1, 1, 4, 4]
    path = tmp_path / "boxes.npz"
    recipe = Recipe(data=f"npz:{path}", task="detection")
    np.savez(path, x=np.random.default_rng(0).normal(size=(40, 1, 4, 4)), y=y)
    data = make_data(recipe, ((1, 1, 4, 4),))
    boxes = _all(data, "train").targets
    assert (data.n_classes, boxes.dtype, boxes[0, 0].tolist()) == (2, torch.float32, [1, 0, 0, 3, 2])
    for wrong, message in ((y[:, :, :4], "objects, 5"), (y + 0.5, "the labels are not integers"), (y - 1, "found -2")):
        np.savez(path, x=np.zeros((40, 1, 4, 4)), y=wrong)
        with pytest.raises(InputRefused, match=message):
            make_data(recipe, ((1, 1, 4, 4),))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "the file lacks arrays of the split train .*found x;"),
        ({"x": X, "y": Y, "x_test": X}, "lacks arrays of the split test"),
        ({"x": X[:, :3], "y": Y}, r"do not fit the network and the task .*found x \(40, 3\)"),
        ({"x": X, "y": Y[:7]}, r"as many y \(N,\)"),
        ({"x": X[:0], "y": Y[:0]}, "do not fit"),
        ({"x": np.where(X > 5, np.nan, X), "y": Y}, "values that are not finite"),
        ({"x": X, "y": Y.astype(float)}, "the labels are not integers"),
        ({"x": X, "y": Y - 1}, "labels are out of range .* found -1, one of 20, expected 0 to 0"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y * 2}, "split test: found 2, one of 20, expected 0 to 1"),
        ({"x": X, "y": np.array([None] * 40)}, "not an .npz of plain arrays"),
    ],
)
def test_arrays_that_cannot_be_learnt_from(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        _npz(tmp_path, **arrays)


def test_files_that_are_no_arrays(tmp_path: Path) -> None:
    for name, message in (("missing.npz", "no such file"), ("text.npz", "not an .npz of plain arrays")):
        (tmp_path / "text.npz").write_text("text")
        with pytest.raises(InputRefused, match=message):
            make_data(Recipe(data=f"npz:{tmp_path / name}"), ((1, 4),))
