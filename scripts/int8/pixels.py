"""int8 files of pixels beside those of the same network that reads its own float input.

    python scripts/int8/pixels.py [--json FILE [--missing]] PHOTOS [NAME ...]

NAME is `timm:NAME` (random weights, gammas of 0.5 to 1.5) or `field:NAME`, a function of scripts/field_networks.py
with weights that others trained. Crops are cut from the photographs in the folder PHOTOS (scripts/int8/accuracy.py),
96, of which a quarter is held out. Files take bytes, height, width, channels, blue first. Printed: signal over noise in
decibels of the first layer and of the output, of the file with its own input and of that with pixels; exit code 1 where
the first layer loses more than 0.5 dB, a file is not proven, or anything is quantised in front of it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accuracy import crops, photographs
from common.rows import measured_rows, parse
from preprocessing_exact import network

import bnfold

NAMES = ("timm:resnet18", "timm:mobilenetv2_100", "timm:repvgg_a0", "field:efficientnet_lite0")
FORMAT = "uint8,nhwc,bgr,imagenet"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
N, SIZE = 96, (224, 224)
MOST_LOST_DB = 0.5
ROW = "{:28} {:>22} {:>22} {:>8} {:>8}"


def measure(name: str, photos: Path) -> dict[str, Any]:
    """The row of a network."""
    module, image = network(name)
    pixels = crops(photographs([photos]), N, SIZE, seed=0).astype(np.uint8)[:, ::-1]  # blue first
    own = ((pixels[:, ::-1].transpose(0, 2, 3, 1) / 255 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    row: dict[str, Any] = {"network": name}
    for kind, samples in (("own", own), ("pixels", pixels.transpose(0, 2, 3, 1))):
        with tempfile.TemporaryDirectory() as place:
            folder, form = Path(place), FORMAT if kind == "pixels" else None
            bnfold.fold_export(module, torch.zeros(2, *image), folder / "float", input_format=form, budget_s=0)
            file = folder / "float" / "model.onnx"
            arrays: dict[str, Any] = {onnx.load(file).graph.input[0].name: samples}
            np.savez(folder / "x.npz", **arrays)
            report = bnfold.quantize(file, folder / "int8", inputs=folder / "x.npz", budget_s=0, min_sqnr_db=0)
            first = next(layer for layer in report.layers if layer.op == "Conv")
            outputs = () if report.error is None else report.error.outputs
            row[kind] = {"first": first.sqnr_db, "output": outputs[0].sqnr_db}
            row |= {"proven": row.get("proven", True) and report.passed, "quantised": _quantised_in_front(folder)}
    lost = row["own"]["first"] - row["pixels"]["first"]
    row["failure"] = None if lost <= MOST_LOST_DB and row["proven"] and not row["quantised"] else "see the row"
    return row


def _quantised_in_front(folder: Path) -> bool:
    """Whether the last file has a QuantizeLinear in front of its first convolution."""
    kinds = [node.op_type for node in onnx.load(folder / "int8" / "model.int8.onnx").graph.node]
    return "QuantizeLinear" in kinds[: kinds.index("Conv")]


def show(row: dict[str, Any]) -> str:
    """The row as a line."""
    pairs = [f"{row['own'][key]:.1f} -> {row['pixels'][key]:.1f}" for key in ("first", "output")]
    words = ["yes" if row["proven"] else "NO", "YES" if row["quantised"] else "none"]
    return ROW.format(row["network"], *pairs, *words)


def main() -> int:
    """1 where a network fails."""
    arguments = parse(__doc__, NAMES)
    photos, *names = arguments.names
    arguments.names = names or list(NAMES)
    print(ROW.format("network", "first layer, dB", "output, dB", "proven", "Q"))
    rows = measured_rows(arguments, lambda name: measure(name, Path(photos)), show)
    return int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
