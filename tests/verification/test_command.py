"""`bnfold verify` and `bnfold.verify`, from the source to the exit code."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

import bnfold
from bnfold.cli.main import main
from bnfold.export import plain_graph
from bnfold.sources import load_source

MODEL = '''"""A network with one BatchNorm."""

from torch import nn

INPUT_SHAPE = (1, 6)
RECIPE = {}


def build() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))
'''


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model file, its plain export, and one with a wrong bias."""
    folder = tmp_path_factory.mktemp("verify")
    source, right, wrong = (folder / name for name in ("net.py", "right.onnx", "wrong.onnx"))
    source.write_text(MODEL, encoding="utf-8")
    model = ir.to_proto(plain_graph(load_source(str(source))))
    onnx.save(model, right)
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("1.bias")]
    changed = numpy_helper.to_array(bias) * np.float32(1.01)
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    onnx.save(model, wrong)
    return str(source), str(right), str(wrong)


def test_equal_files_exit_0_and_different_ones_1(files):
    source, right, wrong = files
    passed = CliRunner().invoke(main, ["verify", source, right, "-q", "--threads", "1"])
    assert passed.exit_code == 0, passed.stderr
    assert "equal" in passed.stdout
    failed = CliRunner().invoke(main, ["verify", source, wrong, "-q", "--threads", "1", "--json", "-"])
    assert failed.exit_code == 1
    (error,) = [line for line in failed.stderr.splitlines() if line.startswith("error:")]
    assert error.startswith("error: the file is not equal to its reference")
    assert "output output: root mean square error" in error
    verdict = json.loads(failed.stdout)
    assert next(iter(verdict.items())) == ("schema", "bnfold.verify/1")
    assert verdict["passed"] is False
    assert verdict["batches"] == [1, 2, 3]
    assert verdict["outputs"][0]["e_output"] > verdict["outputs"][0]["allowed"]


def test_the_function_gives_the_same_facts(files):
    source, right, _ = files
    verdict = bnfold.verify(source, right, threads=1, batches=(8, 2))
    assert verdict
    assert verdict.batches == (1, 2, 3, 8)
    assert verdict.n_compared > 0


@pytest.mark.parametrize(
    ("candidate", "message"), [("absent.onnx", "no such file"), ("net.pt", "is not an .onnx file")]
)
def test_a_candidate_that_is_no_file_of_ours_is_refused(files, candidate, message):
    result = CliRunner().invoke(main, ["verify", files[0], candidate])
    assert result.exit_code == 3
    assert message in result.stderr
