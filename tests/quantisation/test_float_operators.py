"""Operators that stay float besides layers: each is named, with its reason, and the file is proven all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from int8_networks import with_parameters

from bnfold.errors import InputRefused
from bnfold.quantisation import cheapest
from bnfold.quantisation.prepare import prepared
from bnfold.records.quantisation import QuantizeReport
from bnfold.workflows.quantize import quantize

TEXT = """
<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
net (float[N, 3, 12, 12] x) => (float[N, 4] y)
<int64[2] axes = {2, 3}> {
  [stem] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w0, b0)
  [act] b = OPERATOR (a)
  [next] c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b, w1, b1)
  [last] d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c, w2, b2)
  [mean] m = ReduceMean <keepdims = 0> (d, axes)
  [fc] y = Gemm <transB = 1> (m, w3, b3)
}
"""
SHAPES = {
    "w0": (32, 3, 3, 3), "b0": (32,), "w1": (32, 32, 3, 3), "b1": (32,), "w2": (32, 32, 3, 3), "b2": (32,),
    "w3": (4, 32), "b3": (4,),
}  # fmt: skip


def quantized(operator: str, folder: Path) -> QuantizeReport:
    """The report of a network with an operator between its layers."""
    onnx.save(with_parameters(TEXT.replace("OPERATOR", operator), SHAPES), folder / "net.onnx")
    x = np.random.default_rng(1).standard_normal((16, 3, 12, 12)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    return quantize(folder / "net.onnx", folder / "out", inputs=str(folder / "x.npz"), budget_s=0, threads=1)


@pytest.mark.parametrize(
    ("operator", "called", "reason", "simulated"),
    [
        ("HardSwish", "HardSwish", "no_kernel", True),
        ("Sigmoid", "Sigmoid", "no_simulation", True),
        ("com.microsoft.QuickGelu <alpha = 1.702>", "com.microsoft::QuickGelu", "no_kernel", True),
        ("com.microsoft.SampleOp", "com.microsoft::SampleOp", "no_kernel", False),
    ],
)
def test_an_operator_that_stays_float_is_named_with_its_reason(
    tmp_path: Path, operator: str, called: str, reason: str, *, simulated: bool
) -> None:
    report = quantized(operator, tmp_path)
    assert report.passed, report.failures
    group = next(group for group in report.float_operators if group.op == called)
    assert (group.nodes, group.reason, group.simulated) == (("act",), reason, simulated)
    assert ("no simulation" in group.sentence) is not simulated
    assert {layer.name for layer in report.layers} == {"stem", "next", "last", "fc"}
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 25 for layer in report.layers)


def test_an_activation_that_a_layer_takes_in_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cheapest, "WORTH", 0.0)  # no layer stays float for its noise
    assert quantized("Relu", tmp_path).float_operators == ()


@pytest.mark.parametrize("operator", ["QLinearAdd", "QAttention", "QGemm"])
def test_a_quantised_operator_of_the_runtime_is_refused(operator: str) -> None:
    model = with_parameters(TEXT.replace("OPERATOR", f"com.microsoft.{operator}"), SHAPES)
    with pytest.raises(InputRefused, match="quantised already"):
        prepared(model, where="net")
