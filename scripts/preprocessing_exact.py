"""Whether preprocessing in the weights is exact: before parameters are rounded, in float64, at five sizes, certified.

    python scripts/preprocessing_exact.py [--json FILE [--missing]] [NAME ...]

NAME is `timm:NAME`, `zoo:NAME` (models/ that read images), or `field:NAME`, a function of
scripts/field_networks.py with weights that others trained (scripts/fetch_field.sh fetches them); without names, all.
Files take bytes, height, width, channels, blue first. `float64` is the largest difference between the graph with nodes
in front of it, its constants computed, and the folded one, relative to the largest output, over noise and images that
are black but for bright pixels in the corners. `sizes` counts the sizes: five where the network takes any. `certified`
is the proof of the rounded file against the graph with nodes; both with the mean in a channel of ones, and in a node.
`passed` is the verdict of `bnfold.fold_export` with such pixels. Exit code 1 where a difference is above 1e-10, a file
is not certified or does not pass.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import torch
from common.networks import build, calibrate, randomise
from common.rows import measured_rows, parse

import bnfold
from bnfold.errors import InputRefused
from bnfold.export import finish, plain_graph
from bnfold.folding import fold_model
from bnfold.graph.canonical import canonicalise
from bnfold.graph.float64 import Float64Graph
from bnfold.records import FileFacts
from bnfold.sources import load_network, with_interface
from bnfold.sources.input_format import with_pixels
from bnfold.sources.model_file import load_model_file, zoo_names
from bnfold.verification.certificate import prove

if TYPE_CHECKING:
    from bnfold.sources.types import Source

# By the number of channels of an image.
FORMATS = {3: "uint8,nhwc,bgr,imagenet", 1: "uint8,nhwc,gray,channels=gray,mean=0.449,std=0.226"}
LIMIT = 1e-10
LIMITS_OF_ONES = (None, 0)  # the mean in a channel of ones, and in a node
SIZES = (
    ((64, 64), (65, 48), (40, 97), (96, 96), (72, 41)),
    ((64, 64), (96, 64), (32, 128), (96, 96), (160, 32)),  # for networks that halve and double five times at most
)
ROW = "{:34} {:>24} {:>6} {:>9} {:>10} {:>7}"


def names() -> list[str]:
    """The networks of the table."""
    images = [name for name in zoo_names() if _reads_images(name)]
    timm = ("resnet18", "mobilenetv2_100", "repvgg_a0")
    return [*(f"timm:{name}" for name in timm), "field:efficientnet_lite0", *(f"zoo:{name}" for name in images)]


def _reads_images(name: str) -> bool:
    shapes = load_model_file(name).input_shapes
    return len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] in FORMATS


def network(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """A network in eval mode, and the shape of one image."""
    kind, _, own = name.partition(":")
    if kind == "field":
        import field_networks

        return getattr(field_networks, own)(), (3, 224, 224)
    if kind == "timm":
        module, inputs = build(own)
    else:
        torch.manual_seed(0)
        file = load_model_file(own)
        module, inputs = file.build(), (torch.randn(16, *file.input_shapes[0][1:]),)
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    return module.eval(), tuple(inputs[0].shape[1:])


def images(shape: tuple[int, int], n_channels: int, seed: int) -> np.ndarray:
    """Two images of bytes: noise, and black with bright pixels in the corners."""
    noise = np.random.default_rng(seed).integers(0, 256, (1, *shape, n_channels))
    corners = np.zeros((1, *shape, n_channels))
    corners[:, [0, 0, -1, -1], [0, -1, 0, -1]] = 255
    return np.concatenate([noise, corners]).astype(np.uint8)


def loaded(module: torch.nn.Module, image: tuple[int, ...]) -> tuple[Source, tuple[tuple[int, int], ...]]:
    """The source, with open height and width where it takes any, and the sizes to compare at.

    A network that adds a position to each patch is exported with open axes, and takes one size all the same.
    """
    source = load_network(module, torch.zeros(2, *image))
    fixed = source, ((image[1], image[2]),)
    try:
        free = with_interface(source, dynamic_shapes={source.inputs[0].name: {0: "batch", 2: "height", 3: "width"}})
        graph = Float64Graph(ir.to_proto(plain_graph(free)))
    except InputRefused:
        return fixed
    for sizes in SIZES:
        with contextlib.suppress(InputRefused):
            for size in sizes[:2]:
                graph.evaluate({source.inputs[0].name: np.zeros((1, image[0], *size), np.float32)})
            return free, sizes
    return fixed


def measure(name: str) -> dict[str, Any]:
    """The row of a network."""
    module, image = network(name)
    source, sizes = loaded(module, image)
    pixels, _ = with_pixels(source, FileFacts(), FORMATS[image[0]])
    if pixels.form is None:
        raise RuntimeError(f"{name} takes no pixels")
    plain = ir.to_proto(plain_graph(pixels))
    explicit = ir.from_proto(plain)
    canonicalise(explicit)  # what is constant (the root of a width) is computed in float32, in both
    before = Float64Graph(ir.to_proto(explicit))
    feeds = [{pixels.form.input: images(size, image[0], seed)} for seed, size in enumerate(sizes)]
    answers = [before.evaluate(feed) for feed in feeds]
    largest, certified = 0.0, True
    for limit in LIMITS_OF_ONES:
        exact = plain_graph(pixels)
        fold_model(exact, pixels=pixels.form.input, rounded=False, ones_limit=limit)
        values = exact.graph.initializers.items()
        stored = {str(key): value.const_value for key, value in values if value.const_value is not None}
        after = Float64Graph(ir.to_proto(exact), stored)
        for feed, expected in zip(feeds, answers, strict=True):
            got = after.evaluate(feed)
            largest = max(largest, *(_relative(got[key], value) for key, value in expected.items()))
        model = plain_graph(pixels)
        ledger = fold_model(model, pixels=pixels.form.input, ones_limit=limit)
        certified &= ledger.certificate is not None and bool(prove(finish(model), plain, ledger.certificate))
    report = bnfold.fold_export(module, torch.zeros(2, *image), input_format=FORMATS[image[0]], budget_s=0)
    outcome = report.ledger.preprocessing
    mean = "; mean in a node" if outcome is not None and outcome.mean_in_node else ""
    return {
        "network": name, "outcome": "" if outcome is None else f"{outcome.outcome} {', '.join(outcome.into)}{mean}",
        "sizes": len(sizes), "float64": largest, "certified": certified, "passed": report.passed,
        "failure": None if largest <= LIMIT and certified and report.passed else "see the row",
    }  # fmt: skip


def _relative(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def show(row: dict[str, Any]) -> str:
    """The row as a line."""
    words = ["yes" if row[key] else "NO" for key in ("certified", "passed")]
    return ROW.format(row["network"], row["outcome"], row["sizes"], f"{row['float64']:.1e}", *words)


def main() -> int:
    """1 where a network fails."""
    print(ROW.format("network", "preprocessing", "sizes", "float64", "certified", "passed"))
    rows = measured_rows(parse(__doc__, names()), measure, show)
    return int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
