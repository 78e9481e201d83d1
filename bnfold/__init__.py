"""Fold BatchNorm out of a network, export ONNX, prove the result equal, and measure what it is worth.

The functions here are the commands: they take the same arguments and return the same facts as frozen dataclasses.
They are imported on first use, so that `import bnfold` costs nothing and needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnfold.version import __version__

if TYPE_CHECKING:
    from bnfold.workflows.benchmark import bench
    from bnfold.workflows.bundle_file import bundle
    from bnfold.workflows.compare import verify
    from bnfold.workflows.diagnose import doctor
    from bnfold.workflows.evaluate import evaluate
    from bnfold.workflows.fold_export import fold_export
    from bnfold.workflows.fold_network import fold
    from bnfold.workflows.inspect_source import inspect
    from bnfold.workflows.predict import predict
    from bnfold.workflows.quantize import quantize
    from bnfold.workflows.recalibrate import recalibrate
    from bnfold.workflows.train_model import train
    from bnfold.workflows.tune import tune

__all__ = [
    "__version__",
    "bench",
    "bundle",
    "doctor",
    "evaluate",
    "fold",
    "fold_export",
    "inspect",
    "predict",
    "quantize",
    "recalibrate",
    "train",
    "tune",
    "verify",
]

COMMANDS = {
    "train": (
        "bnfold.cli.train",
        "Train a network of the zoo or of a file, and keep a run folder.",
        "bnfold.workflows.train_model",
    ),
    "recalibrate": (
        "bnfold.cli.recalibrate",
        "Measure a run's BatchNorm statistics again, or adapt them to other data.",
        "bnfold.workflows.recalibrate",
    ),
    "fold-export": (
        "bnfold.cli.fold_export",
        "Fold every BatchNorm that can vanish, export ONNX, prove it equal.",
        "bnfold.workflows.fold_export",
    ),
    "quantize": (
        "bnfold.cli.quantize",
        "Quantise a network to int8; prove the file, measure loss and speed.",
        "bnfold.workflows.quantize",
    ),
    "bench": ("bnfold.cli.bench", "Measure .onnx files side by side.", "bnfold.workflows.benchmark"),
    "tune": (
        "bnfold.cli.tune",
        "Find the session options that are fastest for .onnx files here.",
        "bnfold.workflows.tune",
    ),
    "verify": (
        "bnfold.cli.verify",
        "Compare an .onnx file with the network it came from.",
        "bnfold.workflows.compare",
    ),
    "evaluate": (
        "bnfold.cli.evaluate",
        "Say how good .onnx files are on labelled data, and how they differ.",
        "bnfold.workflows.evaluate",
    ),
    "predict": ("bnfold.cli.predict", "Say what is in images, in the words of the file.", "bnfold.workflows.predict"),
    "bundle": (
        "bnfold.cli.bundle",
        "Write what is needed to serve a file, with golden values.",
        "bnfold.workflows.bundle_file",
    ),
    "inspect": (
        "bnfold.cli.inspect",
        "Show what would happen to each BatchNorm, without writing anything.",
        "bnfold.workflows.inspect_source",
    ),
    "doctor": (
        "bnfold.cli.doctor",
        "Check this machine; print the command that mends what is missing.",
        "bnfold.workflows.diagnose",
    ),
}
"""Each command: the module of its click command, a line of help, and the module of the function of its name."""

_FUNCTIONS = {"fold": "bnfold.workflows.fold_network"}  # that are no command


def __getattr__(name: str) -> Any:
    command = COMMANDS.get(name.replace("_", "-"))
    home = _FUNCTIONS.get(name) if command is None else command[2]
    if home is None:
        raise AttributeError(f"module 'bnfold' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
