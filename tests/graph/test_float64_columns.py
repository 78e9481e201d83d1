"""A convolution in float64 is the same by taps and by columns, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from bnfold.graph import float64_convolution
from bnfold.graph.float64 import Float64Graph

CASES = [
    ((2, 3, 9, 7), (4, 3, 3, 2), {"pads": [1, 0, 2, 1]}),
    ((1, 4, 11), (6, 2, 5), {"group": 2, "strides": [2], "dilations": [2], "pads": [3, 3]}),
    ((1, 2, 5, 6, 4), (3, 2, 2, 3, 2), {"strides": [2, 1, 1], "auto_pad": "SAME_UPPER"}),
    ((2, 8, 12, 5), (8, 4, 12, 1), {"group": 2}),  # one row is left
    ((1, 1, 20, 3), (5, 1, 15, 3), {"pads": [7, 1, 7, 1], "strides": [3, 2]}),
]


def _outputs(shape: tuple[int, ...], kernel: tuple[int, ...], attributes: dict[str, object]) -> np.ndarray:
    generator = np.random.default_rng(0)
    x, w, b = (generator.standard_normal(size) for size in (shape, kernel, kernel[:1]))
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], **attributes)
    values = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in "xwb"]
    graph = helper.make_graph([node], "conv", values, [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return Float64Graph(model).evaluate({"x": x, "w": w, "b": b})["y"]


@pytest.mark.parametrize("cells", [1, 700, 1 << 22])
@pytest.mark.parametrize("case", CASES)
def test_columns_and_taps_agree(case: tuple[object, ...], cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    by_column = float64_convolution._by_column
    monkeypatch.setattr(float64_convolution, "_by_column", lambda *given: asked.append("columns") or by_column(*given))
    monkeypatch.setattr(float64_convolution, "COLUMNS", cells)
    columns = _outputs(*case)
    assert asked == ["columns"]
    monkeypatch.setattr(float64_convolution, "FEW_CHANNELS", 0)
    taps = _outputs(*case)
    assert asked == ["columns"]
    assert columns.shape == taps.shape
    np.testing.assert_allclose(columns, taps, rtol=1e-12, atol=1e-12)
