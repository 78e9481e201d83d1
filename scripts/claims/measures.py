"""The measurements of scripts/claims.py about training: each takes a seed and gives plain numbers.

A network "trains" when it reaches 90 % of the test images.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from claims.networks import NORMS, accuracy, convnet, digits, mlp, steps, trained

__all__ = ["along_the_gradient", "batch_sizes", "initialisations", "learning_rates", "regularising", "steps_to_90"]

LEVEL = 90.0
RATES = tuple(2.0**k for k in range(-9, 8))
STDS = tuple(10.0 ** (k / 4) for k in range(-16, 9))
BATCHES = (2, 4, 8, 16, 32, 64)
WITH = {"without": False, "with": True}


def steps_to_90(seed: int) -> dict[str, Any]:
    """Ioffe and Szegedy 2015, figure 1: sigmoid, 3 hidden layers of 100, batch 60, small Gaussian weights (0.1)."""
    found: dict[str, Any] = {}
    for name, norm in WITH.items():
        network = mlp(3, 100, nn.Sigmoid, norm=norm, seed=seed, std=0.1)
        curve = []
        for step in steps(network, digits()["train"], lr=0.5, batch=60, n=3000, seed=seed):
            if step % 20 == 0:
                curve.append((step, accuracy(network, digits()["test"])))
                if curve[-1][1] >= LEVEL:
                    break
        found[name] = {"steps": curve[-1][0] if curve[-1][1] >= LEVEL else None, "curve": curve}
    return found


def _trains(network: nn.Module, *, lr: float, n: int, seed: int) -> bool:
    return accuracy(trained(network, digits()["train"], lr=lr, batch=64, n=n, seed=seed), digits()["test"]) >= LEVEL


def learning_rates(seed: int) -> dict[str, Any]:
    """Bjorck et al. 2018: the highest rate that trains within 200 steps; ReLU, 8 hidden layers of 64, He's weights."""
    return {
        name: [lr for lr in RATES if _trains(mlp(8, 64, nn.ReLU, norm=norm, seed=seed), lr=lr, n=200, seed=seed)]
        for name, norm in WITH.items()
    }


def initialisations(seed: int) -> dict[str, Any]:
    """The deviations of the weights at which 200 steps train; ReLU, 4 hidden layers of 64, rate 0.1."""
    return {
        name: [
            std for std in STDS if _trains(mlp(4, 64, nn.ReLU, norm=norm, seed=seed, std=std), lr=0.1, n=200, seed=seed)
        ]
        for name, norm in WITH.items()
    }


def along_the_gradient(seed: int) -> dict[str, Any]:
    """Santurkar et al. 2018, figure 4a: how far the loss of a batch spreads along its gradient.

    Every 10 of 200 steps at rate 0.1: largest minus smallest loss at 0.5 to 4 times the step, in nats.
    """
    return {name: _ranges(mlp(8, 64, nn.ReLU, norm=norm, seed=seed), seed) for name, norm in WITH.items()}


def _ranges(network: nn.Module, seed: int) -> list[float]:
    train = digits()["train"]
    ranges = []
    for step in steps(network, train, lr=0.1, batch=64, n=200, seed=seed):
        if step % 10:
            continue
        chosen = torch.randperm(len(train.targets), generator=torch.Generator().manual_seed(step))[:64]
        images, targets = train.images[chosen], train.targets[chosen]
        probe = copy.deepcopy(network).train()
        gradients = torch.autograd.grad(functional.cross_entropy(probe(images), targets), list(probe.parameters()))
        losses, moved = [], 0.0
        with torch.no_grad():
            for factor in (0.5, 1.0, 2.0, 3.0, 4.0):
                for parameter, gradient in zip(probe.parameters(), gradients, strict=True):
                    parameter.sub_(0.1 * (factor - moved) * gradient)
                moved = factor
                losses.append(float(functional.cross_entropy(probe(images), targets)))
        ranges.append(max(losses) - min(losses))
    return ranges


def regularising(seed: int) -> dict[str, Any]:
    """Trained to the end on 300 images at two batch sizes: accuracy on these and on the test images, in percent."""
    train = digits()["train"]
    few = type(train)(train.images[:300], train.targets[:300])
    found: dict[str, Any] = {}
    for name, norm in WITH.items():
        for batch in (8, 64):
            network = mlp(3, 100, nn.ReLU, norm=norm, seed=seed)
            trained(network, few, lr=0.05, batch=batch, n=800, seed=seed)
            found[f"{name}, batch {batch}"] = [accuracy(network, few), accuracy(network, digits()["test"])]
    return found


def batch_sizes(seed: int) -> dict[str, Any]:
    """Wu and He 2018: test accuracy over the batch size after 7,680 images, rate 0.1 at 64 and in proportion below."""
    return {
        norm: [
            accuracy(
                trained(convnet(norm, seed=seed), digits()["train"], lr=0.1 * batch / 64, batch=batch,
                        n=7680 // batch, seed=seed, momentum=0.9),
                digits()["test"],
            )
            for batch in BATCHES
        ]
        for norm in NORMS
    }  # fmt: skip
