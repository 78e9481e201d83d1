"""Every bad input ends in one `error:` line that helps, the documented exit code, and an untouched output folder."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import external_data_helper, helper, numpy_helper
from safetensors.torch import save_file

from bnfold.sources.model_file import load_model_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def replace(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def write_factory(path: Path, body: str) -> str:
    path.write_text(f"from torch import nn\n\n\ndef factory():\n{body}")
    return f"{path}:factory"


@pytest.mark.parametrize("command", ["fold-export", "inspect"])
@pytest.mark.parametrize("name", ["nothing.onnx", "nothing.pt2", "nothing.py", "runs/nothing"])
def test_missing_file(refused: Callable[..., str], tmp_path: Path, command: str, name: str) -> None:
    assert name in refused(command, tmp_path / name, code=3)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_onnx(refused: Callable[..., str], network: Path, share: float) -> None:
    content = network.read_bytes()
    network.write_bytes(content[: int(len(content) * share)])
    assert "truncated" in refused("fold-export", network, code=3)


def test_external_data_missing(
    refused: Callable[..., str], make_network: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    model = make_network()
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, tmp_path / "network.onnx")
    (tmp_path / "weights.bin").unlink()
    assert "weights.bin" in refused("fold-export", tmp_path / "network.onnx", code=3)


class _RunsCode:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (self.proof.touch, ())


@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_pickle_that_wants_to_run_code(refused: Callable[..., str], tmp_path: Path, container: str) -> None:
    proof, checkpoint = tmp_path / "proof", tmp_path / "evil.pt"
    if container == "torch":
        torch.save({"fc.weight": _RunsCode(proof)}, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps({"fc.weight": _RunsCode(proof)}))
    line = refused("fold-export", "bnnet", "--weights", checkpoint, code=3)
    assert "evil.pt" in line
    assert "safetensors" in line
    assert not proof.exists()


def test_checkpoint_with_other_keys(refused: Callable[..., str], tmp_path: Path) -> None:
    state = {f"layer{index}.weight": torch.zeros(1) for index in range(5)}
    save_file(state, tmp_path / "other.safetensors")
    line = refused("fold-export", "bnnet", "--weights", tmp_path / "other.safetensors", code=3)
    assert "bn.weight is missing, bn.bias is missing, bn.running_mean is missing, and 8 more" in line


def test_checkpoint_with_other_shapes(refused: Callable[..., str], tmp_path: Path) -> None:
    state = load_model_file("bnnet").build().state_dict()
    save_file({**state, "fc.weight": torch.zeros(10, 99)}, tmp_path / "other.safetensors")
    line = refused("fold-export", "bnnet", "--weights", tmp_path / "other.safetensors", code=3)
    assert "fc.weight" in line
    assert "99" in line
    assert "512" in line


def test_unknown_zoo_name(refused: Callable[..., str]) -> None:
    assert "did you mean bnnet" in refused("fold-export", "bnet", code=3)


@pytest.mark.zoo
@pytest.mark.parametrize(
    ("name", "nearest"), [("timm:resnet_18", "resnet18"), ("torchvision:mobilenetv2", "mobilenet_v2")]
)
def test_unknown_library_name(refused: Callable[..., str], name: str, nearest: str) -> None:
    assert nearest in refused("fold-export", name, code=3)


@pytest.mark.parametrize(
    "body", ["    raise OSError('no such\\n thing')\n", "    return 1 / 0\n", "    raise SystemExit(0)\n"]
)
def test_factory_that_raises(refused: Callable[..., str], tmp_path: Path, body: str) -> None:
    spec = write_factory(tmp_path / "broken.py", body)
    assert "broken.py:factory" in refused("fold-export", spec, "--input-shape", "1x3x8x8", code=3)


def test_factory_that_returns_no_module(refused: Callable[..., str], tmp_path: Path) -> None:
    spec = write_factory(tmp_path / "broken.py", "    return 'a network'\n")
    assert "str" in refused("fold-export", spec, "--input-shape", "1x3x8x8", code=3)


@pytest.mark.parametrize("size", [9999999, 10**30])
def test_an_input_larger_than_the_memory(refused: Callable[..., str], tmp_path: Path, size: int) -> None:
    spec = write_factory(tmp_path / "net.py", "    return nn.Conv2d(3, 4, 1)\n")
    line = refused("fold-export", spec, "--input-shape", f"1x3x{size}x{size}", code=3)
    assert "--input-shape" in line
    assert str(size) in line


def test_batch_statistics_at_eval(refused: Callable[..., str], tmp_path: Path) -> None:
    body = "    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))\n"
    spec = write_factory(tmp_path / "net.py", body)
    line = refused("fold-export", spec, "--input-shape", "1x3x8x8", code=3)
    assert "statistics" in line
    assert "1" in line  # the layer's name


def test_training_mode(
    refused: Callable[..., str], make_network: Callable[[], onnx.ModelProto], tmp_path: Path
) -> None:
    model = make_network()
    (node,) = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    node.attribute.append(helper.make_attribute("training_mode", 1))
    node.output.extend(["running_mean", "running_var"])
    onnx.save(model, tmp_path / "training.onnx")
    assert "training mode" in refused("fold-export", tmp_path / "training.onnx", code=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, -1e-5])
def test_bad_running_variance_in_onnx(
    refused: Callable[..., str], make_network: Callable[[], onnx.ModelProto], tmp_path: Path, value: float
) -> None:
    model = make_network()
    replace(model, "var", np.array([1.0, value, 1.0, 1.0]))
    onnx.save(model, tmp_path / "bad.onnx")
    assert "varian" in refused("fold-export", tmp_path / "bad.onnx", code=3)


@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_bad_running_variance_in_a_checkpoint(refused: Callable[..., str], tmp_path: Path, value: float) -> None:
    state = load_model_file("bnnet").build().state_dict()
    state["bn.running_var"][3] = value
    save_file(state, tmp_path / "bad.safetensors")
    line = refused("fold-export", "bnnet", "--weights", tmp_path / "bad.safetensors", code=3)
    assert "bn" in line
    assert "varian" in line


def test_unwritable_folder_is_refused_before_the_work(
    refused: Callable[..., str], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder below a file: nobody can write there, not even root.
    monkeypatch.setattr("bnfold.sources.load_source", lambda *_args, **_kwargs: pytest.fail("the work began"))
    output = network / "below" / "a" / "file"
    assert "cannot write" in refused("fold-export", network, code=3, output=output)


@pytest.mark.parametrize("name", ["model.onnx", "report.json"])
def test_existing_output(refused: Callable[..., str], network: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / name).write_text("mine")
    line = refused("fold-export", network, code=3)
    assert "--force" in line
    assert name in line
    assert (tmp_path / "output" / name).read_text() == "mine"


def test_output_over_the_source(refused: Callable[..., str], network: Path, tmp_path: Path) -> None:
    source = tmp_path / "output" / "model.onnx"
    source.parent.mkdir()
    network.rename(source)
    content = source.read_bytes()
    assert "overwrite the source" in refused("fold-export", source, "--force", code=3)
    assert source.read_bytes() == content


def test_weights_for_a_file_that_has_its_own(refused: Callable[..., str], network: Path, tmp_path: Path) -> None:
    assert "--weights" in refused("fold-export", network, "--weights", tmp_path / "w.safetensors", code=3)


def test_an_opset_that_does_not_exist(refused: Callable[..., str], network: Path) -> None:
    assert "999" in refused("fold-export", network, "--opset", 999, code=3)
