"""The ledger of a folded module: what else changed in it, and a certificate that is proven before it is handed out."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import bnfold
from bnfold.errors import GateFailed
from bnfold.modules import solve as solving
from bnfold.records import as_json


def trained(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in ((norm.running_mean, -1, 1), (norm.running_var, 0.5, 2), (norm.weight, 0.5, 2)):
                nn.init.uniform_(tensor, low, high, generator=generator)  # type: ignore[arg-type]
            nn.init.uniform_(norm.bias, -1, 1, generator=generator)
    return module.eval()


# ---- notes


class Tied(nn.Module):
    """Two layers with one weight; a BatchNorm behind the first, or behind both, or one shared one behind both."""

    def __init__(self, norms: tuple[nn.Module, nn.Module]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.first, self.second = norms

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.first(self.a(x))) + torch.relu(self.second(self.b(x)))


def test_tied_weights_that_part_are_said() -> None:
    torch.manual_seed(0)
    folded, ledger = bnfold.fold(trained(Tied((nn.BatchNorm1d(4), nn.Identity()))), torch.randn(3, 4))
    assert ledger.notes == ("a.weight and b.weight: one parameter before, 2 now, in other units each",)
    assert as_json(ledger)["notes"] == list(ledger.notes)
    assert folded.a.weight is not folded.b.weight


def test_tied_weights_that_stay_tied_need_no_note() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    folded, ledger = bnfold.fold(trained(Tied((norm, norm))), torch.randn(3, 4))
    assert ledger.absorbed == 2
    assert ledger.notes == ()
    assert folded.a.weight is folded.b.weight


def test_parametrizations_that_are_stored_are_said() -> None:
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    _, ledger = bnfold.fold(trained(nn.Sequential(conv, nn.BatchNorm2d(4))), torch.randn(2, 3, 8, 8))
    assert ledger.notes == ("0.weight: stored as what the parametrization computes",)
    assert "parametrization" in ledger._repr_html_()


# ---- the certificate


NETWORKS: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "linear without a bias": (
        nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)),
        torch.randn(3, 3),
    ),
    "convolutions": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)),
        torch.randn(2, 3, 8, 8),
    ),
    "one that stays": (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)), torch.randn(2, 3, 8, 8)),
    "a variance near epsilon": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.randn(2, 3, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_region_is_certified(name: str, caplog: pytest.LogCaptureFixture) -> None:
    module, x = NETWORKS[name]
    trained(module)
    if "variance" in name:
        module[1].running_var.fill_(1e-6)  # type: ignore[index, operator, union-attr]
    with caplog.at_level(logging.INFO, "bnfold.modules"):
        bnfold.fold(module, x)
    (line,) = [record for record in caplog.records if "regions certified" in record.getMessage()]
    _, certified, regions = line.args  # type: ignore[misc]
    assert certified == regions > 0


def test_a_certificate_that_is_wrong_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The units of one value are said to be others than they are."""
    right = solving.certify

    def wrong(model: Any, digits: Any) -> Any:
        certificate = right(model, digits)
        (main,) = certificate.values.values()
        name = next(name for name, found in main.items() if any(one.scale is not None for one in found))
        doubled = tuple(
            dataclasses.replace(one, scale=np.asarray(one.scale) * 2) for one in main[name] if one.scale is not None
        )
        return dataclasses.replace(certificate, values={"": {**main, name: doubled}})

    monkeypatch.setattr(solving, "certify", wrong)
    torch.manual_seed(0)
    norms = (nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), *norms, nn.Conv2d(4, 2, 1)))
    with pytest.raises(GateFailed, match=r"the folded graph is not equal at .*: found it is not proven"):
        bnfold.fold(module, torch.randn(2, 3, 8, 8))


# ---- the page of networks


def test_the_page_of_networks_counts_what_holds(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import import_module
    from pathlib import Path

    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "scripts")
    page = import_module("modules.page")
    other = {"left": 3, "difference": 1e-6, "class": "GraphModule"}
    row = {
        "network": "net@positive", "failure": None, "found": 5, "kept": 1, "graph": 1, "float64": 2e-15, "error": 0.9,
        "unchanged": True, "same_class": True, "reasons": ["bn: padding"],
        "others": {"fx": other, "timm": {"failure": "TypeError: no"}},
    }  # fmt: skip
    worse = {**row, "network": "net@mixed", "kept": 2, "unchanged": False, "float64": 2e-9}
    page.write_page([row, worse, {"network": "bad@zeros", "failure": "InputRefused: no"}], tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "2 folds of 1 networks; 1 were refused." in text
    assert "was: 1 of 2" in text
    assert "Kept no more than the graph's fold: 1 of 2; fewer: 0." in text
    assert "Within 1e-10 in float64: 1 of 2; largest difference 2e-09." in text
    assert "torch.fx 6 of 10; timm 0 of 0 where it ran, and it failed on 2." in text
    assert "| net | positive | 5 | 1 | 1 | 2e-15 | 0.90 | 3 left, 1e-06 | TypeError |" in text
    assert "- bad@zeros: InputRefused: no" in text
