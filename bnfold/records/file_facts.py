"""What a file knows of itself: task, class names, preprocessing, where it came from.

ONNX keeps strings by name in `metadata_props` of a model, which runtimes hand out unread. Ours begin with `bnfold.`;
the values are JSON, with keys in order, so that the same facts give the same bytes:

| key | value |
|---|---|
| `bnfold.task` | "classification", "segmentation", "detection" or "generation" |
| `bnfold.classes` | the class names, in the order of the output |
| `bnfold.preprocessing` | `Preprocessing`, for networks that read images |
| `bnfold.data` | the recipe of the data that it learnt, where `bnfold train` made it |
| `bnfold.source_sha256` | the digest of the network's parameters, where it was no file |
| `bnfold.ledger` | BatchNorms found, absorbed, merged, removed, kept |
| `bnfold.versions` | of bnfold and the exporter |
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from bnfold.records.base import as_json

__all__ = ["CHANNELS", "PREFIX", "FileFacts", "Preprocessing", "as_properties", "from_properties"]

PREFIX = "bnfold."
CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4}
"""Channel orders, and how many channels each has."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image of 8 bits becomes the input: `(pixel / divide - mean) / std`, per channel.

    Attributes:
        divide: what pixels of 0 to 255 are divided by.
        mean: one for each channel, in the order of `channels`, or one for all.
        std: likewise.
        channels: their order in the input: "gray", "rgb", "bgr" or "rgba".
        layout: "nchw" or "nhwc".
        size: height and width of the input; None where any size goes.
        crop: the centred part of the image's sides that is kept before it is resized: 0.875 is the usual 224 of 256.
        interpolation: "nearest", "bilinear" or "bicubic".
        dtype: of the input, "float32", or "uint8" where it takes the pixels themselves.
    """

    divide: float = 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: str = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    size: tuple[int, int] | None = None
    crop: float = 1.0
    interpolation: str = "bilinear"
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class FileFacts:
    """The facts; None, or empty, where nothing is known.

    Attributes:
        task: what the network was trained for.
        classes: their names, in the order of the output.
        preprocessing: of images.
        data: `data`, `task`, `split_seed`, `image_size` and `standardise` of the recipe that it was trained by.
        source_sha256: of the network that was exported, see `SourceFacts`; None where it was an `.onnx` file.
        ledger: counts by outcome.
        versions: by package.
    """

    task: str | None = None
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    data: Mapping[str, Any] | None = None
    source_sha256: str | None = None
    ledger: Mapping[str, int] | None = None
    versions: Mapping[str, str] | None = None


def as_properties(facts: FileFacts) -> dict[str, str]:
    """The entries of `metadata_props` for what is known."""
    known = {field.name: getattr(facts, field.name) for field in dataclasses.fields(facts)}
    return {
        f"{PREFIX}{name}": json.dumps(as_json(value), sort_keys=True, ensure_ascii=False)
        for name, value in known.items()
        if value not in (None, ())
    }


def from_properties(properties: Mapping[str, str]) -> FileFacts:
    """The facts among the entries of a model; those of other tools are left aside.

    Raises:
        ValueError: an entry of ours is damaged; says which.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(FileFacts):
        text = properties.get(f"{PREFIX}{field.name}")
        if text is None:
            continue
        try:
            found[field.name] = _read(field.name, json.loads(text))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{PREFIX}{field.name} is damaged: {error}") from error
    return FileFacts(**found)


def _read(name: str, value: Any) -> Any:
    if name == "classes":
        if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
            raise ValueError("no list of names")
        return tuple(value)
    if name in ("task", "source_sha256"):
        if not isinstance(value, str):
            raise ValueError("no text")
        return value
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - of the JSON, as for the others
    if name != "preprocessing":
        return value
    tuples = {key: tuple(value[key]) for key in ("mean", "std", "size") if value.get(key) is not None}
    return Preprocessing(**{**value, **tuples})
