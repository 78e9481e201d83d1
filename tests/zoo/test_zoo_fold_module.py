"""Networks of timm and torchvision through `bnfold.fold`: the same class, no BatchNorm but those the graph keeps."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

import bnfold

pytestmark = [pytest.mark.zoo, pytest.mark.slow]

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def table() -> Any:
    """The script that prints the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        return importlib.import_module("fold_modules")


@pytest.mark.parametrize("gamma", ["positive", "mixed", "zeros"])
@pytest.mark.parametrize(
    "name", ["timm:resnet18", "timm:swiftformer_xs", "torchvision:shufflenet_v2_x0_5", "frozen_backbone", "lstm"]
)
def test_modules(table: Any, name: str, gamma: str) -> None:
    module, inputs = table.build(name)
    table.randomise(module, inputs, gamma)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    folded, ledger = bnfold.fold(module, inputs)
    assert type(folded) is type(module)
    assert ledger.kept <= table.kept_by_graph(module, inputs)
    assert table.n_norms(folded) == ledger.kept
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    own, ours = table.errors(module, folded, inputs)
    assert ours < 3 * own


def test_activations_in_place_behind_a_batchnorm_that_vanished(table: Any) -> None:
    """In a pre-activation network they would write into the residual stream."""
    module, inputs = table.build("timm:resnetv2_18")
    table.randomise(module, inputs, "positive")
    _, ledger = bnfold.fold(module, inputs)
    assert ledger.kept == 0
