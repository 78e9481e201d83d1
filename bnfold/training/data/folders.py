"""`folder:PATH`: a folder of images, one folder for each class; with or without folders train, val and test around."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.image_files import SUFFIXES, require_pillow, unreadable_image, upright_image
from bnfold.sources.model_file import nearest
from bnfold.training.data.batches import SPLITS, DataSet, Split
from bnfold.training.data.images import ImageSplit, image_data
from bnfold.training.data.splits import completed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.training.recipe import Recipe

__all__ = ["image_folder"]

Files = list[tuple[Path, int]]


def image_folder(place: str, recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...], *, download: bool) -> DataSet:
    """Images by the folders they lie in, sorted by name.

    PATH/CLASS/*.png is split by the recipe's `split_seed`; PATH/train/CLASS/*.png, PATH/val/..., PATH/test/... are kept
    as they are, and a split that is missing is taken out of `train`.

    Raises:
        InputRefused: no such folder, no classes, a class that training does not have, a file that is no image.
        EnvironmentNotReady: Pillow is not installed.
    """
    del download  # it is on this machine or not at all
    require_pillow(f"the data set {recipe.data}")
    root = Path(place).expanduser()
    if not root.is_dir():
        raise InputRefused("no such folder", where=str(root), remedy="check the path behind folder:")
    given: dict[Split, Path] = {split: root / split for split in SPLITS if (root / split).is_dir()}
    training = given.get("train", root)
    classes = _classes(training)
    folders: Mapping[Split, Path] = given if "train" in given else {"train": root}
    files = {split: _files(folder, classes) for split, folder in folders.items()}
    if not files["train"]:
        raise InputRefused(
            "the folders of the classes hold no images",
            where=str(training),
            found=f"no file with one of the suffixes {', '.join(sorted(SUFFIXES))} in {', '.join(classes)}",
            remedy="put images into them, of each class about ten",
        )
    parts = completed({split: [label for _, label in own] for split, own in files.items()}, recipe.split_seed)
    chosen: Mapping[Split, Files] = {
        split: [files[origin][number] for number in numbers] for split, (origin, numbers) in parts.items()
    }
    facts = {
        "name": recipe.data,
        "origin": str(root.resolve()),
        "classes": classes,
        "split": {
            "scheme": f"folders {', '.join(given)}" if "train" in given else "stratified",
            "seed": recipe.split_seed,
            "sizes": {split: len(own) for split, own in chosen.items()},
        },
    }
    splits = {split: _image_split(own) for split, own in chosen.items()}
    return image_data(splits, recipe, input_shapes, n_classes=len(classes), facts=facts)


def _image_split(files: Files) -> ImageSplit:
    return ImageSplit(lambda number: upright_image(files[number][0]), [label for _, label in files])


def _classes(folder: Path) -> list[str]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(classes) < 2:
        raise InputRefused(
            "the folder has no classes to tell apart",
            where=str(folder),
            found=", ".join(classes) or "no folder in it",
            expected="a folder of images for each of at least two classes",
            remedy="sort the images into folders named after their classes",
        )
    return classes


def _files(folder: Path, classes: Sequence[str]) -> Files:
    """The image files of each class; every header is read, so that a broken file is named before training starts."""
    files: Files = []
    for path in sorted(folder.iterdir()):
        if not path.is_dir() or path.name.startswith("."):
            continue
        if path.name not in classes:
            raise InputRefused(
                f"the class {path.name!r} is not among those of training",
                where=str(path),
                expected=f"one of {len(classes)} classes",
                remedy=nearest(path.name, list(classes), listing=f"they are {', '.join(classes)}"),
            )
        images = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        for image in images:
            _refuse_broken(image)
        files += [(image, classes.index(path.name)) for image in images]
    return files


def _refuse_broken(file: Path) -> None:
    """Refuse a file whose header Pillow cannot read or whose checksums are wrong; pixels are not decoded."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable_image(file, error) from error
