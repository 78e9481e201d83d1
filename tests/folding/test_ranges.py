"""A parameter that its type cannot hold keeps the BatchNorm that asks for it, by the parameter's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from fold_checks import batchnorm_nodes, kept
from fold_models import EPSILON, Net, Parameters

from bnfold.folding import fold
from bnfold.records.causes import Overflow

C = 3


def _net() -> Net:
    return Net(Parameters(0, dyadic=False), {"x": ("N", C, 2, 2)}, dtype="float16")


def _kept(net: Net, y: str) -> tuple[dict[str, Any], onnx.ModelProto]:
    folded, ledger = fold(net.model(y))
    assert len(batchnorm_nodes(folded.graph)) == ledger.kept
    return kept(ledger), folded


@pytest.mark.parametrize(
    ("weight", "bias", "changes", "name"),
    [
        (1.0, 0.0, {"gamma": 30000.0, "variance": EPSILON, "beta": 0.0, "mean": 0.0}, "w"),
        (1.0, 1.0, {"gamma": 1.0, "variance": 1.0, "beta": 60000.0, "mean": -60000.0}, "b"),
        (1.0, None, {"gamma": 1.0, "variance": 1.0, "beta": 60000.0, "mean": -60000.0}, "the_conv.bias"),
    ],
)
def test_the_parameter_is_named(weight, bias, changes, name):
    net = _net()
    inputs = ["x", net.constant(np.full((C, C, 1, 1), weight), "w")]
    inputs += [] if bias is None else [net.constant(np.full(C, bias), "b")]
    y = net.node("Conv", inputs, name="the_conv")
    stayed, _ = _kept(net, net.batchnorm(y, C, name="bn", **changes))
    assert stayed == {"bn": Overflow(name, "the_conv", "float16")}


def test_of_two_the_steeper_one_stays():
    """Each of them alone would fit; both together do not: the one that moves magnitudes less may vanish."""
    net = _net()
    y = net.node("Conv", ["x", net.constant(np.full((C, C, 1, 1), 4.0), "w")])
    even = {"beta": 0.0, "mean": 0.0, "variance": 1.0}
    y = net.batchnorm(net.batchnorm(y, C, name="mild", gamma=100.0, **even), C, name="steep", gamma=1000.0, **even)
    stayed, folded = _kept(net, y)
    assert list(stayed) == ["steep"]
    assert len(batchnorm_nodes(folded.graph)) == 1


@pytest.mark.parametrize(("weight", "n_left"), [(40000.0, 2), (30000.0, 1)])
def test_branches_whose_sum_does_not_fit_stay_apart(weight, n_left):
    net = _net()
    arrays = (net.constant(np.full((C, C, 1, 1), weight)) for _ in range(2))
    first, second = (net.node("Conv", ["x", array]) for array in arrays)
    folded, _ = fold(net.model(net.node("Add", [first, second])))
    assert [node.op_type for node in folded.graph.node].count("Conv") == n_left
