"""What is known of a source besides its graph, for the metadata of the files that are made of it."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records.file_facts import FileFacts, Preprocessing, from_properties
from bnfold.sources.preprocessing import fits, parse_preprocessing
from bnfold.sources.types import OnnxSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.sources.types import Source

__all__ = ["facts_of", "read_classes", "stated"]

log = logging.getLogger("bnfold.sources")
_OF_RECIPE = ("task", "data", "split_seed", "image_size", "standardise")
_GRAY_OR_COLOUR = {1: "gray", 3: "rgb", 4: "rgba"}
_IMAGENET = "imagenet_classes.txt"


def facts_of(source: Source) -> FileFacts:
    """What a source says of itself: a run its recipe and data, a timm network its configuration, a file its metadata.

    Raises:
        InputRefused: the metadata of an `.onnx` file is damaged.
    """
    if isinstance(source, OnnxSource):
        return facts_in(source.model.metadata_props, str(source.path or source.facts.spec))
    if source.details.get("kind") == "run":
        return _of_run(source.details["metadata"], source.inputs[0].shape)
    configuration = getattr(source.module, "pretrained_cfg", None)
    if source.details.get("kind") == "timm" and configuration:
        return _of_timm(configuration, source.inputs[0].shape)
    return FileFacts()


def facts_in(properties: Mapping[str, str], where: str) -> FileFacts:
    """The facts in the metadata of an `.onnx` file.

    Raises:
        InputRefused: they are damaged.
    """
    try:
        return from_properties(properties)
    except ValueError as error:
        raise InputRefused(
            "the metadata of the file cannot be read", where=where, found=str(error), remedy="export the file again"
        ) from error


def stated(facts: FileFacts, *, classes: str | os.PathLike[str] | None, normalize: str | None) -> FileFacts:
    """The facts with what the user says in their place; a contradiction is logged as a warning.

    Args:
        facts: of the source.
        classes: a file of class names, or "imagenet"; None leaves those of the source.
        normalize: see `bnfold.sources.preprocessing.parse_preprocessing`; None leaves that of the source.

    Raises:
        InputRefused: the file or the words cannot be read.
    """
    if classes is not None:
        names = read_classes(classes)
        if facts.classes and facts.classes != names:
            log.warning("the source names other classes (%s, ...): those of %s are taken", facts.classes[0], classes)
        facts = dataclasses.replace(facts, classes=names, task=facts.task or "classification")
    if normalize is not None:
        chosen = parse_preprocessing(normalize)
        own = facts.preprocessing
        if own is not None:
            chosen = dataclasses.replace(chosen, size=chosen.size or own.size)
            if own != chosen:
                log.warning("the source says other preprocessing (%s): that of the command is taken", _in_words(own))
        facts = dataclasses.replace(facts, preprocessing=chosen)
    return facts


def read_classes(place: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names, in the order of the output.

    Args:
        place: "imagenet" for the 1,000 of ImageNet-1k; a text file with a name a line; a `.json` file with a list of
            names, or an object from the number to the name.

    Raises:
        InputRefused: no such file, it cannot be read, or a name stands twice.
    """
    if str(place) == "imagenet":
        lines = files("bnfold").joinpath("data", _IMAGENET).read_text(encoding="utf-8").splitlines()
        return tuple(line for line in lines if not line.startswith("#"))
    path = Path(place)
    try:
        text = path.read_text(encoding="utf-8-sig")
        names = _names_in_json(json.loads(text)) if path.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise InputRefused(
            "the class names cannot be read", where=str(path), found=getattr(error, "strerror", None) or str(error),
            expected="text with one name per line, or a JSON list", remedy="check --classes",
        ) from error  # fmt: skip
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not names or "" in names:
        raise InputRefused(
            "the class names have a gap" if names else "there are no class names", where=str(path),
            found=f"line {names.index('') + 1} is empty" if names else "an empty file",
            remedy="write one name per line",
        )  # fmt: skip
    return tuple(names)


def _names_in_json(content: Any) -> list[str]:
    if isinstance(content, dict):
        try:
            content = [content[key] for key in sorted(content, key=int)]
        except ValueError as error:
            raise ValueError(f"keys are no numbers: {error}") from error
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError("no list of names")
    return content


def _of_run(metadata: Mapping[str, Any], shape: Sequence[int | None]) -> FileFacts:
    """The facts of run.json."""
    data, recipe = metadata["data"], metadata["recipe"]
    return FileFacts(
        task=recipe.get("task"),
        classes=tuple(data.get("classes") or map(str, range(data.get("n_classes") or 0))),
        preprocessing=_of_images(data, shape),
        data={key: recipe.get(key) for key in _OF_RECIPE},
    )


def _of_images(data: Mapping[str, Any], shape: Sequence[int | None]) -> Preprocessing | None:
    """How images become inputs; None where the data is none, or where it is composed of others."""
    scaling = data.get("normalisation") or {}
    height, width = (shape[2], shape[3]) if len(shape) == 4 else (None, None)
    if height is None or width is None or shape[1] not in _GRAY_OR_COLOUR or "mean" not in scaling:
        return None
    mean, std = (tuple(_numbers(scaling[key])) for key in ("mean", "std"))
    return Preprocessing(mean=mean, std=std, channels=_GRAY_OR_COLOUR[shape[1]], size=(height, width))


def _numbers(value: float | Sequence[float]) -> list[float]:
    """One number, or several, as a list."""
    return [float(value)] if isinstance(value, (int, float)) else [float(number) for number in value]


def _of_timm(configuration: Mapping[str, Any], shape: Sequence[int | None]) -> FileFacts:
    """The facts of a `pretrained_cfg`: https://huggingface.co/docs/timm (pretrained_cfg)."""
    own = Preprocessing(
        mean=tuple(_numbers(configuration.get("mean", 0.0))),
        std=tuple(_numbers(configuration.get("std", 1.0))),
        size=None if len(shape) != 4 or shape[2] is None or shape[3] is None else (shape[2], shape[3]),
        crop=float(configuration.get("crop_pct") or 1.0),
        interpolation=str(configuration.get("interpolation", "bicubic")),
    )
    names = read_classes("imagenet") if configuration.get("num_classes") == 1000 else ()
    return FileFacts("classification", names, own if fits(own, shape) else None)


def _in_words(preprocessing: Preprocessing) -> str:
    return ", ".join(f"{key} {value}" for key, value in dataclasses.asdict(preprocessing).items() if value is not None)
