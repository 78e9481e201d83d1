"""Measured statistics against plain computations over all data at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.calibration.layers import Statistics, batchnorms, freeze, read_statistics
from bnfold.calibration.measure import Prior, measure_layerwise, measure_pooled, mixed
from bnfold.calibration.samples import chosen_batches
from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Mapping


class Branched(nn.Module):
    """A shared BatchNorm, one that is never called, dropout, and a sum of branches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.last, self.shared, self.first, self.idle = (nn.BatchNorm2d(4) for _ in range(4))
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.drop(self.first(self.conv1(x)).relu())
        z = self.shared(self.conv2(y)) + self.shared(self.conv3(y))
        return self.last(z)


def _network() -> Branched:
    return Branched().double()


def _inputs(n: int = 30) -> torch.Tensor:
    return torch.randn(n, 2, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 3 + 1


def _split(x: torch.Tensor, size: int) -> list[tuple[torch.Tensor, ...]]:
    return [(part,) for part in x.split(size)]


def _assert_close(found: Mapping[str, Statistics], expected: Mapping[str, Statistics], rtol: float = 1e-12) -> None:
    """Sums of float64 in another order.

    One of 750 numbers moves by up to 750 x 1.1e-16 = 8e-14 of their mean magnitude, which is 4 at most here, in each of
    three layers: 1e-12. A mean may be 0 where its terms are not, so that its bound is absolute.
    """
    assert set(found) == set(expected)
    for name, statistics in found.items():
        np.testing.assert_allclose(statistics.mean, expected[name].mean, rtol=rtol, atol=rtol, err_msg=name)
        np.testing.assert_allclose(statistics.var, expected[name].var, rtol=rtol, err_msg=name)


def test_first_layer_is_the_plain_mean_and_variance() -> None:
    module, x = _network(), _inputs()
    with torch.no_grad():
        read = module.conv1(x).transpose(0, 1).flatten(1)
    for measure in (measure_pooled, measure_layerwise):
        found = measure(_network(), _split(x, 7))["first"]
        np.testing.assert_allclose(found.mean, read.mean(1), rtol=1e-12)
        np.testing.assert_allclose(found.var, read.var(1), rtol=1e-12)
        assert found.n_batches == 5


def test_statistics_lie_in_the_layers_and_idle_ones_keep_theirs() -> None:
    module = _network()
    found = measure_pooled(module, _split(_inputs(), 10))
    assert set(found) == {"first", "shared", "last"}
    _assert_close({name: read_statistics(batchnorms(module)[name]) for name in found}, found)
    assert read_statistics(module.idle).n_batches == 0
    assert not any(part.training for part in module.modules())


def test_layer_by_layer_is_one_batch_of_everything() -> None:
    def chain() -> nn.Module:
        torch.manual_seed(4)
        layers = (nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        return nn.Sequential(*layers).double()

    x = _inputs()
    found = measure_layerwise(chain(), _split(x, 7))
    # In training a BatchNorm divides by the biased variance of its 30 x 25 values, in eval mode by the unbiased one.
    _assert_close(found, measure_pooled(chain(), [(x,)]), rtol=2 / 750)
    batches = measure_pooled(chain(), _split(x, 2))
    assert np.abs(batches["4"].var / found["4"].var - 1).max() > 4 / 750


def test_order_and_division_do_not_matter() -> None:
    x = _inputs()
    shuffled = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(3))]
    _assert_close(measure_layerwise(_network(), _split(shuffled, 4)), measure_layerwise(_network(), _split(x, 7)))
    batches = _split(x, 7)
    _assert_close(measure_pooled(_network(), batches[::-1]), measure_pooled(_network(), batches))


def test_deeper_layers_see_the_statistics_of_the_batch_but_no_dropout() -> None:
    module, x = _network(), _inputs()
    found = measure_pooled(_network(), [(x,)])["shared"]
    module.train()
    module.drop.eval()
    with torch.no_grad():
        y = module.drop(module.first(module.conv1(x)).relu())
        read = torch.cat([module.conv2(y), module.conv3(y)]).transpose(0, 1).flatten(1)
    np.testing.assert_allclose(found.var, read.var(1), rtol=1e-12)


def test_adapted_network_uses_the_mixture_in_front() -> None:
    module, x = _network(), _inputs()
    source = measure_layerwise(module, _split(_inputs(20) * 2, 10))
    prior = Prior(weight=10, n_samples=30)
    found = measure_layerwise(module, _split(x, 15), prior=prior)
    new = measure_layerwise(_network(), _split(x, 15))["first"]
    first = mixed(source["first"], new, prior)
    np.testing.assert_allclose(first.mean, 0.25 * source["first"].mean + 0.75 * new.mean, rtol=1e-12)
    np.testing.assert_allclose(found["first"].var, 0.25 * source["first"].var + 0.75 * new.var, rtol=1e-12)
    with torch.no_grad():
        y = module.first(module.conv1(x)).relu()  # with the mixture that it holds now
        read = torch.cat([module.conv2(y), module.conv3(y)]).transpose(0, 1).flatten(1)
    expected = 0.25 * source["shared"].mean + 0.75 * read.mean(1).numpy()
    np.testing.assert_allclose(found["shared"].mean, expected, rtol=1e-12)


@pytest.mark.parametrize("measure", [measure_pooled, measure_layerwise])
def test_one_value_a_channel_is_refused(measure: object) -> None:
    module = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    assert callable(measure)
    with pytest.raises(InputRefused, match=r"one value per channel|more than 1 value per channel"):
        measure(module, [(torch.ones(1, 3),)])


def test_networks_that_raise_are_refused() -> None:
    with pytest.raises(InputRefused, match="raises while its statistics are measured in mine"):
        measure_layerwise(_network(), [(torch.ones(2, 3, 5, 5, dtype=torch.float64),)], where="mine")


def test_samples_are_chosen_by_what_they_hold() -> None:
    x, labels = torch.randn(50, 3), torch.arange(50)
    order = torch.randperm(50)
    first = chosen_batches([(x, labels)], 20, 6)
    again = chosen_batches([(x[part], labels[part]) for part in order.split(9)], 20, 6)
    assert [len(batch[0]) for batch in first] == [6, 7, 7]
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    chosen = torch.cat([batch[1] for batch in first])
    assert len(set(chosen.tolist())) == 20
    assert torch.equal(torch.cat([batch[0] for batch in first]), x[chosen])
    with pytest.raises(InputRefused, match="two samples"):
        chosen_batches([(x[:1], labels[:1])], 20, 6)


def test_frozen_layers_neither_use_nor_change_statistics() -> None:
    module = _network().train()
    freeze(module)
    x = _inputs()
    module.drop.p = 0.0
    before = module(x[:2])
    assert torch.equal(module(x)[:2], before)
    assert read_statistics(module.first).n_batches == 0
    assert module.drop.training
