"""BatchNorms and parameters that no exact fold can start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfold.errors import InputRefused
from bnfold.sources.torch_source import torch_source

if TYPE_CHECKING:
    from bnfold.sources import TorchSource


def loaded(module: nn.Module) -> TorchSource:
    return torch_source(module, "net", shapes=[(1, 4, 6)])


def refusal(module: nn.Module) -> str:
    with pytest.raises(InputRefused) as caught:
        loaded(module)
    assert caught.value.remedy
    return str(caught.value)


class Unused(nn.Module):
    """Holds a BatchNorm without running statistics that forward never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class StuckInTraining(nn.BatchNorm1d):
    """Keeps the statistics of the batch in eval mode."""

    def train(self, mode: bool = True) -> StuckInTraining:
        super().train(mode)
        self.training = True
        return self


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4, track_running_stats=False), StuckInTraining(4)])
def test_batch_statistics_at_eval_name_the_layer(layer: nn.Module) -> None:
    sentence = refusal(nn.Sequential(nn.Conv1d(4, 4, 1), layer, nn.ReLU()))

    assert "statistics of the batch" in sentence
    assert "layer 1" in sentence
    assert "track_running_stats=True" in sentence


def test_a_batchnorm_that_never_runs_does_not_matter() -> None:
    assert loaded(Unused()).output_names == ("output",)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.0, float("nan"), float("nan"), 1.0], "2 of 4 channels NaN"),
        ([1.0, -1e-3, 1.0, 1.0], "1 of 4 channels negative"),
        ([1.0, float("inf"), -1.0, 1.0], "1 of 4 channels infinite, 1 of 4 channels negative"),
    ],
)
def test_a_running_variance_that_is_none(values: list[float], found: str) -> None:
    norm = nn.BatchNorm1d(4)
    norm.running_var = torch.tensor(values)
    sentence = refusal(nn.Sequential(nn.Sequential(nn.ReLU(), norm)))

    assert "layer 0.1" in sentence
    assert found in sentence


def test_a_running_variance_of_zero_is_one() -> None:
    norm = nn.BatchNorm1d(4)
    norm.running_var = torch.zeros(4)

    assert loaded(norm).output_names == ("output",)


def test_parameters_that_are_not_finite_are_named() -> None:
    module = nn.Sequential(*(nn.Conv1d(4, 4, 1, bias=False) for _ in range(5)))
    with torch.no_grad():
        for index in (0, 2, 3, 4):
            module[index].weight[0] = float("nan")
    sentence = refusal(module)

    assert "0.weight (4 of 16), 2.weight (4 of 16), 3.weight (4 of 16) and 1 more" in sentence


def test_loading_changes_no_buffer() -> None:
    module = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    loaded(module)

    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
