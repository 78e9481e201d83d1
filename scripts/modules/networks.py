"""The networks of scripts/fold_modules.py: random weights, statistics measured, gammas of three kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bnfold.sources import load_network

__all__ = ["GAMMAS", "build", "names", "randomise"]

GAMMAS = ("positive", "mixed", "zeros")
TIMM = (
    "resnet18", "resnetv2_50", "levit_128s", "repvgg_a0", "mobileone_s0", "fastvit_t8", "swiftformer_xs",
    "visformer_tiny", "convmixer_768_32", "densenet121",
)  # fmt: skip
TORCHVISION = ("mobilenet_v3_small", "r3d_18", "shufflenet_v2_x0_5", "lraspp_mobilenet_v3_large")
OWN = ("frozen_backbone", "lstm", "gru", "embedding")


class Sequence(nn.Module):
    """BatchNorm in front of a recurrent layer."""

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(12)
        self.layer = layer(12, 16, batch_first=True, bidirectional=True, num_layers=2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, T, 12) to (N, 5)."""
        y = self.bn(x.transpose(1, 2)).transpose(1, 2)
        logits: torch.Tensor = self.head(self.layer(y)[0][:, -1])
        return logits


class Embedded(nn.Module):
    """BatchNorm behind an embedding, and behind a linear layer without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.bn = nn.Embedding(50, 16), nn.BatchNorm1d(16)
        self.fc, self.bn2, self.head = nn.Linear(16, 24, bias=False), nn.BatchNorm1d(24), nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (N, T) to (N, T, 3)."""
        y = self.bn(self.embedding(x).transpose(1, 2)).transpose(1, 2)
        y = torch.relu(self.bn2(self.fc(y).transpose(1, 2))).transpose(1, 2)
        logits: torch.Tensor = self.head(y)
        return logits


def frozen_backbone() -> nn.Module:
    """The backbone of torchvision's Faster R-CNN, with frozen BatchNorms."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    return resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=FrozenBatchNorm2d)  # type: ignore[no-any-return]


def build(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    """A network with random weights, and inputs of batch 4."""
    torch.manual_seed(0)
    kind, _, rest = name.partition(":")
    if kind == "timm":
        import timm

        module = timm.create_model(rest)
        return module, (torch.randn(4, *module.pretrained_cfg["input_size"]),)
    if kind == "torchvision":
        from torchvision import models

        options = {"weights_backbone": None} if "lraspp" in rest else {}
        shape = (4, 3, 8, 64, 64) if rest == "r3d_18" else (4, 3, 128, 128)
        return models.get_model(rest, weights=None, **options), (torch.randn(shape),)
    if kind == "zoo":
        from bnfold.sources.model_file import load_model_file
        from bnfold.sources.trial import trial_inputs

        source = load_network(rest)
        return load_model_file(rest).build(), trial_inputs(source.inputs, 4)
    if name == "frozen_backbone":
        return frozen_backbone(), (torch.randn(2, 3, 128, 128),)
    if name == "embedding":
        return Embedded(), (torch.randint(0, 50, (4, 9)),)
    return Sequence(nn.LSTM if name == "lstm" else nn.GRU), (torch.randn(4, 9, 12),)


def randomise(module: nn.Module, inputs: tuple[Any, ...], gamma: str) -> nn.Module:
    """Draw gamma and beta of every BatchNorm, and measure its statistics."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        frozen = type(norm).__name__ == "FrozenBatchNorm2d"
        if not frozen and not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        weight: Any = norm.weight
        if weight is None:
            continue
        with torch.no_grad():
            weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)  # type: ignore[operator]
            if frozen:
                norm.running_mean.normal_(0, 0.2, generator=generator)  # type: ignore[operator]
                norm.running_var.uniform_(0.5, 1.5, generator=generator)  # type: ignore[operator]
            if gamma != "positive":
                weight[torch.rand(weight.shape, generator=generator) < 0.15] *= -1
            if gamma == "zeros":
                weight[torch.rand(weight.shape, generator=generator) < 0.03] = 0
    module.eval()
    norms = [norm for norm in module.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        module(*inputs)
    return module.eval()


def names() -> list[str]:
    """All networks of the table."""
    zoo = sorted(path.stem for path in (Path(__file__).parents[2] / "models").glob("*.py"))
    return [
        *(f"timm:{name}" for name in TIMM), *(f"torchvision:{name}" for name in TORCHVISION), *OWN,
        *(f"zoo:{name}" for name in zoo),
    ]  # fmt: skip
