"""Integers are rounded from the fold's float64 digits, and derived from them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from bnfold.derivation.integers import Derivation
from bnfold.quantisation import choose_units
from bnfold.quantisation.digits import attach_digits, digits_of
from bnfold.quantisation.gauge import free_classes, in_units
from bnfold.quantisation.prepare import prepared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnfold.quantisation.quantise import Quantised
    from bnfold.records.certificate import Exact

LAYERS = ("stem", "wide", "deep", "narrow", "last", "fc")


def digits_for(model: onnx.ModelProto) -> Mapping[str, Exact]:
    """Digits of every weight, and of the biases, a third of a ULP beside what is stored."""
    found = {}
    for tensor in model.graph.initializer:
        stored = numpy_helper.to_array(tensor)
        if stored.dtype == np.float32 and stored.ndim:
            own = stored.astype(np.float64) + np.spacing(stored).astype(np.float64) / 3
            found[tensor.name] = lambda _, own=own: own
    return found


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_file_is_derived_from_the_digits_that_it_was_rounded_from(
    make: Callable[..., Quantised], network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, *, rescaled: bool
) -> None:
    monkeypatch.setattr(choose_units, "LEAST_GAIN_DB", -np.inf)  # other units are taken, whatever they gain
    model = network
    if rescaled:
        graph = prepared(network, where="test")
        in_units(graph, 2.0 ** np.random.default_rng(0).uniform(-4, 4, free_classes(graph)))
        model = ir.to_proto(graph)
        del model.graph.value_info[:]
    digits = digits_for(model)
    made = make(model, digits=digits)
    assert made.gauge.taken
    assert Derivation(made.source, made.model, made.recipe, made.digits).differences == []


def test_digits_follow_the_units(network: onnx.ModelProto) -> None:
    model = prepared(network, where="test")
    attach_digits(model.graph, digits_for(network))
    before = {str(node.name): (digits_of(node, 1), digits_of(node, 2)) for node in model.graph if node.name in LAYERS}
    in_units(model, 2.0 ** np.random.default_rng(0).uniform(-4, 4, free_classes(model)))
    changed = 0
    for node in model.graph:
        if node.name in LAYERS:
            for index, old in zip((1, 2), before[str(node.name)], strict=True):
                own = digits_of(node, index)
                if own is None or old is None:
                    assert own is old is None
                    continue
                stored = node.inputs[index].const_value.numpy()  # type: ignore[union-attr]
                np.testing.assert_allclose(own, stored, rtol=2e-7)
                changed += not np.allclose(own, old)
    assert changed > 6


def test_a_weight_that_is_not_what_the_fold_computed_is_found(
    make: Callable[..., Quantised], network: onnx.ModelProto
) -> None:
    digits = digits_for(network)
    damaged = onnx.ModelProto()
    damaged.CopyFrom(network)
    tensor = next(tensor for tensor in damaged.graph.initializer if tensor.name == "wide_weight")
    values = numpy_helper.to_array(tensor).copy()
    values[2, 1] *= 1.001
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    made = make(damaged, digits=digits)
    found = Derivation(made.source, made.model, made.recipe, made.digits).differences
    assert found == ["wide: wide_weight of the folded graph is not what the fold computed, rounded"]


def test_a_file_of_other_digits_is_found(make: Callable[..., Quantised], network: onnx.ModelProto) -> None:
    made = make(network)
    exact = digits_for(network)
    far = {"stem_weight": lambda stored: exact["stem_weight"](stored) * (1 + 1e-2)}
    found = Derivation(made.source, made.model, made.recipe, far).differences
    assert any(text.startswith("stem: scale of the weight") for text in found)
