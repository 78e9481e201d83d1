"""From the outputs for one image to words: classes, areas of a mask, boxes; and pictures of masks and boxes."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.evaluation.classified import probabilities
from bnfold.records import Prediction
from bnfold.sources.image_files import upright_image
from bnfold.sources.preprocessing import as_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bnfold.evaluation.contenders import Contender
    from bnfold.records.file_facts import Preprocessing

    Say = Callable[[Path, Preprocessing], Prediction]
    Box = tuple[str, float, float, float, float, float]

__all__ = ["predictor"]

LEAST_SCORE = 0.3
"""Of a detection that is told and drawn."""


def predictor(task: str, contender: Contender, *, top: int, pictures: Path | None) -> Say:
    """What says something of an image, for a task.

    Raises:
        InputRefused: no such task for images.
    """
    known: dict[str, Say] = {
        "classification": lambda file, own: _classes(file, own, contender, top),
        "segmentation": lambda file, own: _areas(file, own, contender, pictures),
        "detection": lambda file, own: _boxes(file, own, contender, pictures),
    }
    if task not in known:
        raise InputRefused(
            f"nothing can be predicted of images by a network for {task}", where=contender.path,
            expected=", ".join(known), remedy="name the task with --task",
        )  # fmt: skip
    return known[task]


def _names(contender: Contender, n: int) -> tuple[str, ...]:
    names = contender.facts.classes
    if names and len(names) != n:
        raise InputRefused(
            "the class names do not fit the output", where=contender.path, found=f"{len(names)} names",
            expected=str(n), remedy="name the classes with --classes FILE",
        )  # fmt: skip
    return names or tuple(f"class {number}" for number in range(n))


def _classes(file: Path, preprocessing: Preprocessing, contender: Contender, top: int) -> Prediction:
    scores = contender.run([as_input(upright_image(file), preprocessing)[np.newaxis]])[0]
    if scores.ndim != 2:
        raise _misfit(contender, scores, "(1, classes)")
    sure = probabilities(scores.astype(np.float64))[0]
    names = _names(contender, sure.size)
    order = np.argsort(-sure, kind="stable")[:top]
    return Prediction(str(file), tuple((names[k], float(sure[k])) for k in order))


def _areas(file: Path, preprocessing: Preprocessing, contender: Contender, pictures: Path | None) -> Prediction:
    scores = contender.run([as_input(upright_image(file), preprocessing)[np.newaxis]])[0]
    if scores.ndim != 4:
        raise _misfit(contender, scores, "(1, classes, height, width)")
    names = _names(contender, scores.shape[1])
    mask = scores[0].argmax(axis=0)
    counts = np.bincount(mask.ravel(), minlength=len(names))
    areas = {names[k]: float(counts[k] / mask.size) for k in np.argsort(-counts, kind="stable") if counts[k]}
    picture = None
    if pictures is not None:
        picture = _drawn(file, pictures, "mask", _mask_picture(mask, len(names)))
    return Prediction(str(file), areas=areas, picture=picture)


def _boxes(file: Path, preprocessing: Preprocessing, contender: Contender, pictures: Path | None) -> Prediction:
    """Boxes of a network like models/detector.py, in pixels of its input's size."""
    import torch

    from bnfold.training.tasks import boxes as boxes_of

    x = as_input(upright_image(file), preprocessing)[np.newaxis]
    outputs = contender.run([x])
    if len(outputs) != 2 or any(output.ndim != 4 for output in outputs):
        raise _misfit(contender, outputs[0], "a heat map (1, classes, H, W) and distances (1, 4, H, W)")
    heat, distances = (torch.from_numpy(output) for output in outputs)
    names = _names(contender, heat.shape[1])
    stride = x.shape[-1] // heat.shape[-1]
    scores, labels, corners = (own[0] for own in boxes_of.detections(heat, distances, stride))
    rows = zip(scores.tolist(), labels.tolist(), corners.tolist(), strict=True)
    found: tuple[Box, ...] = tuple(
        (names[label], score, left, upper, right, lower)
        for score, label, (left, upper, right, lower) in rows
        if score >= LEAST_SCORE
    )
    picture = None
    if pictures is not None:
        picture = _drawn(file, pictures, "boxes", _box_picture(upright_image(file), x.shape[2:], found))
    return Prediction(str(file), boxes=found, picture=picture)


def _misfit(contender: Contender, output: np.ndarray, expected: str) -> InputRefused:
    return InputRefused(
        "the output does not fit the task", where=contender.path, found=f"shape {output.shape}", expected=expected,
        remedy="name the task with --task classification, segmentation or detection",
    )  # fmt: skip


def _drawn(file: Path, folder: Path, kind: str, picture: Any) -> Path:
    target = folder / f"{file.stem}.{kind}.png"
    picture.save(target)
    return target


def _mask_picture(mask: np.ndarray, n: int) -> Any:
    """A mask as a picture: class 0 black, the others in hues."""
    from PIL import Image

    hues = [colorsys.hsv_to_rgb(k / max(1, n - 1), 0.8, 1.0) for k in range(n - 1)]
    palette = np.array([(0.0, 0.0, 0.0), *hues])
    return Image.fromarray((255 * palette[mask]).round().astype(np.uint8))


def _box_picture(image: Any, size: tuple[int, ...], boxes: Sequence[Box]) -> Any:
    from PIL import ImageDraw, ImageOps

    fitted = ImageOps.fit(image.convert("RGB"), (size[1], size[0]))
    zoom = max(1, 256 // max(fitted.size))
    large = fitted.resize((fitted.width * zoom, fitted.height * zoom))
    draw = ImageDraw.Draw(large)
    for name, score, *box in boxes:
        left, top, right, bottom = (side * zoom for side in box)
        draw.rectangle((min(left, right), min(top, bottom), max(left, right), max(top, bottom)), outline=(255, 64, 64))
        draw.text((left + 2, top + 1), f"{name} {score:.2f}", fill=(255, 64, 64))
    return large
