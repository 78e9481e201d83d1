"""`bnfold recalibrate`, from the command line to the new run folder."""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from bnfold.errors import GateFailed, InputRefused
from bnfold.sources.checkpoint import RUN_FILES, read_run
from bnfold.training import data as data_sets
from bnfold.workflows.inspect_source import inspect
from bnfold.workflows.recalibrate import recalibrate
from bnfold.workflows.recalibration import gate
from bnfold.workflows.train_model import train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch
    from click.testing import Result

    from bnfold.records import RecalibrationReport

    Cli = Callable[..., Result]
    Repair = Callable[[bool], tuple[RecalibrationReport, Path]]


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet after 20 steps: its statistics still hold 12 % of the values they began with."""
    folder = tmp_path_factory.mktemp("runs") / "short"
    report = train("resnet", folder, epochs=1, batch_size=62, settings={"warmup": 0.0})
    assert report.split_sizes["train"] // 62 == 20
    return folder


@pytest.fixture(scope="module")
def repair(short_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Repair:
    """The ResNet with its statistics measured anew, pooled or layer by layer, once each; it stays as it was."""

    @functools.cache
    def repaired(layerwise: bool) -> tuple[RecalibrationReport, Path]:
        before, folder = _contents(short_run), tmp_path_factory.mktemp("repaired") / "new"
        report = recalibrate(short_run, folder, layerwise=layerwise)
        assert _contents(short_run) == before
        return report, folder

    return repaired


def _state(run: Path) -> Mapping[str, torch.Tensor]:
    return read_run(run).state


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("layerwise", [False, True])
def test_stale_statistics_are_repaired(short_run: Path, repair: Repair, layerwise: bool) -> None:
    report, new_run = repair(layerwise)
    assert report.after["accuracy"] - report.before["accuracy"] >= 0.1
    assert report.mode == ("layerwise" if layerwise else "pooled")
    assert (report.n_samples, report.n_batches) == (1259, 20)
    assert len(report.layers) == 15
    assert all(layer.initial_share == pytest.approx(0.9**20) for layer in report.layers)
    assert any("too few updates" in warning for warning in report.warnings)
    run = read_run(new_run)
    assert run.metadata["metrics"]["test"] == report.after
    assert run.metadata["recalibration"]["before"] == report.before
    assert run.metadata["files"]["model.safetensors"] == report.weights_sha256
    assert json.loads((new_run / "metrics.jsonl").read_text().splitlines()[-1])["test"] == report.after
    old, new = _state(short_run), run.state
    changed = {name.rpartition(".")[2] for name in old if not old[name].equal(new[name])}
    assert changed <= {"running_mean", "running_var", "num_batches_tracked"}
    assert {"running_mean", "running_var"} <= changed


def test_new_run_is_a_source_and_can_be_measured_again(repair: Repair) -> None:
    report, new_run = repair(True)
    assert inspect(new_run).ledger.kept == 0
    again = recalibrate(new_run, layerwise=True, dry_run=True)
    assert again.before == report.after
    assert again.after == again.before
    assert max(layer.mean_drift for layer in again.layers) < 1e-6
    assert again.warnings == ()


@pytest.mark.parametrize("layerwise", [False, True])
def test_data_in_another_order_gives_the_same_statistics(
    short_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layerwise: bool
) -> None:
    arrays = {"x": np.random.default_rng(0).normal(size=(150, 1, 8, 8)).astype(np.float32)}
    found = []
    for index, order in enumerate((np.arange(150), np.random.default_rng(1).permutation(150))):
        np.savez(tmp_path / "inputs.npz", x=arrays["x"][order])
        out = tmp_path / f"run{index}"
        recalibrate(short_run, out, inputs=tmp_path / "inputs.npz", layerwise=layerwise)
        found.append(_state(out))
    for name, tensor in found[0].items():
        np.testing.assert_allclose(tensor, found[1][name], rtol=1e-12, atol=1e-12, err_msg=name)


def _register(monkeypatch: pytest.MonkeyPatch, name: str, make: Callable[..., Any]) -> None:
    """Make a data set for classification known by a name."""
    entry = dataclasses.replace(data_sets.DATA_SETS["digits"], makers={"classification": make})
    monkeypatch.setitem(data_sets.DATA_SETS, name, entry)


class _Shifted:
    """The digits of the run, with other pixels, as a data set of another name."""

    def __init__(self, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.change = change

    def __call__(self, recipe: Any, shapes: tuple[tuple[int, ...], ...]) -> data_sets.DataSet:
        digits = data_sets.make_data(recipe.__class__(data="digits"), shapes)
        assert isinstance(digits, data_sets.MemoryData)
        splits = {
            split: data_sets.Batch(tuple(map(self.change, batch.inputs)), batch.targets)
            for split, batch in digits.splits.items()
        }
        return data_sets.MemoryData(splits=splits, n_classes=10, facts=digits.facts)


@pytest.fixture(scope="module")
def good_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet after four epochs."""
    folder = tmp_path_factory.mktemp("runs") / "good"
    train("resnet", folder, epochs=4)
    return folder


def test_adaptation_to_darker_images(good_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, "dark", _Shifted(lambda x: 0.2 * x - 1.0))
    report = recalibrate(good_run, tmp_path / "new", adapt=True, data="dark", prior=0)
    assert report.mode == "adapt"
    assert report.target_after["accuracy"] > report.target_before["accuracy"] + 0.1
    assert report.target_after["entropy"] < report.target_before["entropy"]
    assert report.after["accuracy"] <= report.before["accuracy"]


def test_adaptation_that_harms_is_refused(good_run: Path, tmp_path: Path, cli: Cli) -> None:
    noise = np.random.default_rng(0).normal(size=(64, 1, 8, 8)).astype(np.float32)
    digits = load_digits().images[:8, None].astype(np.float32)
    np.savez(tmp_path / "target.npz", x=np.concatenate([digits / 8 - 1, 20 * noise]))
    result = cli("recalibrate", good_run, "--adapt", "--inputs", tmp_path / "target.npz", "-o", tmp_path / "new")
    assert result.exit_code == 1
    assert "mean entropy of the predictions" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ({"accuracy": 0.79, "entropy": 0.4}, r"accuracy 0.7900, which was 0.8000, expected"),
        ({"accuracy": 0.81, "entropy": 0.6}, r"mean entropy of the predictions 0.6000 nats, which was 0.5000"),
    ],
)
def test_gate(after: dict[str, float], message: str) -> None:
    before = {"accuracy": 0.8, "loss": 1.0, "entropy": 0.5}
    with pytest.raises(GateFailed, match=message):
        gate(before, {"loss": 1.0, **after}, "accuracy")
    gate(before, {"accuracy": 0.8, "loss": 2.0, "entropy": 0.5}, "accuracy")
    gate({}, {}, "accuracy")


def test_command_prints_layers_and_writes_json(short_run: Path, tmp_path: Path, cli: Cli) -> None:
    result = cli("recalibrate", short_run, "-o", tmp_path / "new", "--json", tmp_path / "r.json", "--samples", 200)
    assert result.exit_code == 0, result.stderr
    assert "blocks.4.shortcut.1" in result.stdout
    assert "found: stem.1, blocks.0.bn1, blocks.0.bn2 and 12 more: too few updates" in result.stdout
    assert "measured on 200 samples of digits in 3 batches, pooled" in result.stdout
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["schema"] == "bnfold.recalibrate/1"
    assert record["layers"][0]["name"] == "stem.1"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(RUN_FILES)
    again = cli("recalibrate", short_run, "-o", tmp_path / "new")
    assert again.exit_code == 3
    assert "--force" in again.stderr


def test_dry_run_and_default_name(short_run: Path, cli: Cli) -> None:
    result = cli("recalibrate", short_run, "--dry-run", "-q")
    assert result.exit_code == 0, result.stderr
    assert "nothing was written" in result.stdout
    assert [path.name for path in short_run.parent.iterdir()] == ["short"]
    assert cli("recalibrate", short_run, "-q").exit_code == 0
    assert read_run(short_run.with_name("short-recalibrated"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapt": True}, "needs data of its target"),
        ({"prior": 3.0}, "the weight of the old statistics"),
        ({"adapt": True, "data": "digits", "prior": -1.0}, "found -1"),
        ({"data": "digit"}, "did you mean digits"),
        ({"n_samples": 1}, "at least two samples"),
    ],
)
def test_refusals(short_run: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        recalibrate(short_run, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_other_data_than_the_run_was_trained_on(
    short_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = data_sets.DATA_SETS["digits"].makers["classification"]

    def changed(recipe: Any, shapes: tuple[tuple[int, ...], ...]) -> Any:
        found = digits(recipe, shapes)
        return data_sets.MemoryData(found.splits, 10, {**found.facts, "sha256": "0" * 64})

    _register(monkeypatch, "digits", changed)
    with pytest.raises(InputRefused, match="not what the run was trained on"):
        recalibrate(short_run, tmp_path / "new")
