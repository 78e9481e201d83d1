"""Sizes and integers worth trying for what a file leaves open, the likely ones first."""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

from bnfold.graph import operators as op
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.verification.data.input_facts import readers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx
    from onnx import GraphProto, NodeProto, TensorProto

    from bnfold.records import InputSpec

__all__ = ["AS_LONG", "Known", "combinations", "integers_to_try", "known_sizes", "sizes_to_try"]

IMAGE_SIZES = (224, 256, 320, 640, 32, 48, 64, 96, 128, 160, 192, 384, 416, 448, 480, 512, 608, 736, 960, 1024)
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
CHANNELS = (3, 1, 4)
SAMPLE_RATES = (16000, 8000)
AS_LONG = -(1 << 62)  # stands for the length of the longest open axis
MAX_SIZE = 1 << 16
LONG_TEXT = 200  # characters of metadata that hold more than a size or two
N_STORED = 8  # lengths of stored parameters, the first ones that the graph reads
N_TOGETHER = 20  # combinations in which all symbols grow alike
MAX_STEPS = 12  # how far from the likeliest choices, all variables together, a combination may be
_SIZE_KEY = re.compile(r"size|shape|height|width|length|\bdim|seq|frame|window|imgsz|resolution", re.IGNORECASE)
_LENGTH = re.compile(r"(^|[^a-z])(len|lens|length|lengths)([^a-z]|$)", re.IGNORECASE)
_SHAPING = {op.Conv, op.Expand, op.Gather, op.Pad, op.Reshape, op.Slice, op.Squeeze, op.Unsqueeze}
_COMPARES = having(Trait.COMPARES)


class Known:
    """Sizes that the file itself holds: those of its own metadata, and lengths of what it stores."""

    def __init__(self, metadata: Sequence[int], stored: Sequence[int]) -> None:
        self.metadata, self.stored = tuple(metadata), tuple(stored)


def known_sizes(model: onnx.ModelProto) -> Known:
    """The sizes in `metadata_props` under names such as imgsz, and the lengths of the first parameters."""
    metadata: list[int] = []
    for entry in model.metadata_props:
        if _SIZE_KEY.search(entry.key) and len(entry.value) < LONG_TEXT:
            metadata += [int(number) for number in re.findall(r"(?<![\d.])\d+(?![\d.])", entry.value)]
    tensors = stored_constants(model.graph)
    stored: dict[int, None] = {}
    for node in model.graph.node:
        if kind_of(node) in _SHAPING:
            continue
        for name in node.input:
            sizes = _lengths(node, tuple(tensors[name].dims)) if name in tensors else ()
            stored |= dict.fromkeys(size for size in sizes if size > 1)
        if len(stored) >= N_STORED:
            break
    return Known([size for size in metadata if 1 < size <= MAX_SIZE], list(stored)[:N_STORED])


def stored_constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers, and what Constant nodes hold, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if kind_of(node) == op.Constant:
            found.update((node.output[0], attribute.t) for attribute in node.attribute if attribute.name == "value")
    return found


def _lengths(node: NodeProto, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of a parameter that may be those of an input: of a recurrent weight that of its columns alone."""
    return dims[-1:] if kind_of(node).has(Trait.RECURRENT) and len(dims) == 3 else dims


def sizes_to_try(symbol: str, inputs: Sequence[InputSpec], known: Known) -> list[int]:
    """For one symbol: sizes of the file's metadata, then such as images have, or lengths, small ones first."""
    places = [(spec, axis) for spec in inputs for axis, name in enumerate(spec.symbols) if name == symbol]
    if any(_is_channel(spec, axis) for spec, axis in places):
        return list(dict.fromkeys((*CHANNELS, *known.stored)))
    if any(_is_image(spec) for spec, _ in places):
        return list(dict.fromkeys((*known.metadata, *IMAGE_SIZES, *known.stored)))
    mixed = [size for pair in itertools.zip_longest(LENGTHS, known.stored) for size in pair if size is not None]
    return list(dict.fromkeys((*known.metadata, *mixed, 1)))


def _is_image(spec: InputSpec) -> bool:
    """Whether an input has the shape of images, channels first or last."""
    return (
        spec.dtype != "int64"
        and len(spec.shape) == 4
        and (spec.shape[1] in (*CHANNELS, None) or spec.shape[3] in CHANNELS)
    )


def _is_channel(spec: InputSpec, axis: int) -> bool:
    return len(spec.shape) == 4 and axis == 1 and spec.shape[3] not in CHANNELS and spec.batch_axis == 0


def integers_to_try(spec: InputSpec, graph: GraphProto) -> list[int | None]:
    """For one integer input: None for random ones, the numbers that it is compared with, 1, and sample rates.

    Before all others, for one number a sample that is called a length, how long the longest open axis is.
    """
    compared: list[int] = []
    constants = stored_constants(graph)
    for node, position in readers(graph, spec.name):
        other = next((name for index, name in enumerate(node.input) if index != position), None)
        if kind_of(node) in _COMPARES and other in constants and math.prod(constants[other].dims) == 1:
            compared.append(int(np.asarray(numpy_helper.to_array(constants[other])).reshape(())))
    is_number = all(size == 1 for size in spec.row if size is not None)
    rates = SAMPLE_RATES if is_number and not spec.has_batch else ()
    lengths = (AS_LONG,) if is_number and _LENGTH.search(spec.name) else ()
    return list(dict.fromkeys((*lengths, *compared, None, 1, *rates)))


def combinations(choices: Mapping[str, Sequence[int | None]], alike: Sequence[str]) -> Iterator[dict[str, int | None]]:
    """Every variable with one of its choices: the ones named grow alike first, then near the first choices first."""
    seen: set[tuple[int, ...]] = set()

    def once(steps: tuple[int, ...]) -> Iterator[dict[str, int | None]]:
        if steps not in seen:
            seen.add(steps)
            yield {name: choices[name][step] for name, step in zip(choices, steps, strict=True)}

    for k in range(min((len(choices[name]) for name in alike), default=1)):
        if k < N_TOGETHER:
            yield from once(tuple(k if name in alike else 0 for name in choices))
    for total in range(MAX_STEPS):
        for steps in itertools.product(*(range(min(len(values), total + 1)) for values in choices.values())):
            if sum(steps) == total:
                yield from once(steps)
