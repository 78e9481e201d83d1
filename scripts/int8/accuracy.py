"""What int8 loses on crops of photographs, for a file with trained weights; ONNX Runtime's own quantiser beside it.

    python scripts/int8/accuracy.py MODEL.onnx [--mean 127 --divide 128] [--judged 1000] PHOTO|FOLDER ...

MODEL is a folded float file that reads (N, 3, H, W). Crops of random size and place are cut from the photographs: 256
to calibrate on, 1,000 others to judge by (of 100, three more or fewer are luck). Printed for each file: signal over
quantisation noise of the output in decibels, and on how many of those that judge the largest class is that of the float
file.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from PIL import Image

from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.quantise import quantise
from bnfold.quantisation.samples import split_samples
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

N_CALIBRATION = 256
SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
SMALLEST_SIDE = 200  # pixels of a photograph


def photographs(places: Sequence[Path]) -> list[Image.Image]:
    """The pictures of files and folders that are large enough, in colour."""
    files = [path for place in places for path in (sorted(place.iterdir()) if place.is_dir() else [place])]
    opened = [Image.open(path).convert("RGB") for path in files if path.suffix.lower() in SUFFIXES]
    return [image for image in opened if min(image.size) >= SMALLEST_SIDE]


def crops(images: Sequence[Image.Image], n: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Crops (n, 3, H, W) of 0 to 255, half of them mirrored."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        image = images[k % len(images)]
        side = int(min(image.size) * rng.uniform(0.35, 1.0))
        x, y = (int(rng.integers(0, length - side + 1)) for length in image.size)
        pixels = np.asarray(image.crop((x, y, x + side, y + side)).resize(size[::-1], Image.Resampling.BICUBIC))
        found.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    return np.stack(found).astype(np.float32).transpose(0, 3, 1, 2)


class _Reader:
    """Samples as ONNX Runtime's quantiser reads them."""

    def __init__(self, samples: Mapping[str, np.ndarray]) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter(
            {name: array[k : k + 1] for name, array in samples.items()} for k in range(N_CALIBRATION // 2)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def by_runtime(float_file: Path, folder: Path, samples: Mapping[str, np.ndarray], **options: Any) -> Path:
    """The file of ONNX Runtime's quantize_static."""
    from onnxruntime import quantization

    file = folder / "runtime.onnx"
    quantization.quantize_static(str(float_file), str(file), _Reader(samples), **options)
    return file


def main(show: Callable[[str], None] = print) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photographs", type=Path, nargs="+")
    parser.add_argument("--mean", type=float, default=127.0)
    parser.add_argument("--divide", type=float, default=128.0)
    parser.add_argument("--judged", type=int, default=1000, metavar="N", help="crops to judge by")
    parser.add_argument("--own", action="store_true", help="leave ONNX Runtime's quantiser out")
    arguments = parser.parse_args()
    folded, n_judged = onnx.load(arguments.model), arguments.judged
    (value,) = folded.graph.input
    height, width = (dim.dim_value for dim in value.type.tensor_type.shape.dim[2:])
    specs = (InputSpec(value.name, (None, 3, height, width), "float32"),)
    images = photographs(arguments.photographs)
    scaled = [
        {value.name: (crops(images, n, (height, width), seed) - arguments.mean) / arguments.divide}
        for seed, n in enumerate((N_CALIBRATION, n_judged))
    ]
    samples = split_samples(scaled[0], seed=0, where="crops")
    show(f"{len(images)} photographs; {samples.n} crops give the ranges, {n_judged} others judge")
    with tempfile.TemporaryDirectory() as place:
        files: dict[str, Path | bytes] = {}
        for name, corrected in (("bnfold", True), ("bnfold, biases as they are", False)):
            made = quantise(folded, samples, specs, correct_biases=corrected)
            files[name] = made.model.SerializeToString(deterministic=True)
        if not arguments.own:
            from onnxruntime.quantization import QuantType

            best = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
            files["quantize_static, per channel, u8 s8"] = by_runtime(arguments.model, Path(place), scaled[0], **best)
        for name, file in files.items():
            for error in output_errors(file, arguments.model, scaled[1], specs):
                same = "-" if error.agreement is None else f"{n_judged * error.agreement:.0f} of {n_judged}"
                show(f"{name:40} {error.name:12} {error.sqnr_db:6.2f} dB   same class {same}")


if __name__ == "__main__":
    main()
