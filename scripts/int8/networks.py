"""Networks whose accuracy in int8 is measured: families of the zoo on Fashion-MNIST, and those of canvases.

    python scripts/int8/networks.py FASHION.npz RUNS [NAME ...]

FASHION.npz has `x_train` (60000, 1, 28, 28) and `x_test` (10000, 1, 28, 28) of uint8, `y_train` and `y_test`. A run
folder for each network is written to RUNS; one that is there stays, and one that was interrupted goes on. One thread,
at most five minutes each.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import bnfold

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CANVASES", "CLASSIFIERS"]

CLASSIFIERS = {
    "resnet": 2, "preact_resnet": 3, "repvgg": 4, "mobilenet": 2, "mobilenet_v3": 4, "densenet": 2,
}  # fmt: skip
"""Epochs by the name of the network."""
CANVASES = ("unet", "detector")
SMALLER = {"densenet": ("n_stem, 3, padding=1", "n_stem, 3, stride=2, padding=1")}
"""What is written otherwise than in the zoo: a stem of stride 2, as the paper has it for larger images."""
ZOO = Path(__file__).parents[2] / "models"


def train(name: str, fashion: Path, runs: Path) -> Path:
    """The run folder of a network, trained where it is missing."""
    folder = runs / name
    if (folder / "run.json").is_file():
        return folder
    own = Path(__file__).parent / f"{name}.py"
    text = (own if own.is_file() else ZOO / f"{name}.py").read_text()
    if name in CLASSIFIERS:
        text = text.replace("INPUT_SHAPE = (1, 1, 8, 8)", "INPUT_SHAPE = (1, 1, 28, 28)")
        text = text.replace(*SMALLER.get(name, ("", "")))
    runs.mkdir(parents=True, exist_ok=True)
    file = runs / f"{name}.py"
    file.write_text(text)
    if folder.with_suffix(".partial").is_dir():
        bnfold.train(str(file), folder, resume=True)
    else:
        data = "canvases" if name in CANVASES else f"npz:{fashion}"
        bnfold.train(str(file), folder, data=data, epochs=CLASSIFIERS.get(name))
    return folder


def main(show: Callable[[str], None] = print) -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", default=[*CLASSIFIERS, *CANVASES])
    arguments = parser.parse_args()
    for name in arguments.names:
        start = time.perf_counter()
        folder = train(name, arguments.fashion, arguments.runs)
        metrics = json.loads((folder / "run.json").read_text())["metrics"]["test"]
        show(f"{name} {time.perf_counter() - start:.0f} s {json.dumps(metrics)}")


if __name__ == "__main__":
    main()
