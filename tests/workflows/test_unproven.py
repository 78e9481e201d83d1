"""What cannot be proven operator by operator is not written: first without onnxsim, else the file fails."""

from __future__ import annotations

import onnx
import pytest
from onnx import ModelProto, helper

from bnfold.export import finish
from bnfold.records import Criterion
from bnfold.workflows.fold_export import fold_export
from bnfold.workflows.stages import STAGES


@pytest.fixture
def source() -> ModelProto:
    graph = onnx.parser.parse_graph("net (float[N, 3] x) => (float[N, 3] y) { h = Relu (x)  y = Neg (h) }")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def with_echo(model: ModelProto) -> ModelProto:
    """An operator of ONNX Runtime that gives back what it reads, which no one else can evaluate."""
    (last,) = [node for node in model.graph.node if node.op_type == "Neg"]
    last.output[0] = "before"
    model.graph.node.append(helper.make_node("SampleOp", ["before"], ["y"], "echo", domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def test_what_onnxsim_makes_unprovable_is_written_without_it(source, monkeypatch):
    def finished(*args, simplify=True, **options):
        proto = finish(*args, simplify=simplify, **options)
        return with_echo(proto) if simplify else proto

    monkeypatch.setattr("bnfold.export.finish", finished)
    stages: list[str] = []
    result = fold_export(source, budget_s=0, progress=stages.append)
    assert result.passed
    assert [node.op_type for node in result.model.graph.node] == ["Relu", "Neg"]
    assert result.verify.certificate is not None
    assert result.verify.unproven is None
    (warning,) = [text for text in result.verify.warnings if "onnxsim" in text]
    assert "not proven: y cannot be proven" in warning
    assert list(result.seconds) == [stage for stage in STAGES if stage != "bench"]
    assert stages.count("verify") == 2


def test_what_cannot_be_proven_at_all_fails_though_it_runs_equal(source, monkeypatch, tmp_path):
    monkeypatch.setattr("bnfold.export.finish", lambda *args, **options: with_echo(finish(*args, **options)))
    result = fold_export(source, output=tmp_path / "out", budget_s=0)
    assert not result.passed
    assert result.verify.decided_by is Criterion.CERTIFICATE
    assert result.verify.failure == f"it is not proven: {result.verify.unproven}"
    assert "SampleOp echo" in result.verify.unproven
    assert all(output.e_output <= output.allowed for output in result.verify.outputs)
    assert not (tmp_path / "out" / "model.onnx").exists()
