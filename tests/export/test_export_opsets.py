"""The opset is the one asked for, or the export is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import pytest

from bnfold.errors import InputRefused
from bnfold.export import finish, plain_graph
from bnfold.export.metadata import layer_of
from bnfold.export.opsets import refuse_other_opset
from bnfold.sources import load_source

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from bnfold.sources import TorchSource


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_an_opset_is_honoured(
    source: TorchSource, plain: ir.Model, opset: int, run: object, image: npt.NDArray[np.float32]
) -> None:
    model = plain_graph(source, opset=opset)
    proto = finish(model)

    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", opset)]
    assert [layer_of(node) for node in model.graph if node.op_type == "BatchNormalization"] == ["blocks.0.bn"]
    outputs = [run(each, image)["logits"] for each in (proto, ir.to_proto(plain))]  # type: ignore[operator]  # fixture
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize(("opset", "part"), [(1, "unknown opset"), (999, "unknown opset"), (7, "opset 18 to 7")])
def test_other_opsets_are_refused(source: TorchSource, opset: int, part: str) -> None:
    with pytest.raises(InputRefused, match=part) as caught:
        plain_graph(source, opset=opset)
    assert "--opset" in str(caught.value)


def test_an_opset_that_the_exporter_falls_back_from_is_refused(plain: ir.Model) -> None:
    with pytest.raises(InputRefused, match="found opset 20, expected opset 26"):
        refuse_other_opset(plain, 26, native="20")


@pytest.fixture
def onnx_path(plain: ir.Model, tmp_path: Path) -> Path:
    ir.save(plain, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_an_onnx_source_keeps_its_opset_or_is_converted(onnx_path: Path) -> None:
    source = load_source(str(onnx_path))

    assert plain_graph(source).opset_imports[""] == 20
    converted = plain_graph(source, opset=21)
    assert converted.opset_imports[""] == 21
    assert [layer_of(node) for node in converted.graph if node.op_type == "BatchNormalization"] == ["blocks.0.bn"]
    with pytest.raises(InputRefused, match="from opset 20 to 7"):
        plain_graph(source, opset=7)
