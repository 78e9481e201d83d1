"""Generation: images from latents, learnt against a discriminator, judged by their distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.training.tasks.base import Update, require_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from bnfold.training.data import Batch, DataSet
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks.base import Task

__all__ = ["Generation", "frechet_distance", "generation"]

N_COMPONENTS = 16


@dataclass(frozen=True)
class Generation:
    """Outputs (N, ...) images made from latents, targets as many real ones.

    The network is the generator, with a submodule `discriminator` from images to one logit each. A step updates first
    the discriminator, then the rest's loss is that of fooling it (Goodfellow et al., 2014, the form that does not
    saturate).

    The goal is the Fréchet distance between generated and real images: that of two Gaussians with the mean and the
    covariance of features (Heusel et al., 2017). The features are not those of an Inception network but the positive
    and the negative parts of the first 16 principal components of the real training images, each divided by its
    deviation: 32 numbers, so that skew and the dependence of signs count too. On the test digits, the training digits
    have 0.26, draws from a Gaussian of their mean and covariance 1.05, their mean image alone 16.2.

    Attributes:
        mean: (pixels,), of the real training images.
        components: (pixels, 16), which whiten them.
    """

    mean: torch.Tensor = field(repr=False)
    components: torch.Tensor = field(repr=False)
    goal: str = "frechet"
    maximise: bool = False

    @property
    def updates(self) -> tuple[Update, ...]:
        """The discriminator's update, then the generator's."""
        return (
            Update("discriminator", lambda module: _part(module, "discriminator"), _discriminator_loss),
            Update("generator", lambda module: _part(module, "generator"), _generator_loss),
        )

    def check(self, outputs: Any, batch: Batch) -> None:
        """Refuse outputs that are no images of the size of the real ones."""
        require_shapes("generation", (outputs,), (tuple(batch.targets.shape),))

    def tally(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """For generated and for real images: their number, the sum of features, the sum of products of features."""
        import torch

        sums = []
        for images in (outputs, batch.targets):
            features = self.features(images)
            sums += [features.new_tensor([float(len(features))]), features.sum(0), (features.T @ features).flatten()]
        return torch.cat(sums)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 32) features of images, float64."""
        import torch

        flat = images.flatten(1).double() - self.mean.to(images.device)
        whitened = flat @ self.components.to(images.device)
        return torch.cat([whitened.clamp(min=0), whitened.clamp(max=0)], dim=1)

    def metrics(self, tally: torch.Tensor) -> Mapping[str, float]:
        """The Fréchet distance, which is the loss too: none of the players' losses tells how good the images are."""
        n_features = 2 * self.components.shape[1]
        moments = []
        for part in tally.reshape(2, 1 + n_features + n_features**2):
            n, mean = part[0], part[1 : 1 + n_features] / part[0]
            products = part[1 + n_features :].reshape(n_features, n_features)
            moments.append((mean, products / n - mean.outer(mean)))
        (mean_a, covariance_a), (mean_b, covariance_b) = moments
        distance = frechet_distance(mean_a, covariance_a, mean_b, covariance_b)
        return {"frechet": distance, "loss": distance}


def frechet_distance(
    mean_a: torch.Tensor, covariance_a: torch.Tensor, mean_b: torch.Tensor, covariance_b: torch.Tensor
) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), squared, of two Gaussians (Dowson 1982)."""
    import torch

    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    spread = covariance_a.trace() + covariance_b.trace() - 2 * shared
    return float((mean_a - mean_b).square().sum() + spread)


def _part(module: nn.Module, name: str) -> nn.Module:
    part = getattr(module, name, None)
    if part is None:
        raise InputRefused(
            f"a network for the task generation needs a submodule `{name}`",
            found=", ".join(key for key, _ in module.named_children()) or "none",
            expected="generator and discriminator",
            remedy="see models/dcgan.py",
        )
    module_part: nn.Module = part
    return module_part


def _discriminator_loss(module: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of calling real images real and generated ones not."""
    import torch
    from torch.nn import functional

    discriminator = _part(module, "discriminator")
    with torch.no_grad():
        generated = module(torch.randn_like(batch.inputs[0]))
    real, fake = discriminator(batch.targets), discriminator(generated)
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def _generator_loss(module: nn.Module, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the discriminator's calling generated images real."""
    import torch
    from torch.nn import functional

    generated = module(torch.randn_like(batch.inputs[0]))
    return functional.softplus(-_part(module, "discriminator")(generated)).mean()


def generation(recipe: Recipe, data: DataSet) -> Task:
    """The imitation of a data set's images."""
    import torch

    images = torch.cat([batch.targets.flatten(1) for batch in data.batches("train", recipe.batch_size)]).double()
    mean = images.mean(0)
    _, values, vectors = torch.linalg.svd(images - mean, full_matrices=False)
    n = min(N_COMPONENTS, int((values > 1e-6 * values[0]).sum()))
    deviations = values[:n] / (len(images) - 1) ** 0.5
    return Generation(mean=mean, components=vectors[:n].T / deviations)
