"""Print whether `bnfold evaluate` can be trusted: coverage of its intervals, and its gates on Fashion-MNIST.

    python scripts/evaluation_quality.py [--data FOLDER] [--folder FOLDER]

Coverage: the share of 2,000 simulated test sets whose 99 % interval holds the truth, for Wilson's interval of an
accuracy and Tango's of a paired difference.

Gates: a small network is trained on the 60,000 training images of Fashion-MNIST (Xiao et al., 2017; Debian's package
dataset-fashion-mnist), exported, and evaluated on the 10,000 test images: against itself, against a file whose last
bias is changed until it is one point worse, on the first 100 test images, and on as many as the gate asks for.
--folder keeps what is made there, and reuses it.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

import bnfold
from bnfold.evaluation.intervals import Paired, wilson

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.evaluation.intervals import Interval

DATA = Path("/usr/share/datasets/fashion-mnist")
N_DRAWS = 2000
WELL_KNOWN = 8  # bags: what is no longer called one was one, so that samples are lost and hardly any gained
MODEL = '''"""A small convolutional network for images of 28 pixels."""

from torch import nn

INPUT_SHAPE = (1, 1, 28, 28)
RECIPE = {"data": "npz:DATA", "epochs": 2, "batch_size": 128, "lr": 3e-3, "standardise": True}


def build() -> nn.Module:
    """The network, with fresh parameters."""
    layers = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, 10))
'''


def coverage() -> None:
    """Print the coverage of both intervals."""
    rng = np.random.default_rng(0)
    print(f"{'interval':12} {'samples':>8} {'truth':>18} {'coverage':>9}")
    for n, p in ((10_000, 0.91), (10_000, 0.99), (1000, 0.95), (300, 0.8)):
        draws = [int(rng.binomial(n, p)) for _ in range(N_DRAWS)]
        report("Wilson", n, f"{p:.3f}", _share(draws, lambda k, n=n: wilson(k, n), p))
    for n, gained, lost in ((10_000, 0.004, 0.010), (10_000, 0.02, 0.02), (1000, 0.01, 0.02), (300, 0.05, 0.02)):
        pairs = [tuple(map(int, rng.multinomial(n, [gained, lost, 1 - gained - lost])[:2])) for _ in range(N_DRAWS)]
        share = _share(pairs, lambda pair, n=n: Paired(n, *pair).difference(), gained - lost)
        report("Tango", n, f"{gained - lost:+.3f} ({gained:.3f}, {lost:.3f})", share)


def report(name: str, n: int, truth: str, share: float) -> None:
    """Print one line."""
    print(f"{name:12} {n:8,} {truth:>18} {share:9.4f}")


def _share(draws: list, interval: Callable[..., Interval], truth: float) -> float:  # type: ignore[type-arg]
    known: dict[object, bool] = {}
    held = 0
    for draw in draws:
        if draw not in known:
            own = interval(draw)
            known[draw] = own.low <= truth <= own.high
        held += known[draw]
    return held / len(draws)


def _images(data: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """The images (N, 28, 28) and labels (N,) of a part, "train" or "t10k"."""
    with gzip.open(data / f"{part}-images-idx3-ubyte.gz") as stream:
        images = np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(data / f"{part}-labels-idx1-ubyte.gz") as stream:
        labels = np.frombuffer(stream.read(), np.uint8, offset=8).astype(np.int64)
    return images, labels


def prepare(folder: Path, data: Path) -> None:
    """Write the data, train, export, and make the file that is worse."""
    (x, y), (x_test, y_test) = _images(data, "train"), _images(data, "t10k")
    arrays = {"x_train": x[:, None], "y_train": y, "x_test": x_test[:, None], "y_test": y_test}
    np.savez(folder / "fashion.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
    (folder / "net.py").write_text(MODEL.replace("DATA", str(folder / "fashion.npz")), encoding="utf-8")
    np.savez(folder / "first100.npz", x_test=x_test[:100, None], y_test=y_test[:100])
    bnfold.train(str(folder / "net.py"), folder / "run", force=True)
    bnfold.fold_export(folder / "run", folder / "out", force=True)


def make_worse(folder: Path, points: float) -> Path:
    """A file with so many points less accuracy on the test images: the bias of a class known well is lowered."""
    model = onnx.load(folder / "out" / "model.onnx")
    name = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm").input[2]
    tensor = next(own for own in model.graph.initializer if own.name == name)
    bias = numpy_helper.to_array(tensor).copy()
    target = folder / "worse.onnx"
    low, high = 0.0, 64.0
    own = accuracy(folder, folder / "out" / "model.onnx")
    for _ in range(16):
        middle = (low + high) / 2
        changed = bias.copy()
        changed[WELL_KNOWN] -= np.float32(middle)
        tensor.CopyFrom(numpy_helper.from_array(changed, name))
        onnx.save(model, target)
        drop = own - accuracy(folder, target)
        low, high = (middle, high) if drop < points else (low, middle)
        if abs(drop - points) < points / 20:
            break
    return target


def accuracy(folder: Path, file: Path, data: str | None = None) -> float:
    """The accuracy on the test images."""
    return bnfold.evaluate(file, data=data or f"npz:{folder / 'fashion.npz'}").files[0].metrics["accuracy"].value


def gates(folder: Path) -> None:
    """Print the verdicts of the gate of half a point."""
    model, worse = folder / "out" / "model.onnx", make_worse(folder, 0.01)
    whole, few = f"npz:{folder / 'fashion.npz'}", f"npz:{folder / 'first100.npz'}"
    print(f"\n{'--max-drop 0.5%':34} {'samples':>8} {'difference':>11} {'99 % interval':>20}  verdict")
    needed = None
    for name, file, data in (("itself", model, whole), ("one point worse", worse, whole), ("itself", model, few)):
        found = bnfold.evaluate(file, model, data=data, max_drop=0.005)
        own = found.gates[0]
        needed = own.n_to_decide or needed
        print(
            f"{name:34} {found.data.n:8,} {own.value:+11.4f} {f'{own.low:+.4f} to {own.high:+.4f}':>20}  {own.verdict}"
            + (f", {own.n_to_decide:,} would decide" if own.n_to_decide else "")
        )
    if needed is not None:
        with np.load(folder / "fashion.npz") as stored:
            np.savez(folder / "enough.npz", x_test=stored["x_test"][:needed], y_test=stored["y_test"][:needed])
        found = bnfold.evaluate(model, model, data=f"npz:{folder / 'enough.npz'}", max_drop=0.005)
        own = found.gates[0]
        interval = f"{own.low:+.4f} to {own.high:+.4f}"
        print(f"{'itself, as many as asked for':34} {found.data.n:8,} {own.value:+11.4f} {interval:>20}  {own.verdict}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the four .gz files")
    parser.add_argument("--folder", type=Path, help="where to keep what is made")
    arguments = parser.parse_args()
    coverage()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "out" / "model.onnx").is_file():
            prepare(folder, arguments.data)
        gates(folder)


if __name__ == "__main__":
    main()
