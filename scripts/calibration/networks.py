"""Small networks with BatchNorms, parameters for them by seed, and a fold of their own, for the calibration."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["ARCHITECTURES", "folded", "is_folded_here", "randomise", "settle"]


class _Net(nn.Module):
    """A network of units in a row; unit i is `units[i]`, with a residual around it where `residual[i]`."""

    def __init__(self, units: Sequence[nn.Module], residual: Sequence[int] = ()) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.residual = frozenset(residual)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, unit in enumerate(self.units):
            x = torch.relu(unit(x) + x) if i in self.residual else unit(x)
        return x


def _conv(c_in: int, c_out: int, k: int = 3, groups: int = 1, *, stride: int = 1, act: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups), nn.BatchNorm2d(c_out)]
    return nn.Sequential(*layers, *([nn.ReLU()] if act else []))


def _head(c: int, n: int = 10) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, n))


def _bn_linear() -> nn.Module:
    return _Net([nn.BatchNorm1d(64), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)])


def _mlp() -> nn.Module:
    hidden = [nn.Sequential(nn.Linear(96, 96), nn.BatchNorm1d(96), nn.ReLU()) for _ in range(6)]
    return _Net([*hidden, nn.Linear(96, 16)])


def _vgg() -> nn.Module:
    return _Net([_conv(3, 16), _conv(16, 32, stride=2), _conv(32, 64, stride=2), _conv(64, 64), _head(64)])


def _resnet() -> nn.Module:
    blocks = [nn.Sequential(_conv(16, 16), _conv(16, 16, act=False)) for _ in range(8)]
    return _Net([_conv(3, 16), *blocks, _head(16)], residual=range(1, 9))


def _mobilenet() -> nn.Module:
    blocks = [nn.Sequential(_conv(32, 32, groups=32), _conv(32, 32, 1, act=False)) for _ in range(5)]
    return _Net([_conv(3, 32, stride=2), *blocks, _head(32)], residual=range(2, 6))


class _Preactivated(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv2d(c, c, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = x + self.end(self.branch(x))
        return y


def _preactivation() -> nn.Module:
    last = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU())
    return _Net([nn.Conv2d(3, 16, 3, 1, 1), *(_Preactivated(16) for _ in range(6)), last, _head(16)])


def _bn_conv() -> nn.Module:
    return _Net([nn.BatchNorm2d(64), nn.Conv2d(64, 32, 3), nn.ReLU(), _head(32)])


def _bn_wide(n: int = 10) -> nn.Module:
    return _Net([nn.BatchNorm1d(512), nn.Linear(512, n)])


def _bn_wide_one() -> nn.Module:
    return _bn_wide(1)


def _bn_wide_hidden() -> nn.Module:
    return _Net([nn.BatchNorm1d(512), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10)])


MEAN_OVER_DEVIATION = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)  # of networks that begin with a BatchNorm, in turn
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bn-linear": (_bn_linear, (64,)),
    "mlp": (_mlp, (96,)),
    "vgg": (_vgg, (3, 16, 16)),
    "resnet": (_resnet, (3, 16, 16)),
    "mobilenet": (_mobilenet, (3, 16, 16)),
    "pre-activation": (_preactivation, (3, 16, 16)),
    "bn-conv": (_bn_conv, (64, 6, 6)),
    "bn-wide": (_bn_wide, (512,)),
    "bn-wide-one": (_bn_wide_one, (512,)),
    "bn-wide-hidden": (_bn_wide_hidden, (512,)),
}


def randomise(module: nn.Module, row: tuple[int, ...], seed: int) -> None:
    """New parameters, running statistics measured on random inputs, and scales and shifts as training leaves them.

    Every fourth seed is a network that has never been trained: mean and shift 0, variance and scale 1.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.reset_parameters()
            if seed % 4 != 3:
                with torch.no_grad():
                    layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator) + 0.5)
                    layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.3)
    if seed % 4 != 3:
        settle(module, torch.randn(64, *row, generator=generator) * 1.5 + 0.3)
    units: Any = getattr(module, "units", None)
    if units is not None and isinstance(units[0], nn.BatchNorm1d | nn.BatchNorm2d):
        _shift(units[0], seed, generator)
    module.eval()


def settle(module: nn.Module, inputs: torch.Tensor) -> None:
    """Measure the running statistics on these inputs."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    module.train()
    with torch.no_grad():
        module(inputs)
    module.eval()


def _shift(norm: Any, seed: int, generator: torch.Generator) -> None:
    """Inputs far from zero against their deviation, of one sign or both; with every third seed some are constant."""
    ratio = MEAN_OVER_DEVIATION[seed % len(MEAN_OVER_DEVIATION)]
    n = norm.num_features
    deviation = torch.rand(n, generator=generator) + 0.5
    sign = torch.ones(n) if seed % 2 else torch.randn(n, generator=generator).sign()
    norm.running_mean.copy_(ratio * sign * deviation * (torch.rand(n, generator=generator) + 0.5))
    norm.running_var.copy_(deviation**2)
    if seed % 3 == 0:
        norm.running_var[: n // 10] = 0.0


def is_folded_here(module: nn.Module) -> bool:
    """Whether `folded` knows the network: every BatchNorm right behind a linear operator, or the first unit."""
    return not any(isinstance(layer, _Preactivated) for layer in module.modules())


def folded(module: nn.Module, *, keep_eps: bool = True) -> nn.Module:
    """A copy without BatchNorm: s = gamma / sqrt(var + eps), W' = s W, b' = s (b - mean) + beta, in float64.

    A BatchNorm in front of a Linear, the first unit of a network, goes into it: W' = W s, b' = b + W (beta - s mean).
    """
    wide = copy.deepcopy(module).double()
    for parent in list(wide.modules()):
        if not isinstance(parent, nn.Sequential | nn.ModuleList):
            continue
        for i, norm in enumerate(list(parent)):
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                neighbour: Any = parent[i - 1 if i else i + 1]
                _absorb(norm, neighbour, in_front=i == 0, keep_eps=keep_eps)
                parent[i] = nn.Identity()
    return wide.float().eval()


def _absorb(norm: Any, linear: Any, *, in_front: bool, keep_eps: bool) -> None:
    with torch.no_grad():
        s = norm.weight / torch.sqrt(norm.running_var + (norm.eps if keep_eps else 0.0))
        shift = norm.bias - s * norm.running_mean
        if in_front:
            taps = linear.weight.flatten(2).sum(2) if linear.weight.ndim > 2 else linear.weight
            linear.bias.add_(taps @ shift)
            linear.weight.mul_(s.reshape(1, -1, *[1] * (linear.weight.ndim - 2)))
        else:
            linear.bias.copy_(s * linear.bias + shift)
            linear.weight.mul_(s.reshape(-1, *[1] * (linear.weight.ndim - 1)))
