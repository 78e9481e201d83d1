"""A bundle holds what it says, the same bytes every time, and is refused by the name of the file that is damaged."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from bnfold import bundle, fold_export, quantize, verify
from bnfold.errors import GateFailed, InputRefused
from bnfold.workflows.compare import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

TARGETS = ("onnxruntime", "triton", "web")


def manifest_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "manifest.json").read_text()))


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder by its digest."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("target", TARGETS)
def test_the_manifest_lists_every_file_and_all_bytes_are_the_same_again(
    target: str, bundled: Callable[..., Path], stub_runtime: Path
) -> None:
    options = {"web_runtime": stub_runtime} if target == "web" else {}
    first, second = bundled(target, "first", **options), bundled(target, "second", **options)
    found = contents(first)
    assert found == contents(second)
    manifest = manifest_of(first)
    assert {file["path"]: file["sha256"] for file in manifest["files"]} == {
        name: digest for name, digest in found.items() if name != "manifest.json"
    }
    assert manifest["schema"] == "bnfold.bundle/1"
    assert manifest["target"] == target
    assert (first / manifest["model"]["path"]).is_file()
    assert manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 2, 6, 6], "batch_axis": 0}]
    (output,) = manifest["outputs"]
    assert output["shape"] == [None, 4, 6, 6]
    assert 0 < output["allowed_rms"] < output["allowed_maximum"] < 1e-4
    assert manifest["max_batch"] == 8
    assert 8 in manifest["golden"]["batches"]


@pytest.mark.parametrize("name", ["model.onnx", "golden/outputs.npz", "serve.py", "requirements.txt"])
def test_a_damaged_file_is_named(
    name: str, bundled: Callable[..., Path], tmp_path: Path, cli: Callable[..., Result]
) -> None:
    folder, model = bundled("onnxruntime"), tmp_path / "network.onnx"
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    result = cli("verify", "--against-bundle", folder, model)
    assert result.exit_code == 3
    assert f"not as it was written in {folder / name}: found sha256" in result.stderr
    (folder / name).unlink()
    result = cli("verify", "--against-bundle", folder, model)
    assert result.exit_code == 3
    assert f"missing in {folder / name}" in result.stderr


@pytest.mark.parametrize("seed", range(4))
def test_a_file_in_integers_is_bundled(seed: int, tmp_path: Path) -> None:
    """Where its last layer is in integers, sums in float32 lie further off than float64 results, rounded once."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.BatchNorm1d(512), nn.Linear(512, 10)).eval()
    samples = np.random.default_rng(seed).standard_normal((16, 512)).astype(np.float32)
    report = quantize(module, tmp_path / "int8", inputs=samples, budget_s=0)
    assert report.output is not None
    made = bundle(tmp_path / "int8" / report.output.path, "onnxruntime", tmp_path / "bundle", threads=1)
    assert 8 in made.golden.batches


def test_a_bundle_judges_other_files(bundled: Callable[..., Path], network: Path, tmp_path: Path) -> None:
    folder = bundled("triton")
    fold_export(str(network), tmp_path / "exported")
    assert verify_bundle(folder, tmp_path / "exported" / "model.onnx", threads=1)
    model = onnx.load(network)
    beta = next(tensor for tensor in model.graph.initializer if tensor.name == "beta")
    beta.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(beta) * np.float32(1.01), "beta"))
    onnx.save(model, tmp_path / "wrong.onnx")
    assert not verify_bundle(folder, tmp_path / "wrong.onnx", threads=1)


def test_golden_values_of_the_network_are_taken_where_they_lie(network: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    fold_export(str(network), exported, golden=True)
    report = bundle(exported / "model.onnx", "onnxruntime", tmp_path / "bundle", threads=1)
    assert report.golden.source == str(network)
    assert contents(tmp_path / "bundle" / "golden") == contents(exported / "golden")
    shutil.copyfile(network, exported / "other.onnx")  # those beside it are not its own
    other = bundle(exported / "other.onnx", "onnxruntime", tmp_path / "other", threads=1)
    assert other.golden.source == "other.onnx"
    named = bundle(exported / "other.onnx", "onnxruntime", tmp_path / "named", golden=exported / "golden", threads=1)
    assert named.golden.source == str(network)


def test_a_file_that_is_not_its_golden_values_is_not_bundled(
    bundled: Callable[..., Path],
    make_network: Callable[[], onnx.ModelProto],
    tmp_path: Path,
    cli: Callable[..., Result],
) -> None:
    golden = bundled("onnxruntime") / "golden"
    model = make_network()
    mean = next(tensor for tensor in model.graph.initializer if tensor.name == "mean")
    mean.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(mean) + np.float32(0.01), "mean"))
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(GateFailed, match="does not pass by the golden values"):
        bundle(tmp_path / "wrong.onnx", "onnxruntime", tmp_path / "no", golden=golden, threads=1)
    assert not (tmp_path / "no").exists()
    result = cli("bundle", tmp_path / "wrong.onnx", "--target", "triton", "-o", tmp_path / "no", "--golden", golden)
    assert result.exit_code == 1
    assert not (tmp_path / "no").exists()


def test_samples_of_the_user_are_the_golden_inputs(bundled: Callable[..., Path], tmp_path: Path) -> None:
    samples = np.random.default_rng(3).normal(size=(5, 2, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    folder = bundled("onnxruntime", inputs=tmp_path / "samples.npz")
    with np.load(folder / "golden" / "inputs.npz") as stored:
        rows = np.concatenate([stored[name] for name in stored.files])
    known = {row.tobytes() for row in samples}
    assert known <= {row.tobytes() for row in rows}


def test_usage(network: Path, tmp_path: Path, cli: Callable[..., Result], stub_runtime: Path) -> None:
    result = cli("bundle", network, "--target", "lambda", "-o", tmp_path / "no")
    assert result.exit_code == 2
    assert all(name in result.stderr for name in TARGETS)
    with pytest.raises(InputRefused, match="found 'lambda', expected onnxruntime, triton or web"):
        bundle(network, "lambda", tmp_path / "no")
    with pytest.raises(InputRefused, match=r"needs onnxruntime-web .*neither --web-runtime nor --download"):
        bundle(network, "web", tmp_path / "no", threads=1)
    with pytest.raises(InputRefused, match="only the target web needs onnxruntime-web"):
        bundle(network, "triton", tmp_path / "no", web_runtime=stub_runtime)
    with pytest.raises(InputRefused, match="name of the model must be"):
        bundle(network, "triton", tmp_path / "no", name="../x")
    with pytest.raises(InputRefused, match="max_batch must be a whole number"):
        bundle(network, "triton", tmp_path / "no", max_batch=0)
    (stub_runtime / "dist" / "ort.wasm.min.mjs").write_bytes(b"another version")
    with pytest.raises(InputRefused, match=r"this is not onnxruntime-web .*ort.wasm.min.mjs"):
        bundle(network, "web", tmp_path / "no", web_runtime=stub_runtime, threads=1)
    assert not (tmp_path / "no").exists()


def test_a_fixed_batch_has_no_largest(make_network: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    model = make_network()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, tmp_path / "fixed.onnx")
    report = bundle(tmp_path / "fixed.onnx", "onnxruntime", tmp_path / "bundle", threads=1)
    assert report.max_batch is None
    assert report.inputs[0].shape == (2, 2, 6, 6)
    with pytest.raises(InputRefused, match="no dynamic batch"):
        bundle(tmp_path / "fixed.onnx", "onnxruntime", tmp_path / "no", max_batch=4)


BY_NAME_ONLY = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch, W] x) => (float[1, W] y) <int64[1] first = {0}> {
  a = Squeeze (x, first) b = Softmax (a) y = Unsqueeze (b, first)
}
"""


def test_a_batch_that_is_dynamic_by_name_only_has_no_largest(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(BY_NAME_ONLY), tmp_path / "net.onnx")
    report = bundle(tmp_path / "net.onnx", "onnxruntime", tmp_path / "bundle", threads=1)
    assert (report.max_batch, report.golden.batches) == (None, (1,))
    with pytest.raises(InputRefused, match=r"no dynamic batch in .*net\.onnx: found --max-batch 4"):
        bundle(tmp_path / "net.onnx", "onnxruntime", tmp_path / "no", max_batch=4, threads=1)


def test_an_existing_bundle_is_replaced_by_force_alone(bundled: Callable[..., Path], stub_runtime: Path) -> None:
    bundled("onnxruntime")
    with pytest.raises(InputRefused, match="exists already"):
        bundled("triton")
    folder = bundled("web", force=True, web_runtime=stub_runtime)
    assert not (folder / "serve.py").exists()
    assert set(contents(folder)) == {*(file["path"] for file in manifest_of(folder)["files"]), "manifest.json"}


def test_the_command_prints_where_to_begin(network: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    result = cli("bundle", network, "--target", "onnxruntime", "-o", tmp_path / "b", "--name", "net", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "b" / "README.md") in result.stdout
    assert "POST /v2/models/net/infer" in (tmp_path / "b" / "README.md").read_text()
    assert "@" not in (tmp_path / "b" / "Dockerfile").read_text()
    again = cli(
        "bundle", network, "--target", "onnxruntime", "-o", tmp_path / "c", "--name", "net", "--json", "-", "-q"
    )
    assert json.loads(again.stdout) == manifest_of(tmp_path / "c") == manifest_of(tmp_path / "b")
    triton = cli("bundle", network, "--target", "triton", "-o", tmp_path / "t", "--threads", 1)
    assert "dynamic batching: off, each request runs on its own" in triton.stdout
    assert "None" not in triton.stdout


def test_the_verdict_of_the_bundle_is_that_of_verify(bundled: Callable[..., Path], network: Path) -> None:
    """Limits in numbers, as scripts read them, allow what the criterion does, and no more."""
    (limit,) = manifest_of(bundled("onnxruntime"))["outputs"]
    (judged,) = verify(network, network, threads=1).outputs
    assert judged.e_output < limit["allowed_rms"] < 30 * judged.allowed
