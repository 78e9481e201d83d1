"""Networks of timm and torchvision through the command line, with BatchNorms that do something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.modules.batchnorm import _BatchNorm

from bnfold.sources import TorchSource, load_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

pytestmark = [pytest.mark.zoo, pytest.mark.slow]


def randomise(module: torch.nn.Module) -> int:
    """Give every BatchNorm statistics and parameters of its own; the number of them."""
    generator = torch.Generator().manual_seed(3)
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return len(norms)


@pytest.mark.parametrize(
    ("name", "options", "most_kept"),
    [
        ("timm:resnet18", (), 0),
        ("timm:test_byobnet", (), None),
        ("torchvision:mobilenet_v2", (), 0),
        ("torchvision:densenet121", (), None),
        ("torchvision:r3d_18", ("--input-shape", "1x3x8x64x64"), 0),  # its own 16x112x112 take a minute in float64
    ],
)
def test_fold_export(
    cli: Callable[..., Result], tmp_path: Path, name: str, options: tuple[str, ...], most_kept: int | None
) -> None:
    source = load_source(name)
    assert isinstance(source, TorchSource)
    n_norms = randomise(source.module)
    save_file(source.module.state_dict(), tmp_path / "random.safetensors")
    weights = ("--weights", tmp_path / "random.safetensors")
    result = cli("fold-export", name, *weights, *options, "-o", tmp_path / "output")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "output" / "report.json").read_text())
    ledger = report["ledger"]
    assert ledger["found"] == n_norms > 0
    assert ledger["absorbed"] + ledger["merged"] + ledger["removed"] + ledger["kept"] == n_norms
    assert len(ledger["entries"]) == n_norms
    assert all(entry["reason"] for entry in ledger["entries"] if entry["outcome"] == "kept")
    assert report["graph"]["batchnorm_after"] <= ledger["kept"]
    if most_kept is not None:
        assert ledger["kept"] <= most_kept


FROZEN = """
from functools import partial

import torch
import torchvision
from torchvision.ops import FrozenBatchNorm2d


def network():
    module = torchvision.models.resnet18(norm_layer=partial(FrozenBatchNorm2d, eps=1e-5))
    generator = torch.Generator().manual_seed(3)
    for norm in module.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 1.5, generator=generator)
    return module.eval()
"""


def test_a_frozen_batchnorm_is_a_batchnorm(cli: Callable[..., Result], tmp_path: Path) -> None:
    """torchvision's detectors hold these, which are no `_BatchNorm` and reach ONNX in parts."""
    (tmp_path / "frozen.py").write_text(FROZEN)
    source, shape = f"{tmp_path / 'frozen.py'}:network", ("--input-shape", "1x3x64x64")
    result = cli("fold-export", source, *shape, "-o", tmp_path / "output")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "output" / "report.json").read_text())
    assert (report["ledger"]["found"], report["ledger"]["absorbed"]) == (20, 20)
    assert report["ledger"]["entries"][0]["name"] == "bn1"
    assert report["graph"]["nodes_after"] == 49  # as the same network with trainable BatchNorms has
