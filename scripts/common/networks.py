"""Networks with parameters as training leaves them: drawn gammas, measured statistics."""

from __future__ import annotations

import torch

from bnfold.records import InputSpec, SourceFacts
from bnfold.sources import TorchSource
from common.patterns import PATTERNS

__all__ = ["TIMM", "build", "calibrate", "names", "randomise", "source_of"]

TIMM = (
    "resnetv2_18", "resnetv2_50", "levit_128s", "levit_384", "repvgg_a0", "mobileone_s0", "fastvit_t8",
    "repghostnet_050", "ghostnetv3_100", "repvit_m1", "visformer_tiny", "convmixer_768_32", "densenet121",
)  # fmt: skip


def randomise(module: torch.nn.Module, gamma: str, seed: int) -> None:
    """Draw gamma and beta of every BatchNorm."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm) and norm.affine:
            with torch.no_grad():
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.2, generator=generator)
                if gamma != "positive":
                    norm.weight[torch.rand(norm.weight.shape, generator=generator) < 0.15] *= -1
                if gamma == "zeros":
                    norm.weight[torch.rand(norm.weight.shape, generator=generator) < 0.03] = 0


def calibrate(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Measure the running statistics of every BatchNorm on the inputs, in training mode."""
    norms = [norm for norm in module.modules() if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        module(*inputs)
    module.eval()


def build(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """A network with random weights, and example inputs of batch 4."""
    torch.manual_seed(0)
    if name in PATTERNS:
        factory, inputs = PATTERNS[name]
        return factory().eval(), inputs()
    import timm

    module = timm.create_model(name)
    return module.eval(), (torch.randn(4, *module.pretrained_cfg["input_size"]),)


def source_of(name: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> TorchSource:
    """The network as `bnfold fold-export` would load it, with a dynamic batch."""
    specs = tuple(
        InputSpec(f"x{k}", (None, *x.shape[1:]), str(x.dtype).removeprefix("torch.")) for k, x in enumerate(inputs)
    )
    return TorchSource(SourceFacts(name, "", sum(p.numel() for p in module.parameters())), module, specs, ("output",))


def names(inputs: tuple[torch.Tensor, ...]) -> list[str]:
    """Input names x0, x1, ..."""
    return [f"x{k}" for k in range(len(inputs))]
