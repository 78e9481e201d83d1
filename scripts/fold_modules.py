"""Fold modules with `bnfold.fold`, and print, for each, what became of its BatchNorms, beside what other tools do.

    python scripts/fold_modules.py [--gamma positive|mixed|zeros] [--others] [NAME ...]

NAME is `timm:NAME`, `torchvision:NAME`, `zoo:NAME` (models/), or one of the networks below; without names, all.
Statistics are measured on random data; gamma is drawn from 0.5..1.5, beta from N(0, 0.2); `mixed` makes 15 % of the
gammas negative, `zeros` also sets 3 % to exactly 0. `graph` is what the fold of the exported graph keeps without
merging branches and removing channels. `error` is that of the folded module in float32 against the module in float64,
over that of the module itself; `bits` says whether the module is bit for bit as it was. `--others` adds
`torch.fx.experimental.optimization.fuse` and timm's `reparameterize_model`: BatchNorms left, largest difference in
float32 relative to the largest output, class of the result.
"""

from __future__ import annotations

import argparse
import copy
import logging
import time
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

import bnfold
from bnfold.errors import BnfoldError
from bnfold.export import plain_graph
from bnfold.folding import fold_model
from bnfold.sources import load_network

TIMM = (
    "resnet18", "resnetv2_50", "levit_128s", "repvgg_a0", "mobileone_s0", "fastvit_t8", "swiftformer_xs",
    "visformer_tiny", "convmixer_768_32", "densenet121",
)  # fmt: skip
TORCHVISION = ("mobilenet_v3_small", "r3d_18", "shufflenet_v2_x0_5", "lraspp_mobilenet_v3_large")
OWN = ("frozen_backbone", "lstm", "gru", "embedding")
ROW = "{:38} {:>6} {:>8} {:>5} {:>6} {:>9} {:>5} {:>7}  {}"


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


def flat(outputs: Any) -> list[torch.Tensor]:
    """The tensors that a network returns."""
    from torch.utils import _pytree as pytree

    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]


@torch.no_grad()
def errors(module: nn.Module, folded: nn.Module, inputs: tuple[Any, ...]) -> tuple[float, float]:
    """Root mean square errors of module and fold in float32 against the module in float64, relative to its output."""
    wide = copy.deepcopy(module).double()
    exact = flat(wide(*(x.double() if x.is_floating_point() else x for x in inputs)))
    found = []
    for each in (module, folded):
        pairs = [
            ((a - b).square().mean().sqrt(), a.square().mean().sqrt())
            for a, b in zip(exact, flat(each(*inputs)), strict=True)
        ]
        found.append(max(float(error / size) for error, size in pairs))
    return found[0], found[1]


def n_norms(module: nn.Module) -> int:
    """BatchNorm modules, frozen ones too, and calls of `torch.nn.functional.batch_norm` in a traced graph."""
    kinds = (nn.modules.batchnorm._BatchNorm,)
    parts = sum(isinstance(part, kinds) or "FrozenBatchNorm" in type(part).__name__ for part in module.modules())
    graph: Any = getattr(module, "graph", None)
    return parts + sum(node.target is nn.functional.batch_norm for node in getattr(graph, "nodes", ()))


def kept_by_graph(module: nn.Module, inputs: tuple[Any, ...]) -> int:
    """What the exported graph's fold keeps without merging branches or removing channels."""
    model: ir.Model = plain_graph(load_network(module, inputs))
    return fold_model(model, merge_branches=False, remove_channels=False).kept


def row(name: str, gamma: str) -> str:
    """Fold one network: the table's row, and a line for each BatchNorm that stayed."""
    module, inputs = build(name)
    randomise(module, inputs, gamma)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    start = time.perf_counter()
    try:
        folded, ledger = bnfold.fold(module, inputs)
    except BnfoldError as error:
        return f"{name:38} {type(error).__name__}: {error}"
    seconds = time.perf_counter() - start
    own, ours = errors(module, folded, inputs)
    bits = all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    same = "same class" if type(folded) is type(module) else type(folded).__name__
    kept = [f"\n    kept {entry.name}: {entry.reason}" for entry in ledger.entries if entry.outcome == "kept"]
    line = ROW.format(
        name, ledger.found, ledger.absorbed, ledger.kept, kept_by_graph(module, inputs), f"{ours / own:.2f}",
        "yes" if bits else "NO", f"{seconds:.1f}", f"{same}, {n_norms(folded)} left",
    )  # fmt: skip
    return line + "".join(kept[:3]) + (f"\n    and {len(kept) - 3} more" if len(kept) > 3 else "")


@torch.no_grad()
def others(name: str, gamma: str) -> str:
    """What other tools make of the same network."""
    module, inputs = build(name)
    randomise(module, inputs, gamma)
    expected, lines = flat(module(*inputs)), []
    tools: dict[str, Any] = OrderedDict(fx=_fuse, timm=_reparameterize)
    for tool, function in tools.items():
        try:
            made = function(copy.deepcopy(module)).eval()
            largest = max(
                float((a - b).abs().max() / a.abs().max()) for a, b in zip(expected, flat(made(*inputs)), strict=True)
            )
            lines.append(f"{tool}: {n_norms(made)} left, {largest:.1e}, {type(made).__name__}")
        except Exception as error:  # noqa: BLE001 - another project's tool may raise anything; the table says so
            lines.append(f"{tool}: {type(error).__name__}: {' '.join(str(error).split())[:60]}")
    return "    " + "; ".join(lines)


def _fuse(module: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse

    return fuse(module)


def _reparameterize(module: nn.Module) -> nn.Module:
    from timm.utils.model import reparameterize_model

    return reparameterize_model(module)  # type: ignore[no-any-return]


def names() -> list[str]:
    """All networks of the table."""
    zoo = sorted(path.stem for path in (Path(__file__).parents[1] / "models").glob("*.py"))
    return [
        *(f"timm:{name}" for name in TIMM), *(f"torchvision:{name}" for name in TORCHVISION), *OWN,
        *(f"zoo:{name}" for name in zoo),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--gamma", choices=["positive", "mixed", "zeros"], default="positive")
    parser.add_argument("--others", action="store_true")
    options = parser.parse_args()
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(ROW.format("network", "found", "absorbed", "kept", "graph", "error", "bits", "s", "result"))
    for name in options.names or names():
        print(row(name, options.gamma), flush=True)
        if options.others:
            print(others(name, options.gamma), flush=True)


if __name__ == "__main__":
    main()
