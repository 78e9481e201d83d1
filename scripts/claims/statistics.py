"""The measurements of scripts/claims.py about statistics and folding: each takes a seed and gives plain numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bnfold.calibration.measure import Prior, measure_layerwise, measure_pooled
from claims.networks import NORMS, Part, accuracy, convnet, digits, steps, trained

__all__ = ["few_steps", "foldable", "shifted"]

STEPS = (5, 10, 20, 40, 80, 160)
SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contrast x 0.3": lambda x: 0.3 * x,
    "brighter by 1": lambda x: x + 1.0,
    "noise 0.7": lambda x: x + 0.7 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
    "blur 3x3": lambda x: functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False),
    "inverted": lambda x: -x,
}


def few_steps(seed: int) -> dict[str, Any]:
    """Wu and Johnson 2021, section 3: test accuracy with moving averages and with pooled statistics, in percent."""
    train, test = digits()["train"], digits()["test"]
    network = convnet("BatchNorm", seed=seed)
    moving, pooled = [], []
    for step in steps(network, train, lr=0.1, batch=64, n=max(STEPS), seed=seed, momentum=0.9):
        if step in STEPS:
            moving.append(accuracy(network, test))
            measured = copy.deepcopy(network)
            measure_pooled(measured, [(images,) for images in torch.split(train.images, 64)])
            pooled.append(accuracy(measured, test))
    return {"moving average": moving, "pooled": pooled}


def shifted(seed: int) -> dict[str, Any]:
    """Schneider et al. 2020: accuracy on shifted test images by the weight of the old statistics, in percent.

    The statistics are measured on the shifted test images, without their labels.
    """
    network = trained(
        convnet("BatchNorm", seed=seed), digits()["train"], lr=0.1, batch=64, n=300, seed=seed, momentum=0.9
    )
    found: dict[str, Any] = {"unshifted": _adapted(network, digits()["test"])}
    for name, shift in SHIFTS.items():
        found[name] = _adapted(network, replace(digits()["test"], images=shift(digits()["test"].images)))
    return found


def _adapted(network: nn.Module, target: Part) -> list[float]:
    """Without adaptation, with as much weight on the old statistics as on the new ones, and with the new ones alone."""
    n = len(target.targets)
    results = [accuracy(network, target)]
    for weight in (n, 0):
        copied = copy.deepcopy(network)
        measure_layerwise(copied, [(target.images,)], prior=Prior(weight, n))
        results.append(accuracy(copied, target))
    return results


def foldable(seed: int) -> dict[str, Any]:
    """Normalizations in each network of `batch_sizes`, and how many are left in the folded graph."""
    from bnfold.export import plain_graph
    from bnfold.folding import fold_model
    from bnfold.sources.torch_source import torch_source

    norms = ("BatchNormalization", "InstanceNormalization", "GroupNormalization", "LayerNormalization")
    found: dict[str, Any] = {}
    for norm in NORMS:
        if norm != "none":
            source = torch_source(convnet(norm, seed=seed), norm, shapes=((1, 1, 8, 8),))
            graph = plain_graph(source)
            fold_model(graph)
            found[norm] = [3, sum(node.op_type in norms for node in graph.graph)]
    return found
