"""Write the list of networks with BatchNorms of timm and torchvision: scripts/survey/networks.txt.

    cd scripts && python -m survey.listing

Networks are built without memory for their weights (`torch.device("meta")`) where they can be. Those of
scripts/fold_zoo.py and the smallest of each family come first, the others by the number of their parameters. Left out
are networks that timm made for its tests, and those that torchvision has for lists of images or for int8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from common.networks import TIMM
from torch.nn.modules.batchnorm import _BatchNorm

from bnfold.errors import BnfoldError
from bnfold.sources.library import build_timm, build_torchvision
from survey.networks import LIST

if TYPE_CHECKING:
    from collections.abc import Iterator

Found = tuple[int, str, str]  # parameters, name, family
Build = Callable[..., tuple[torch.nn.Module, tuple[int, ...]]]


def networks() -> Iterator[Found]:
    """Each network that has a BatchNorm."""
    timm: Any = import_module("timm")
    entry = import_module("timm.models").model_entrypoint
    for name in timm.list_models(exclude_filters="test_*"):
        yield from _found("timm", name, build_timm, entry(name))
    torchvision: Any = import_module("torchvision.models")
    for name in torchvision.list_models(exclude="quantized_*"):
        yield from _found("torchvision", name, build_torchvision, torchvision.get_model_builder(name))


def _found(library: str, name: str, build: Build, builder: Callable[..., Any]) -> Iterator[Found]:
    network = _built(name, build)
    if network is not None and any(isinstance(part, _BatchNorm) for part in network.modules()):
        n_parameters = sum(weight.numel() for weight in network.parameters())
        yield n_parameters, f"{library}:{name}", f"{library}/{builder.__module__.partition('.models.')[2]}"


def _built(name: str, build: Build) -> torch.nn.Module | None:
    """The network; None where it is for lists of images."""
    for device in ("meta", "cpu"):  # some look at their weights when they are made
        try:
            with torch.device(device):
                return build(name, pretrained=False)[0]
        except BnfoldError as error:
            refused = error
    print(refused, file=sys.stderr, flush=True)
    return None


def main() -> None:
    """Write the list."""
    found = sorted(networks())
    smallest = {family: name for _, name, family in reversed(found)}
    first = {*smallest.values(), *(f"timm:{name}" for name in TIMM)}
    ordered = sorted(found, key=lambda one: one[1] not in first)
    LIST.write_text("".join(f"{name} {family}\n" for _, name, family in ordered), encoding="utf-8")


if __name__ == "__main__":
    main()
