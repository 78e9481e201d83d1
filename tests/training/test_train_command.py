"""`bnfold train`, from the command line to the files: what is written, what is refused, what is left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

import pytest

from bnfold.errors import GateFailed, InputRefused
from bnfold.records import as_json
from bnfold.sources.checkpoint import RUN_FILES, read_run
from bnfold.workflows import train_model, training_job
from bnfold.workflows.train_model import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from bnfold.records import TrainReport

    Cli = Callable[..., Result]
    Write = Callable[..., Path]


@pytest.mark.parametrize(("name", "seed"), [("bnnet", 0), ("bnnet", 1), ("bnnet", 2), ("resnet", 0)])
def test_networks_of_the_zoo_learn_the_digits(tmp_path: Path, name: str, seed: int) -> None:
    report = train(name, tmp_path / "run", seed=seed)
    assert report.metrics["test"]["accuracy"] >= 0.95


def test_same_seed_same_weights(report: TrainReport, tmp_path: Path) -> None:
    again = train("bnnet", tmp_path / "again", epochs=3)
    other = train("bnnet", tmp_path / "other", epochs=3, seed=1)
    assert again.weights_sha256 == report.weights_sha256
    assert again.metrics == report.metrics
    assert other.weights_sha256 != report.weights_sha256
    splits = [read_run(run).metadata["data"]["split"] for run in (report.run, tmp_path / "other")]
    assert splits[0] == splits[1]


def test_dropout_and_convolutions_follow_the_seed(tmp_path: Path, model_file: Write) -> None:
    path = model_file()
    first, again = (train(path, tmp_path / name, seed=5) for name in ("first", "again"))
    assert first.weights_sha256 == again.weights_sha256


def test_metrics_are_json_lines(report: TrainReport) -> None:
    lines = [json.loads(line) for line in (report.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["epoch", "epoch", "epoch", "test"]
    assert [line["epoch"] for line in lines[:-1]] == [1, 2, 3]
    assert lines[2]["val"] == report.metrics["val"]
    assert lines[2]["train_loss"] == report.metrics["train_loss"]
    assert lines[3]["test"] == report.metrics["test"]


def test_record_of_the_run(report: TrainReport) -> None:
    record = json.loads((report.run / "run.json").read_text())
    assert record["schema"] == "bnfold.run/1"
    assert record["model"]["spec"] == record["model"]["name"] == "bnnet"
    assert record["recipe"] == {**report.recipe, "image_size": [16, 32]}
    assert record["recipe"]["epochs"] == 3
    assert record["metrics"] == report.metrics
    assert record["data"]["split"]["sizes"] == report.split_sizes == {"train": 1259, "val": 179, "test": 359}
    for name in ("model.py", "model.safetensors", "samples.safetensors"):
        assert record["files"][name] == hashlib.sha256((report.run / name).read_bytes()).hexdigest()
    assert set(record["versions"]) == {
        "bnfold",
        "python",
        "torch",
        "numpy",
        "safetensors",
        "accelerate",
        "scikit-learn",
    }


def test_report_as_json(report: TrainReport) -> None:
    form = json.loads(json.dumps(as_json(report)))
    assert form["schema"] == "bnfold.train/1"
    assert form["run"] == str(report.run)
    assert set(form["seconds"]) == {"load", "train"}


def test_file_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, model_file: Write) -> None:
    monkeypatch.chdir(tmp_path)
    model_file()
    result = cli("train", "mine.py", "--epochs", 1, "--set", "label_smoothing=0.1", "--lr", 0.01)
    assert result.exit_code == 0, result.stderr
    run = read_run(tmp_path / "runs" / "mine")
    assert run.metadata["model"]["spec"] == "mine.py"
    assert run.model_file.read_bytes() == (tmp_path / "mine.py").read_bytes()
    changed = {"epochs": 1, "label_smoothing": 0.1, "lr": 0.01, "batch_size": 64}
    assert {key: run.metadata["recipe"][key] for key in changed} == changed
    assert list(run.samples()) == ["pixels"]
    accuracy = run.metadata["metrics"]["test"]["accuracy"]
    assert result.stdout.startswith(f"mine: test accuracy {accuracy:.4f} on 359 samples")
    assert "bnfold fold-export runs/mine -o" in result.stdout
    assert "epoch 1/1: loss" in result.stderr


def test_json_on_standard_output_is_alone_there(tmp_path: Path, cli: Cli) -> None:
    result = cli("train", "bnnet", "-o", tmp_path / "run", "--epochs", 1, "--json", "-", "-q")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["schema"] == "bnfold.train/1"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["bnet"], 3, "did you mean bnnet"),
        (["missing.py"], 3, "no such Python file"),
        (["bnnet", "--set", "weigth_decay=1"], 3, "did you mean weight_decay"),
        (["bnnet", "--epochs", "0"], 3, "no valid epochs in the options: found 0"),
        (["bnnet", "--batch-size", "1"], 3, "no valid batch_size"),
        (["bnnet", "--data", "digit"], 3, "did you mean digits"),
        (["bnnet", "--set", "image_size=[8, 8]"], 3, "do not fit the network's INPUT_SHAPE"),
        (["bnnet", "--set", "epochs"], 2, "is not KEY=VALUE"),
        (["bnnet", "--set", "optimizer=sgd", "--lr", "1e30", "--epochs", "2"], 1, "no longer a finite number"),
    ],
)
def test_refusals_leave_nothing(tmp_path: Path, cli: Cli, arguments: list[str], code: int, message: str) -> None:
    result = cli("train", *arguments, "-o", tmp_path / "runs" / "x")
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    assert [line for line in result.stderr.splitlines() if line.lower().startswith("error:")] == (
        result.stderr.splitlines()[-1:]
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_classes": 3}, r"expected logits of shape \(2, 10\)"),
        ({"forward": "raise KeyError('x')"}, "raises in a training step"),
        ({"forward": "self.fc.weight.data.fill_(float('nan'))"}, "no longer a finite number"),
    ],
)
def test_networks_that_cannot_learn(tmp_path: Path, model_file: Write, changes: dict[str, Any], message: str) -> None:
    path = model_file(**changes)
    with pytest.raises((InputRefused, GateFailed), match=message):
        train(path, tmp_path / "run")
    assert list(tmp_path.iterdir()) == [path]


def test_file_without_recipe(tmp_path: Path, model_file: Write) -> None:
    path = model_file()
    path.write_text(path.read_text().replace("RECIPE", "MY_RECIPE"))
    with pytest.raises(InputRefused, match="no RECIPE"):
        train(path, tmp_path / "run")


def test_existing_run_needs_force(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "run"
    train("bnnet", folder, epochs=1)
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = cli("train", "bnnet", "-o", folder, "--epochs", 2)
    assert result.exit_code == 3
    assert "--force" in result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert cli("train", "bnnet", "-o", folder, "--epochs", 2, "--force").exit_code == 0
    assert read_run(folder).metadata["recipe"]["epochs"] == 2
    assert sorted(path.name for path in folder.iterdir()) == sorted([*RUN_FILES, "notes.txt"])


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize("place", [("taken",), ("taken", "below"), ("loose",)])
def test_output_that_is_no_folder_is_refused_before_the_work(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, place: tuple[str, ...], dry_run: list[str]
) -> None:
    monkeypatch.setattr(train_model, "prepare", lambda *_: pytest.fail("the work began"))
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "loose").symlink_to(tmp_path / "nowhere")
    result = cli("train", "bnnet", "-o", tmp_path.joinpath(*place), *dry_run)
    assert result.exit_code == 3
    assert f"{place[0]} is no folder" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loose", "taken"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes(tmp_path: Path, seed: int) -> None:
    with pytest.raises(InputRefused, match="the seed must be 0 to"):
        train("bnnet", tmp_path / "run", seed=seed)


def test_dry_run_checks_and_writes_nothing(tmp_path: Path, cli: Cli) -> None:
    result = cli("train", "bnnet", "-o", tmp_path / "run", "--epochs", 3, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "3 epochs of 19 steps of 64" in result.stdout
    assert list(tmp_path.iterdir()) == []
    form = json.loads(cli("train", "bnnet", "-o", tmp_path / "run", "--dry-run", "--json", "-").stdout)
    assert (form["schema"], form["n_steps"], form["n_steps_done"]) == ("bnfold.train-plan/1", 40 * 19, 0)
    assert cli("train", "bnnet", "-o", tmp_path / "run", "--data", "digit", "--dry-run").exit_code == 3


def test_metrics_for_tensorboard(tmp_path: Path) -> None:
    train("bnnet", tmp_path / "run", epochs=2, tensorboard=True)
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents.")
    content = events.read_bytes()
    assert all(content.count(name) == 2 for name in (b"train/loss", b"train/lr", b"val/accuracy", b"val/loss"))


def test_tensorboard_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    result = cli("train", "bnnet", "-o", tmp_path / "run", "--tensorboard")
    assert result.exit_code == 4
    assert 'run `pip install "bnfold[tensorboard]"`' in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = cli("train", "bnnet", "-o", tmp_path / "run", "--device", "cuda")
    assert result.exit_code == 4
    assert "there is no CUDA device" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("keep", "other"), [("last", "best.safetensors"), ("best", "last.safetensors")])
def test_weights_of_the_best_and_the_last_epoch(tmp_path: Path, model_file: Write, keep: str, other: str) -> None:
    # From the fourth epoch on, the network is given the images of other labels.
    mixed = "pixels[torch.randperm(len(pixels))] if self.training and self.n > 57 else pixels"
    path = model_file(forward=f"self.n = getattr(self, 'n', 0) + self.training; pixels = {mixed}")
    report = train(path, tmp_path / "run", epochs=6, lr=0.01, settings={"keep": keep, "warmup": 0})
    assert report.epochs["best"] < report.epochs["done"] == 6
    assert report.epochs["kept"] == report.epochs[{"last": "done", "best": "best"}[keep]]
    lines = [json.loads(line) for line in (report.run / "metrics.jsonl").read_text().splitlines()]
    assert report.metrics["val"] == lines[report.epochs["kept"] - 1]["val"]
    kept, spare = read_run(report.run), read_run(report.run / other)
    assert set(kept.state) == set(spare.state)
    assert any(not bool((kept.state[name] == spare.state[name]).all()) for name in kept.state)


@pytest.mark.parametrize("stage", ["prepare", "begin", "save"])
@pytest.mark.parametrize("existing", [False, True])
def test_interrupted_training_leaves_nothing(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, stage: str, existing: bool
) -> None:
    folder = tmp_path / "runs" / "x"
    if existing:
        train("bnnet", folder, epochs=1)
    before = _files(tmp_path)
    module = training_job if stage == "begin" else train_model
    work = getattr(module, stage)

    def interrupted(*arguments: object, **options: object) -> None:
        work(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, stage, interrupted)
    result = cli("train", "bnnet", "-o", folder, "--epochs", 2, "--force")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("error: interrupted")
    if stage == "save":  # there is a checkpoint by then
        assert "--resume` goes on from it" in result.stderr
        shutil.rmtree(tmp_path / "runs" / "x.partial")
        assert _files(tmp_path) == before
        return
    assert _files(tmp_path) == before
    assert existing or list(tmp_path.iterdir()) == []


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
