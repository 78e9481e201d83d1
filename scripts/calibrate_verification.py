"""How much further from float64 right folds lie than their source: the constants of the verification criterion.

For several architectures and many seeds (parameters, BatchNorm statistics, inputs) this folds every BatchNorm in
float64, rounds once, and runs the very measurement of `bnfold.verification`. It prints the quantiles of E_out / E_src
as root mean square and as maximum, and of what decides where the source happens to be exact, bound / E_src; then the
mildest wrong fold, a dropped epsilon, for contrast. With timm installed its networks are measured too.

    python scripts/calibrate_verification.py [--seeds 40] [--zoo resnet18 mobilenetv3_small_100 ...]
"""

from __future__ import annotations

import argparse
import copy
import logging
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from bnfold.records import InputSpec
from bnfold.verification.comparison import Comparison, compare
from bnfold.verification.reference import TorchReference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bnfold.verification.criterion import OutputErrors

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


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


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "bn-linear": (_bn_linear, (64,)),
    "mlp": (_mlp, (96,)),
    "vgg": (_vgg, (3, 16, 16)),
    "resnet": (_resnet, (3, 16, 16)),
    "mobilenet": (_mobilenet, (3, 16, 16)),
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
            layer.momentum = None
            if seed % 4 == 3:
                continue
            with torch.no_grad():
                layer.weight.copy_(torch.rand(layer.weight.shape, generator=generator) + 0.5)
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.3)
    module.train(seed % 4 != 3)
    with torch.no_grad():
        module(torch.randn(64, *row, generator=generator) * 1.5 + 0.3)
    module.eval()


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
            linear.bias.add_(linear.weight @ shift)
            linear.weight.mul_(s)
        else:
            linear.bias.copy_(s * linear.bias + shift)
            linear.weight.mul_(s.reshape(-1, *[1] * (linear.weight.ndim - 1)))


def export(module: nn.Module, row: tuple[int, ...]) -> onnx.ModelProto:
    """The unoptimized graph with a dynamic batch; input x, output y, initializers named as the parameters."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (torch.randn(2, *row),), dynamo=True, optimize=False, verbose=False,
            input_names=["x"], output_names=["y"], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model_proto


def with_parameters(graph: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """The graph with the module's parameters and buffers as initializers."""
    state = module.state_dict()
    new = onnx.ModelProto()
    new.CopyFrom(graph)
    for tensor in new.graph.initializer:
        if tensor.name in state:
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    return new


@dataclass(frozen=True)
class Ratios:
    """Of one fold: E_out / E_src as root mean square and as maximum, and bound / E_src."""

    name: str
    rms: float
    maximum: float
    bound: float


def measure(
    name: str, module: nn.Module, *, plain: onnx.ModelProto, file: onnx.ModelProto, row: tuple[int, ...], seed: int
) -> Ratios:
    """Run the comparison of `bnfold verify` and take its ratios, the largest over the outputs."""
    (x,) = (value.name for value in plain.graph.input)
    reference = TorchReference(module, [x], [value.name for value in plain.graph.output], plain)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidate.onnx"
        onnx.save(file, path)
        comparison = Comparison(path, reference, provider="cpu", threads=1)
        compare(comparison, (InputSpec(x, (None, *row), "float32"),), samples=None, batches=(1, 2, 3), seed=seed)
    errors: list[OutputErrors] = list(comparison.outputs.values())
    return Ratios(
        name,
        max(error.e_output / error.e_source for error in errors),
        max(error.e_output_maximum / error.e_source_maximum for error in errors),
        max(error.relative_bound * error.reference.rms / error.e_source for error in errors),
    )


def small_networks(n_seeds: int, *, keep_eps: bool) -> Iterator[Ratios]:
    """Measure each architecture at each seed; the graphs are exported once and get new parameters."""
    for name, (build, row) in ARCHITECTURES.items():
        module = build()
        randomise(module, row, 0)
        plain, file = export(module, row), export(folded(module), row)
        for seed in range(n_seeds):
            randomise(module, row, seed)
            candidate = with_parameters(file, folded(module, keep_eps=keep_eps))
            source = with_parameters(plain, module)
            yield measure(name, module, plain=source, file=candidate, row=row, seed=seed)


def zoo_networks(names: Sequence[str]) -> Iterator[Ratios]:
    """Measure timm networks, folded by PyTorch's own fusion of Conv and BatchNorm after `fx` tracing."""
    import timm
    from torch.fx.experimental.optimization import fuse

    for name in names:
        module: Any = timm.create_model(name).eval()
        row = tuple(module.default_cfg["input_size"])
        for title in (f"{name}, fresh", name):
            plain, file = export(module, row), export(fuse(module), row)
            yield measure(title, module, plain=plain, file=file, row=row, seed=0)
            randomise_statistics(module)


def randomise_statistics(module: nn.Module) -> None:
    """Scales, shifts and statistics of the size that training leaves, for networks too large to measure them."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            shape = layer.running_mean.shape  # type: ignore[union-attr]  # BatchNorm2d tracks by default
            layer.running_mean = torch.randn(shape, generator=generator) * 0.2
            layer.running_var = torch.rand(shape, generator=generator) + 0.5
            with torch.no_grad():
                layer.weight.copy_(torch.rand(shape, generator=generator) + 0.5)
                layer.bias.copy_(torch.randn(shape, generator=generator) * 0.2)


def report(title: str, ratios: list[Ratios]) -> None:
    """Print quantiles, over all and for each network."""
    print(f"\n{title}: {len(ratios)} folds, quantiles {QUANTILES}")
    for name in ["all", *dict.fromkeys(ratio.name for ratio in ratios)]:
        chosen = [ratio for ratio in ratios if name in {"all", ratio.name}]
        columns = []
        for measure_name in ("rms", "maximum", "bound"):
            values = np.quantile([getattr(ratio, measure_name) for ratio in chosen], QUANTILES)
            columns.append(f"{measure_name} " + " ".join(f"{value:6.2f}" for value in values))
        print(f"{name:>24}  " + "   ".join(columns))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--zoo", nargs="*", default=[])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report("right folds", list(small_networks(arguments.seeds, keep_eps=True)))
    report("epsilon dropped", list(small_networks(arguments.seeds, keep_eps=False)))
    if arguments.zoo:
        report("timm networks, fused by torch.fx", list(zoo_networks(arguments.zoo)))


if __name__ == "__main__":
    main()
