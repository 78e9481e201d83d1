"""Networks for scripts/right_folds.py: names, input shapes, and parameters that are hard to fold.

A name is `SOURCE[+tiny][+mixed|+zeros][+few]`. SOURCE is one of scripts/common/patterns.py, `zoo:NAME` of models/,
`timm:NAME` or `torchvision:NAME`. `+tiny` brings the variances of the BatchNorms down to 1e-8..1e-4, `+mixed` makes
15 % of the gammas negative, `+zeros` also sets 3 % to 0, `+few` measures the statistics on 4 rows, which leaves a
BatchNorm of vectors with deviations far from the true ones. Images are 128 x 128 where a network takes any size, since
the float64 reference of all networks at full size takes hours on two cores.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from common.networks import TIMM, calibrate, randomise
from common.patterns import PATTERNS

from bnfold.sources.library import build_timm, build_torchvision
from bnfold.sources.model_file import load_model_file, zoo_names
from bnfold.verification.data.feeds import SMALL_ROW

__all__ = ["NETWORKS", "has_small_rows", "network"]

N_ROWS, N_ROWS_SMALL, N_ROWS_FEW = 16, 64, 4  # that statistics are measured on
IMAGE = (3, 128, 128)
SHAPES: dict[str, tuple[int, ...]] = {
    "timm:levit_128s": (3, 224, 224),
    "timm:levit_384": (3, 224, 224),
    "timm:visformer_tiny": (3, 224, 224),
    "timm:inception_resnet_v2": (3, 160, 160),
    "torchvision:inception_v3": (3, 160, 160),
    "torchvision:r3d_18": (3, 8, 64, 64),
}
NETWORKS = (
    *PATTERNS, *(f"zoo:{name}" for name in zoo_names()), *(f"timm:{name}" for name in TIMM),
    *(f"torchvision:{name}" for name in (
        "resnet18", "resnet152", "densenet201", "mobilenet_v2", "mobilenet_v3_small", "googlenet", "inception_v3",
        "shufflenet_v2_x1_0", "mnasnet1_0", "regnet_y_400mf", "vgg11_bn", "r3d_18", "lraspp_mobilenet_v3_large",
        "deeplabv3_mobilenet_v3_large",
    )),
    *(f"timm:{name}" for name in (
        "inception_resnet_v2", "efficientnet_b0", "mixnet_s", "ese_vovnet19b_dw", "dla34", "hrnet_w18_small",
        "mobilevit_s", "cspresnet50", "res2net50_14w_8s", "resnest14d", "repghostnet_100", "edgenext_xx_small",
    )),
    "bnnet+tiny", "zoo:resnet+tiny+zeros", "unet+tiny+mixed", "dcgan_generator+tiny", "timm:resnetv2_18+tiny",
    "torchvision:resnet18+tiny+zeros", "torchvision:mobilenet_v2+tiny", "torchvision:vgg11_bn+tiny",
    "torchvision:resnet50+zeros", "torchvision:densenet121+tiny+mixed", "torchvision:shufflenet_v2_x1_0+zeros",
    "timm:repvgg_a0+mixed", "timm:levit_128s+zeros", "timm:mobileone_s0+tiny+mixed",
    "bnnet+few", "tabular+few", "bn_lstm+few", "timm:levit_128s+few",
)  # fmt: skip


def has_small_rows(inputs: tuple[torch.Tensor, ...]) -> bool:
    """Whether a row is so small that the verification repeats its largest batch."""
    return sum(math.prod(x.shape[1:]) for x in inputs) <= SMALL_ROW


def network(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], tuple[str, ...]]:
    """The network with calibrated statistics, example inputs, and the names of its outputs."""
    source, *changes = name.split("+")
    torch.manual_seed(0)
    module, inputs = _built(source, few="few" in changes)
    module.eval()
    gamma = next((change for change in changes if change in ("mixed", "zeros")), "positive")
    randomise(module, gamma, seed=1)
    if "tiny" in changes:
        inputs = _shrink(module, inputs)
    calibrate(module, inputs)
    with torch.no_grad():
        result = module(*inputs)
    return module, inputs, _names(result)


def _names(result: Any) -> tuple[str, ...]:
    if isinstance(result, dict):
        return tuple(result)
    return ("output",) if isinstance(result, torch.Tensor) else tuple(f"output{k}" for k in range(len(result)))


def _built(source: str, *, few: bool) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    library, _, name = source.rpartition(":")
    if not library:
        factory, example = PATTERNS[name]
        module, rows = factory(), example()
        more = (example() for _ in range(math.ceil(_n_rows(rows, few=few) / len(rows[0])) - 1))
        return module, tuple(torch.cat(parts) for parts in zip(rows, *more, strict=True))
    if library == "zoo":
        file = load_model_file(name)
        module, shapes = file.build(), [shape[1:] for shape in file.input_shapes]
        dtypes = file.input_dtypes or ("float32",) * len(shapes)
    else:
        build: Any = {"timm": build_timm, "torchvision": build_torchvision}[library]
        (module, _), shapes, dtypes = build(name, pretrained=False), [SHAPES.get(source, IMAGE)], ("float32",)
    rows = tuple(torch.empty(0, *shape) for shape in shapes)
    n_rows = _n_rows(rows, few=few)
    return module, tuple(_random((n_rows, *x.shape[1:]), dtype) for x, dtype in zip(rows, dtypes, strict=True))


def _n_rows(rows: tuple[torch.Tensor, ...], *, few: bool) -> int:
    return N_ROWS_FEW if few else N_ROWS_SMALL if has_small_rows(rows) else N_ROWS


def _random(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    """Normal, or 0 and 1 where whole numbers are read: every table has two rows."""
    return torch.randn(shape) if dtype.startswith("float") else torch.randint(2, shape)


def _shrink(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Scale every channel of every weight, or of the inputs of a first BatchNorm, by 1e-4..1e-2."""
    generator = torch.Generator().manual_seed(2)

    def factors(n: int) -> torch.Tensor:
        return 10 ** (torch.rand(n, generator=generator) * 2 - 4)

    first = next(layer for layer in module.modules() if not list(layer.children()))
    if isinstance(first, torch.nn.modules.batchnorm._BatchNorm):
        return tuple(x * factors(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)) for x in inputs)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, torch.nn.modules.conv._ConvNd | torch.nn.Linear):
                axis = 1 if isinstance(layer, torch.nn.modules.conv._ConvTransposeNd) else 0
                shape = [1] * layer.weight.ndim
                shape[axis] = -1
                scale = factors(layer.weight.shape[axis])
                layer.weight.mul_(scale.reshape(shape))
                if layer.bias is not None and layer.bias.shape == scale.shape:
                    layer.bias.mul_(scale)
    return inputs
