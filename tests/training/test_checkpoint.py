"""Run folders come back as they were written, and a damaged one is refused with the file's name."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import RUN_FILES, read_run, save_checkpoint
from bnfold.sources.model_file import load_model_file
from bnfold.sources.state_dicts import load_weights
from bnfold.training.data import MemoryData, make_data
from bnfold.training.recipe import Recipe

if TYPE_CHECKING:
    from bnfold.records import TrainReport


@pytest.fixture
def copy(report: TrainReport, tmp_path: Path) -> Path:
    """A run folder that a test may damage."""
    return Path(shutil.copytree(report.run, tmp_path / "run"))


def _sign(folder: Path, name: str) -> None:
    """Write the SHA-256 of a changed file into run.json, so that the next check is reached."""
    record = json.loads((folder / "run.json").read_text())
    record["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "run.json").write_text(json.dumps(record))


def test_network_comes_back_bit_for_bit(report: TrainReport) -> None:
    run = read_run(report.run)
    module = load_model_file(str(run.model_file)).build().eval()
    load_weights(module, run.state, str(run.folder))
    assert all(torch.equal(value, run.state[name]) for name, value in module.state_dict().items())
    data = make_data(Recipe(**_recipe(report)), run.input_shapes)
    assert isinstance(data, MemoryData)
    (inputs,), targets = data.splits["test"]
    with torch.inference_mode():
        accuracy = (module(inputs).argmax(1) == targets).float().mean().item()
    assert accuracy == pytest.approx(report.metrics["test"]["accuracy"], rel=1e-6)
    assert (run.model_name, run.input_shapes) == ("bnnet", ((1, 512),))


def _recipe(report: TrainReport) -> dict[str, object]:
    return dict(report.recipe)


def test_samples_are_test_images(report: TrainReport) -> None:
    samples = read_run(report.run).samples()
    data = make_data(Recipe(**_recipe(report)), ((1, 512),))
    assert isinstance(data, MemoryData)
    assert list(samples) == ["x"]
    np.testing.assert_array_equal(samples["x"], data.splits["test"].inputs[0][:64].numpy())
    assert samples["x"].dtype == np.float32


@pytest.mark.parametrize("name", ["", "run.json", "model.safetensors"])
def test_folder_and_its_files_name_the_same_run(report: TrainReport, name: str) -> None:
    assert read_run(report.run / name).folder == report.run


def test_tied_weights_survive(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    metadata = {"model": {"name": "tied", "input_shape": [1, 3]}}
    save_checkpoint(tmp_path, module, metadata, model_file=b"", samples={"x": np.zeros((1, 3), np.float32)})
    fresh = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_weights(fresh, read_run(tmp_path).state, "tied")
    assert torch.equal(fresh[0].weight, module[0].weight)
    assert torch.equal(fresh[1].weight, module[0].weight)


@pytest.mark.parametrize("name", ["model.safetensors", "model.py", "run.json"])
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(InputRefused, match=r"missing|no run folder") as refusal:
        read_run(copy)
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", ["model.safetensors", "model.py"])
def test_truncated_or_changed_file(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    for damaged in (content[:-7], content[:-1] + bytes([content[-1] ^ 1]), b""):
        (copy / name).write_bytes(damaged)
        with pytest.raises(InputRefused, match="damaged or was changed") as refusal:
            read_run(copy)
        assert name in str(refusal.value)


def test_signed_file_that_is_no_safetensors(copy: Path) -> None:
    (copy / "model.safetensors").write_bytes(b"not a tensor in sight")
    _sign(copy, "model.safetensors")
    with pytest.raises(InputRefused, match=r"the weights cannot be read in .*model\.safetensors"):
        read_run(copy)


def test_missing_and_changed_samples(copy: Path) -> None:
    path = copy / "samples.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputRefused, match="damaged or was changed"):
        read_run(copy).samples()
    path.unlink()
    with pytest.raises(InputRefused, match="missing"):
        read_run(copy).samples()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "found schema list"),
        ('{"schema": "bnfold.run/2"}', r'found schema \'bnfold.run/2\', expected schema "bnfold.run/1"'),
        ('{"schema": "bnfold.run/1"}', "entries are missing"),
        ('{"schema": "bnfold.run/1", "files": {}, "model": {"name": "a", "input_shape": [1, "x"]}}', "entries are"),
    ],
)
def test_bad_record(copy: Path, text: str, message: str) -> None:
    (copy / "run.json").write_text(text)
    with pytest.raises(InputRefused, match=message) as refusal:
        read_run(copy)
    assert "run.json" in str(refusal.value)


@pytest.mark.parametrize("path", ["nowhere", "empty", "file.txt"])
def test_no_run_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(InputRefused, match="not a run folder"):
        read_run(tmp_path / path)


def test_keys_and_shapes_that_do_not_fit_are_named() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = module.state_dict()
    del state["0.bias"]
    state["2.weight"] = torch.zeros(2)
    state["0.weight"] = torch.zeros(2, 3)
    state["1.running_var"] = torch.zeros(2, dtype=torch.int64)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(InputRefused) as refusal:
        load_weights(module, state, "weights.safetensors")
    message = str(refusal.value)
    assert "weights.safetensors" in message
    assert "0.bias is missing, 2.weight is not in the network, 0.weight has shape (2, 3) and not (2, 2)" in message
    assert "and 1 more" in message
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_nothing_in_a_run_is_a_pickle(report: TrainReport) -> None:
    assert sorted(path.name for path in report.run.iterdir()) == sorted(RUN_FILES)
    assert not any(path.read_bytes().startswith((b"\x80", b"PK")) for path in report.run.iterdir())
