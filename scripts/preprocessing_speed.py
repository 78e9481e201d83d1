"""What it costs that a file takes pixels: its preprocessing in the weights, beside nodes of its own, beside none.

    python scripts/preprocessing_speed.py make DIR [NAME ...]    the files of each network
    python scripts/preprocessing_speed.py time DIR [NAME ...]    `folded` over each other one, interleaved

Files take bytes, height, width, channels, blue first, normalised as for ImageNet:

    folded      the first convolutions have taken it, the mean by a channel of ones or as a node, as fold-export does
    none        the same network on its own float input
    explicit    nodes of its own in front of the folded network
    other       as folded, but the mean as a node in the place of a channel of ones, or the other way round

NAME is `timm:NAME` or `field:NAME` as in scripts/preprocessing_exact.py. One thread, batch 1, 99 % intervals; exit code
1 where a whole interval lies above 1.05 of `none`, or above `explicit`.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from preprocessing_exact import network

from bnfold.benchmarking.schedule import time_files
from bnfold.benchmarking.statistics import ratio_interval
from bnfold.benchmarking.timing import BoundFile
from bnfold.export import finish, plain_graph, save
from bnfold.graph.preprocessing_nodes import insert_preprocessing
from bnfold.records import FileFacts
from bnfold.records.sentences import preprocessing_sentence
from bnfold.sources import load_network
from bnfold.sources.input_format import with_pixels
from bnfold.workflows.accounts import fold_accounted

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORKS = ("timm:resnet18", "timm:mobilenetv2_100", "timm:repvgg_a0", "field:efficientnet_lite0")
FORMAT = "uint8,nhwc,bgr,imagenet"
LIMITS = {"none": 1.05, "explicit": 1.0, "other": math.inf}


def make(name: str, folder: Path) -> None:
    """Write the files of a network."""
    module, image = network(name)
    source = load_network(module, torch.zeros(2, *image))
    pixels, _ = with_pixels(source, FileFacts(), FORMAT)
    form = pixels.form
    if form is None:
        raise RuntimeError(f"{name} takes no pixels")
    other: int | None = None
    for kind, given in (("none", source), ("explicit", source), ("folded", pixels), ("other", pixels)):
        model = plain_graph(given)
        limit: dict[str, Any] = {"ones_limit": other} if kind == "other" else {}
        ledger = fold_accounted(model, pixels=form.input if given is pixels else None, **limit)
        if kind == "explicit":
            insert_preprocessing(model, form)
        save(finish(model), file_of(folder, name, kind))
        if ledger.preprocessing is not None:
            print(f"{name}, {kind}: preprocessing {preprocessing_sentence(ledger.preprocessing)}")
            other = None if ledger.preprocessing.mean_in_node else 0


def file_of(folder: Path, name: str, kind: str) -> Path:
    """Where a file of a network lies."""
    return folder / f"{name.rpartition(':')[2]}.{kind}.onnx"


def opener(file: Path) -> Callable[[], BoundFile]:
    """Opens a file on random inputs of its own type; each file has others, so `bnfold bench` does not compare them."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (spec,) = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    rng = np.random.default_rng(0)
    is_bytes = spec.type == "tensor(uint8)"
    x = rng.integers(0, 256, shape, np.uint8) if is_bytes else rng.standard_normal(shape, np.float32)
    return lambda: BoundFile(file, {spec.name: x}, provider="cpu", threads=1)


def main() -> int:
    """1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "time"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=NETWORKS)
    parser.add_argument("--budget", type=float, default=12.0, help="seconds of each measurement")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    missed = False
    for name in given.names:
        if given.what == "make":
            make(name, given.folder)
            continue
        folded, *others = time_files([opener(file_of(given.folder, name, kind)) for kind in ("folded", *LIMITS)],
                                     given.budget, lambda _: None)  # fmt: skip
        for (kind, limit), other in zip(LIMITS.items(), others, strict=True):
            ratio, low, high = ratio_interval(folded.rounds / other.rounds, seed=0)
            missed |= low > limit
            over = "  ABOVE THE LIMIT" if low > limit else ""
            took = f"{np.median(folded.rounds):.2f} ms"
            print(f"{name:20} folded {took} / {kind:10} {ratio:.3f} ({low:.3f} to {high:.3f}){over}", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
