"""A DCGAN: a generator of digits and a discriminator that learns to tell them from real ones.

Radford et al., "Unsupervised Representation Learning with DCGANs" (2015): transposed convolutions and BatchNorm in the
generator, strided convolutions, BatchNorm and LeakyReLU in the discriminator, neither on the outermost layers. What the
network computes, and what is exported, is the generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 16, 1, 1)
OUTPUT_NAMES = ("image",)

RECIPE = {
    "task": "generation",
    "data": "digits",
    "threads": 1,
    "epochs": 60,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 1e-3,
    "beta1": 0.5,
    "weight_decay": 0.0,
    "warmup": 0.0,
}

# Less than a Gaussian of the mean and the covariance of the digits, whose distance is 1.05; real digits have 0.26.
EXPECTED = {"frechet": 1.0, "kept": 0}


class DCGAN(nn.Module):
    """Input (N, n_latent, 1, 1) normal numbers, output (N, 1, 8, 8) images in -1..1."""

    def __init__(self, n_latent: int = 16, width: int = 32) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(n_latent, 2 * width, 2, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 2),
            nn.Flatten(),
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(layer.weight, std=0.05)

    def forward(self, latent: Tensor) -> Tensor:
        """Images from latents; the discriminator is a part of training alone."""
        images: Tensor = self.generator(latent)
        return images


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return DCGAN()
