"""Small `.onnx` files, written as ONNX text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx.helper
import onnx.numpy_helper
import onnx.parser
import pytest

from bnfold.benchmarking.noise import CpuMeter, Noise

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).parent))  # the stand-in beside this file


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a graph given as ONNX text to a file below the test's folder."""

    def write_text(name: str, graph: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
        path.write_bytes(model.SerializeToString())
        return path

    return write_text


@pytest.fixture
def double(write: Callable[[str, str], Path]) -> Path:
    """y = 2 x, float32, dynamic batch, three features."""
    return write("double.onnx", "net (float[N, 3] x) => (float[N, 3] y) <float two = {2.0}> { y = Mul (x, two) }")


@pytest.fixture
def product(tmp_path: Path) -> Callable[[int], Path]:
    """x W with a square constant W of the given size, three features in."""

    def write_product(size: int) -> Path:
        random = np.random.default_rng(0)
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("MatMul", ["x", "a"], ["h"]), onnx.helper.make_node("MatMul", ["h", "b"], ["y"])],
            "product",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", size])],
            [
                onnx.numpy_helper.from_array(random.standard_normal((3, size), np.float32), "a"),
                onnx.numpy_helper.from_array(random.standard_normal((size, size), np.float32), "b"),
            ],
        )
        path = tmp_path / f"product{size}.onnx"
        opsets = [onnx.helper.make_opsetid("", 17)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path

    return write_product


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet machine, whatever else runs on it: a test of what a report says must not depend on the neighbours."""
    monkeypatch.setattr(CpuMeter, "noise_since", lambda *_args: Noise())
