"""What scripts/claims.py trains: small networks with a choice of normalization, on the digits of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from bnfold.training.data import stratified_split

__all__ = ["NORMS", "Part", "accuracy", "convnet", "digits", "mlp", "steps", "trained"]

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda _: nn.Identity(),
    "BatchNorm": nn.BatchNorm2d,
    "LayerNorm": lambda n: nn.GroupNorm(1, n),  # over channels and places of one image, as Wu and He 2018 define it
    "InstanceNorm": lambda n: nn.InstanceNorm2d(n, affine=True),
    "GroupNorm": lambda n: nn.GroupNorm(4, n),
}


@dataclass(frozen=True)
class Part:
    """Images (N, 1, 8, 8), standardised by the training images' mean and deviation, and their digits (N,)."""

    images: Tensor
    targets: Tensor


@cache
def digits() -> dict[str, Part]:
    """The splits train (1,259), val (179) and test (359)."""
    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float()[:, None]
    targets = torch.from_numpy(bunch.target).long()
    indices = {name: torch.from_numpy(index) for name, index in stratified_split(bunch.target, 0).items()}
    train = images[indices["train"]]
    images = (images - train.mean()) / train.std()
    return {name: Part(images[index], targets[index]) for name, index in indices.items()}


def mlp(
    depth: int,
    width: int,
    act: type[nn.Module],
    *,
    norm: bool,
    seed: int,
    std: float | None = None,
) -> nn.Sequential:
    """Hidden layers of Linear, BatchNorm1d (where `norm`) and activation; weights N(0, std^2), He's std where None."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Flatten()]
    n_in = 64
    for _ in range(depth):
        layers += [nn.Linear(n_in, width), *([nn.BatchNorm1d(width)] if norm else []), act()]
        n_in = width
    network = nn.Sequential(*layers, nn.Linear(n_in, 10))
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=(2 / layer.in_features) ** 0.5 if std is None else std)
            nn.init.zeros_(layer.bias)
    return network


def convnet(norm: str, *, seed: int) -> nn.Sequential:
    """Three 3x3 convolutions of 16 channels, each with a normalization and a ReLU; mean over places; Linear."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, stride in ((1, 1), (16, 2), (16, 1)):
        layers += [nn.Conv2d(n_in, 16, 3, stride=stride, padding=1), NORMS[norm](16), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def steps(
    network: nn.Module, part: Part, *, lr: float, batch: int, n: int, seed: int, momentum: float = 0.0
) -> Iterator[int]:
    """Train by SGD, one step for each value taken; ends where the loss is no longer finite."""
    optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=momentum)
    order = torch.Generator().manual_seed(seed)
    index = torch.empty(0, dtype=torch.long)
    for step in range(1, n + 1):
        if len(index) < batch:
            index = torch.randperm(len(part.targets), generator=order)
        chosen, index = index[:batch], index[batch:]
        network.train()
        loss = functional.cross_entropy(network(part.images[chosen]), part.targets[chosen])
        if not torch.isfinite(loss):
            return
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # unannotated in torch
        optimizer.step()
        yield step


def trained(
    network: nn.Module, part: Part, *, lr: float, batch: int, n: int, seed: int, momentum: float = 0.0
) -> nn.Module:
    """The network after all these steps, in eval mode."""
    for _ in steps(network, part, lr=lr, batch=batch, n=n, seed=seed, momentum=momentum):
        pass
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, part: Part) -> float:
    """The share of the images that the network gets right, in eval mode, in percent; 10 is chance."""
    hits = network.eval()(part.images).argmax(1) == part.targets
    return 100 * float(hits.float().mean())
