"""Golden values judge as the source does, without PyTorch, and say when they are damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bnfold
from bnfold.errors import InputRefused
from bnfold.export import plain_graph
from bnfold.sources import load_source
from bnfold.verification import reference_for, verify_file
from bnfold.verification.golden.bundle_verdict import verify_bundle

REPOSITORY = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = """
import sys
for name in ("torch", "safetensors", "onnxsim", "sklearn"):
    sys.modules[name] = None  # importing it raises ImportError
from bnfold.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture
def exported(network, tmp_path) -> Path:
    """A folded network with its golden values."""
    report = bnfold.fold_export(network, tmp_path / "out", golden=True, threads=1)
    assert report.passed
    return tmp_path / "out"


def changed(path: Path, factor: float) -> Path:
    """The file with its first bias a little larger."""
    model = onnx.load(path)
    bias = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 1)
    value = numpy_helper.to_array(bias) * np.float32(factor)
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
    onnx.save(model, path.with_name("changed.onnx"))
    return path.with_name("changed.onnx")


def test_the_right_file_passes_and_is_judged_as_by_its_source(exported, network):
    verdict = verify_bundle(exported / "model.onnx", exported / "golden", threads=1)
    assert verdict, verdict.failure
    assert verdict.warnings == ()
    source = load_source(str(network))
    reference = reference_for(source, plain_graph(source))
    by_source = verify_file(exported / "model.onnx", reference, inputs=source.inputs, threads=1, extent="all")
    (ours,), (theirs,) = verdict.outputs, by_source.outputs
    assert (ours.e_source, ours.e_output, ours.allowed) == (theirs.e_source, theirs.e_output, theirs.allowed)
    assert verdict.n_compared == by_source.n_compared


def test_a_wrong_file_fails(exported):
    verdict = verify_bundle(changed(exported / "model.onnx", 1.01), exported / "golden", threads=1)
    assert not verdict
    assert "its parameters are wrong" in verdict.failure


@pytest.mark.parametrize("what", ["name", "dtype", "nan"])
def test_what_differs_in_kind_fails(exported, what):
    model = onnx.load(exported / "model.onnx")
    last = model.graph.node[-1]
    if what == "name":
        last.output[0] = model.graph.output[0].name = "z"
    elif what == "nan":
        model = onnx.load(changed(exported / "model.onnx", float("nan")))
    else:
        last.output[0] = "narrow"
        model.graph.node.append(helper.make_node("Cast", ["narrow"], ["y"], to=onnx.TensorProto.DOUBLE))
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, exported / "other.onnx")
    verdict = verify_bundle(exported / "other.onnx", exported / "golden", threads=1)
    assert not verdict
    sentence = {"name": "missing y", "dtype": "dtype float64, expected float32", "nan": "are NaN or infinite"}[what]
    assert sentence in verdict.failure


def test_the_account_says_what_the_values_are(exported):
    account = json.loads((exported / "golden" / "bundle.json").read_text())
    report = json.loads((exported / "report.json").read_text())
    assert account["schema"] == "bnfold.golden/1"
    assert account["source"] == report["source"]
    assert account["model"] == report["output"]
    (output,), (judged,) = account["outputs"], report["verify"]["outputs"]
    assert output == {"name": "y", "dtype": "float32", "shape": [None, 4, 6, 6]} | {
        key: judged[key] for key in ("e_source", "allowed")
    }
    assert account["inputs"] == [{"name": "x", "shape": [None, 2, 6, 6], "dtype": "float32", "batch_axis": 0}]
    with np.load(exported / "golden" / "outputs.npz") as golden:
        assert golden["0/y/exact"].dtype == np.float64
        assert golden["0/y/0"].dtype == np.float32


def _flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "outputs.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "outputs.npz").write_bytes(bytes(content))


def _remove_inputs(folder: Path) -> None:
    (folder / "inputs.npz").unlink()


def _cut_account(folder: Path) -> None:
    (folder / "bundle.json").write_text((folder / "bundle.json").read_text()[:40])


def _forget_feeds(folder: Path) -> None:
    account = json.loads((folder / "bundle.json").read_text())
    del account["feeds"]
    (folder / "bundle.json").write_text(json.dumps(account))


def _other_schema(folder: Path) -> None:
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace("bnfold.golden/1", "bnfold.golden/9"))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_flip_a_byte, "not as they were written"),
        (_remove_inputs, "golden values are missing"),
        (_cut_account, "no golden values"),
        (_forget_feeds, "the golden values are damaged"),
        (_other_schema, "golden values of another kind"),
        (shutil.rmtree, "no golden values"),
    ],
)
def test_a_damaged_bundle_is_refused_with_a_remedy(exported, damage, sentence, cli):
    damage(exported / "golden")
    with pytest.raises(InputRefused, match=sentence):
        verify_bundle(exported / "model.onnx", exported / "golden", threads=1)
    result = cli("verify", "--against-bundle", exported / "golden", exported / "model.onnx")
    assert result.exit_code == 3
    assert "fold-export --golden" in result.stderr


def test_no_torch_is_needed(exported):
    def run(candidate: Path, *options: str) -> subprocess.CompletedProcess[str]:
        arguments = ["verify", "--against-bundle", str(exported / "golden"), str(candidate), *options]
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=False, text=True, capture_output=True,
        )  # fmt: skip

    passed = run(exported / "model.onnx", "--json", "-")
    assert passed.returncode == 0, passed.stderr
    assert json.loads(passed.stdout)["passed"] is True
    failed = run(changed(exported / "model.onnx", 1.01))
    assert failed.returncode == 1
    assert "the file is not equal to its reference" in failed.stderr


def test_the_provider_is_the_one_asked_for(exported, cli):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has CUDA")
    result = cli("verify", "--against-bundle", exported / "golden", exported / "model.onnx", "--provider", "cuda")
    assert result.exit_code == 4


@pytest.mark.parametrize("arguments", [("a.onnx", "b.onnx", "--against-bundle", "x"), ("a.onnx",)])
def test_wrong_usage(arguments, cli):
    assert cli("verify", *arguments).exit_code == 2


def test_options_of_a_source_do_not_go_with_a_bundle(exported, cli):
    result = cli("verify", "--against-bundle", exported / "golden", exported / "model.onnx", "--batch", "4")
    assert result.exit_code == 2
    assert "takes no batch" in result.stderr


def test_another_criterion_is_said(exported):
    path = exported / "golden" / "bundle.json"
    account = json.loads(path.read_text())
    account["constants"]["k_rms"] = 30.0
    path.write_text(json.dumps(account))
    (warning,) = verify_bundle(exported / "model.onnx", exported / "golden", threads=1).warnings
    assert "k_rms 30.0 then, 3.0 now" in warning
