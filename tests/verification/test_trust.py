"""What the source's own error may be taken from, and a source that has no answer at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.records import InputSpec
from bnfold.verification import verify_file
from bnfold.verification.checks.criterion import OutputErrors
from bnfold.verification.execution.torch_reference import TorchReference

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = (InputSpec("x", (None, 4), "float32"),)
WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


class Product(torch.nn.Module):
    """x W, plus noise, or plus 1 at batch 1 alone."""

    def __init__(self, *, noise: float = 0.0, special: bool = False) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT))
        self.noise, self.special = noise, special

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self.weight
        if self.special and x.shape[0] == 1:
            y = y + 1
        return y + self.noise * torch.randn_like(y) if self.noise else y


@pytest.fixture
def product() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_an_execution_far_from_the_first_does_not_widen_the_tolerance() -> None:
    errors = OutputErrors("y", relative_bound=1e-7)
    errors.reference.add(np.ones(100))
    errors.add_source(0, np.full(100, 1e-7))
    errors.add_source(1, np.full(100, 2e-7))
    assert errors.e_source == pytest.approx(2e-7)
    errors.add_source(2, np.full(100, 0.2))
    errors.add_candidate("off", np.full(100, 0.2), "random inputs")
    assert errors.e_source == pytest.approx(2e-7)
    assert "the plain export lies as far off" in str(errors.failure())


def test_every_execution_of_the_source_itself_counts() -> None:
    errors = OutputErrors("y", relative_bound=1e-7, n_own=2)
    errors.reference.add(np.ones(100))
    for number, error in enumerate((1e-7, 5e-7, 2e-6)):
        errors.add_source(number, np.full(100, error))
    assert errors.e_source == pytest.approx(5e-7)


@pytest.mark.parametrize("special", [False, True])
def test_a_network_that_was_exported_as_another(product: onnx.ModelProto, tmp_path: Path, *, special: bool) -> None:
    onnx.save(product, tmp_path / "product.onnx")
    reference = TorchReference(Product(special=special).eval(), ["x"], ["y"], product)
    verdict = verify_file(tmp_path / "product.onnx", reference, inputs=INPUTS)
    assert verdict.passed is not special
    if special:
        assert "it does not compute what the network does" in str(verdict.failure)


@pytest.mark.parametrize("noise", [1.0, 1e-4])
def test_a_network_of_chance_is_refused(product: onnx.ModelProto, tmp_path: Path, noise: float) -> None:
    onnx.save(product, tmp_path / "product.onnx")
    reference = TorchReference(Product(noise=noise).eval(), ["x"], ["y"], product)
    with pytest.raises(InputRefused, match="other values when it is run again in output y"):
        verify_file(tmp_path / "product.onnx", reference, inputs=INPUTS)
