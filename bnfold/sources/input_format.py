"""`--input-format`: what a file shall be given instead of the network's own input, in words and as a source."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.records.file_facts import CHANNELS, Preprocessing
from bnfold.records.input_format import InputFormat
from bnfold.sources.image_fitting import RESIZE, compared_at, fitted_form, read_fitting
from bnfold.sources.model_file import nearest
from bnfold.sources.preprocessing import KNOWN, parse_preprocessing
from bnfold.sources.types import TorchSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import FileFacts, InputSpec
    from bnfold.sources.types import Source

__all__ = ["formatted", "input_format", "with_pixels"]

SOURCE = "source"
_OPTION = "--input-format"
_WORDS = ("uint8", "float32", "nhwc", "nchw", *CHANNELS)


def with_pixels(source: Source, facts: FileFacts, text: str) -> tuple[Source, FileFacts]:
    """The source as it takes the pixels that `text` names, and what is left to do in front of it.

    Args:
        source: as loaded.
        facts: of the source.
        text: as `input_format` reads it, and `resize=256,crop=224` where the file resizes images itself.

    Raises:
        InputRefused: as `input_format` and `bnfold.sources.image_fitting`.
    """
    parts, fitting = read_fitting([part.strip() for part in text.split(",") if part.strip()], f"{_OPTION} {text}")
    form = input_format(",".join(parts), source, facts)
    spec = next(spec for spec in source.inputs if spec.name == form.input)
    height, width = spec.shape[2:] if form.network.layout == "nchw" else spec.shape[1:3]
    fixed = height is not None and width is not None
    size = (height, width) if height is not None and width is not None else form.network.size
    form = dataclasses.replace(form, network=dataclasses.replace(form.network, size=size))
    opset = None if isinstance(source, TorchSource) else source.model.opset_imports.get("", 0)
    form = fitted_form(form, fitting, size, fixed=fixed, opset=opset, where=f"{_OPTION} {text}")
    return formatted(source, form), dataclasses.replace(facts, preprocessing=form.of_file)


def input_format(text: str, source: Source, facts: FileFacts) -> InputFormat:
    """Read `uint8,nhwc,bgr,divide=255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225`, or `uint8,nhwc,imagenet`.

    Words are of the pixels: their type, layout and order of channels (uint8, nhwc and the network's own order where
    they are left out). A known name, or "source" (what a run, a timm network or a file's metadata says), and KEY=VALUE
    are of the network, as `parse_preprocessing` reads them.

    Args:
        text: as above.
        source: as loaded.
        facts: of the source.

    Raises:
        InputRefused: a word or key is not known, the source says nothing of itself, or has no input of such pixels.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    words = {part for part in parts if part in _WORDS}
    rest = [part for part in parts if part not in _WORDS and part != SOURCE]
    _refuse_unknown(rest, text)
    own = facts.preprocessing
    if SOURCE in parts and own is None:
        raise InputRefused(
            "the source does not say how pixels become its input", where=f"{_OPTION} {text}",
            expected="a run, a timm network, or a file with bnfold's metadata",
            remedy="write divide=, mean= and std=, or a name: " + ", ".join(KNOWN),
        )  # fmt: skip
    network = (
        parse_preprocessing(",".join(rest), where=f"{_OPTION} {text}", others=(RESIZE,))
        if rest
        else own
        if own is not None
        else KNOWN["none"]
    )
    if not rest and SOURCE not in parts:
        raise InputRefused(
            "nothing says how the pixels become the network's input", where=f"{_OPTION} {text}",
            remedy=f"add divide=255,mean=A:B:C,std=A:B:C, a name ({', '.join(KNOWN)}), or {SOURCE}",
        )  # fmt: skip
    spec = _image_input(source.inputs, network, text)
    orders = [word for word in parts if word in CHANNELS]
    found = InputFormat(
        input=spec.name,
        network=network,
        dtype="float32" if "float32" in words else "uint8",
        layout="nchw" if "nchw" in words else "nhwc",
        channels=orders[-1] if orders else network.channels,
    )
    if found.n_channels != CHANNELS[network.channels]:
        raise InputRefused(
            "the pixels must have as many channels as the network reads", where=f"{_OPTION} {text}",
            found=found.channels, expected=network.channels, remedy="correct it, or add channels=ORDER of the network",
        )  # fmt: skip
    return found


def _refuse_unknown(parts: Sequence[str], text: str) -> None:
    for position, part in enumerate(parts):
        if "=" not in part and not (position == 0 and part in KNOWN):
            known = [*_WORDS, SOURCE, *KNOWN]
            raise InputRefused(
                "the input format cannot be read", where=f"{_OPTION} {text}", found=part,
                remedy=nearest(part, known, listing=f"known: {', '.join(known)}, and KEY=VALUE"),
            )  # fmt: skip


def _image_input(inputs: Sequence[InputSpec], network: Preprocessing, text: str) -> InputSpec:
    """The one input that can hold such images."""
    axis, wanted = (1 if network.layout == "nchw" else 3), CHANNELS[network.channels]
    fitting = [
        spec for spec in inputs
        if len(spec.shape) == 4 and spec.shape[axis] == wanted and spec.dtype.startswith("float")
    ]  # fmt: skip
    if len(fitting) == 1:
        return fitting[0]
    shape = ("N", wanted, "H", "W") if axis == 1 else ("N", "H", "W", wanted)
    raise InputRefused(
        "the format contradicts the network", where=f"{_OPTION} {text}",
        found=", ".join(f"input {spec.name} {spec.dtype} {spec.shape}" for spec in inputs),
        expected=f"one float input of shape ({', '.join(map(str, shape))})",
        remedy="name the network's channels and layout: channels=gray, layout=nhwc",
    )  # fmt: skip


def formatted(source: Source, form: InputFormat) -> Source:
    """The source as it takes the pixels; its samples, which are preprocessed, are left behind.

    An `.onnx` source has the nodes in its graph then, a PyTorch network gets them when it is exported.
    """
    from bnfold.sources.types import OnnxSource

    inputs = tuple(_of_pixels(spec, form) if spec.name == form.input else spec for spec in source.inputs)
    if isinstance(source, OnnxSource):
        from bnfold.graph.preprocessing_nodes import insert_preprocessing

        model = source.model.clone()
        insert_preprocessing(model, form)
        return dataclasses.replace(source, model=model, inputs=inputs, path=None, samples=None, form=form)
    return dataclasses.replace(source, inputs=inputs, own_inputs=source.inputs, samples=None, form=form)


def _of_pixels(spec: InputSpec, form: InputFormat) -> InputSpec:
    order = list(range(len(spec.shape))) if form.axes is None else np.argsort(form.axes).tolist()
    ordered = dataclasses.replace(
        spec,
        shape=tuple(spec.shape[axis] for axis in order),
        symbols=tuple(spec.symbols[axis] for axis in order) if spec.symbols else (),
        dtype=form.dtype,
        between=None if form.dtype == "uint8" else (0.0, 255.0),
    )
    return compared_at(ordered, form)
