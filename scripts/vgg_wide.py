"""The zoo's VGG with 64 and 128 channels: wide enough for a runtime that computes in blocks of 16 to gain by fewer."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from bnfold.sources.model_file import zoo_folder

if TYPE_CHECKING:
    from torch import nn

_FILE = zoo_folder() / "vgg_bn.py"  # a run keeps a copy of this file, and this one does not lie beside it
_SPEC = importlib.util.spec_from_file_location("vgg_bn", _FILE)
if _SPEC is None or _SPEC.loader is None:
    raise ImportError(f"{_FILE} must be a Python file")
_NARROW = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_NARROW)

INPUT_SHAPE = _NARROW.INPUT_SHAPE
RECIPE = _NARROW.RECIPE


def build() -> nn.Module:
    """The network, with fresh parameters."""
    network: nn.Module = _NARROW.VGG(widths=(64, 128))
    return network
