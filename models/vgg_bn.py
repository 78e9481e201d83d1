"""A small VGG with BatchNorm: pairs of 3x3 convolutions, max pooling, two linear layers with dropout between.

Simonyan and Zisserman, "Very Deep Convolutional Networks" (2014), with a BatchNorm behind each convolution as in
torchvision's vgg11_bn; two stages, as 8x8 pixels allow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 8, 8)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "epochs": 15,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 1e-3,
}

EXPECTED = {"accuracy": 0.97, "kept": 0}


class VGG(nn.Module):
    """Input (N, 1, 8, 8), output (N, n_classes) logits."""

    def __init__(self, widths: tuple[int, ...] = (16, 32), n_hidden: int = 64, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 1
        for width in widths:
            for _ in range(2):
                layers += [nn.Conv2d(n_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                n_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(n_in * 2 * 2, n_hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(n_hidden, n_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return VGG()
