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

__all__ = [
    "__version__",
    "bench",
    "doctor",
    "evaluate",
    "fold",
    "fold_export",
    "inspect",
    "predict",
    "quantize",
    "recalibrate",
    "train",
    "verify",
]

_HOMES = {
    "bench": "bnfold.workflows.benchmark",
    "doctor": "bnfold.workflows.diagnose",
    "evaluate": "bnfold.workflows.evaluate",
    "fold": "bnfold.workflows.fold_network",
    "fold_export": "bnfold.workflows.fold_export",
    "inspect": "bnfold.workflows.inspect_source",
    "predict": "bnfold.workflows.predict",
    "quantize": "bnfold.workflows.quantize",
    "recalibrate": "bnfold.workflows.recalibrate",
    "train": "bnfold.workflows.train_model",
    "verify": "bnfold.workflows.compare",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'bnfold' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
