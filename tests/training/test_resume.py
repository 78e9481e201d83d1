"""Runs that are killed, fail or meet a full disk go on from their checkpoint, to the bits of one that was not."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.sources import TorchSource, load_source
from bnfold.training.checkpoints import list_checkpoints, read_checkpoint
from bnfold.workflows import training_job
from bnfold.workflows.train_model import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Cli = Callable[..., Result]
    Write = Callable[..., Path]

# Counts the training steps of the network, and does what the environment says; 19 steps are an epoch.
FAULT = "import os, signal; self.n = getattr(self, 'n', 0) + self.training; exec(os.environ.get('FAULT', ''))"
KILL = "if self.n == 31: os.kill(os.getpid(), signal.SIGKILL)"
INTERRUPT = "if self.n == 31: signal.raise_signal(signal.SIGINT)"
NOT_A_NUMBER = "if self.n == 31: pixels *= float('nan')"
EVERYTHING = {"ema": 0.9, "clip": 1.0, "keep": "best", "accumulate": 2, "optimizer": "sgd"}


@pytest.fixture
def network(model_file: Write) -> Path:
    return model_file(forward=FAULT)


def _run(program: list[str], *arguments: object, fault: str = "") -> Any:
    command = [*program, "-m", "bnfold", "train", *map(str, arguments)]
    environment = {**os.environ, "FAULT": fault, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_kill_in_the_middle_of_an_epoch(tmp_path: Path, network: Path, cli: Cli, warm_python: list[str]) -> None:
    killed = _run(warm_python, network, "-o", tmp_path / "run", "--checkpoint-every", 4, fault=KILL)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    assert [path.name[11:19] for path in list_checkpoints(tmp_path / "run.partial")] == ["00000024", "00000028"]
    result = cli("train", network, "-o", tmp_path / "run", "--resume", "--checkpoint-every", 4)
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "run.partial").exists()
    whole = train(network, tmp_path / "whole")
    for name in ("model.safetensors", "samples.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("epoch") for line in lines] == [1, 2, None]
    assert lines[1]["train_loss"] == whole.metrics["train_loss"]
    assert lines[2]["test"] == whole.metrics["test"]


@pytest.mark.parametrize(
    "options",
    [({}, []), ({}, ["--checkpoint-every", 5]), (EVERYTHING, ["--checkpoint-every", 5])],
    ids=["epochs", "steps", "everything"],
)
def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, network: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[dict[str, Any], list[Any]]
) -> None:
    settings, every = options
    assigned = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    monkeypatch.setenv("FAULT", INTERRUPT.replace("31", "55") if settings else INTERRUPT)
    result = cli("train", network, "-o", tmp_path / "run", "--seed", 3, *assigned, *every)
    assert result.exit_code == 130
    kept = list_checkpoints(tmp_path / "run.partial")[-1]
    assert result.stderr.splitlines()[-1] == (
        f"error: interrupted; the latest checkpoint is kept, {kept}: "
        f"`bnfold train {network} -o {tmp_path / 'run'} --resume` goes on from it"
    )
    monkeypatch.delenv("FAULT")
    resumed = train(network, tmp_path / "run", resume=True)
    whole = train(network, tmp_path / "whole", seed=3, settings=settings)
    assert resumed.weights_sha256 == whole.weights_sha256
    assert resumed.metrics == whole.metrics
    assert (resumed.seed, resumed.recipe, resumed.epochs) == (3, whole.recipe, whole.epochs)


def test_what_a_data_set_or_a_network_draws_is_drawn_again(
    tmp_path: Path, model_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "import random, numpy; pixels = pixels * random.random() + numpy.random.rand()"
    network = model_file(forward=f"{FAULT}; {noise}")
    monkeypatch.setenv("FAULT", INTERRUPT)
    with pytest.raises(KeyboardInterrupt):
        train(network, tmp_path / "run", checkpoint_every=7)
    monkeypatch.delenv("FAULT")
    resumed = train(network, tmp_path / "run", resume=True)
    assert resumed.weights_sha256 == train(network, tmp_path / "whole").weights_sha256


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    tmp_path: Path, network: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", NOT_A_NUMBER)
    result = cli("train", network, "-o", tmp_path / "run", "--checkpoint-every", 4)
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: the training loss is no longer a finite number in epoch 2 of 2: found nan")
    assert f"the latest checkpoint is kept, {tmp_path / 'run.partial' / 'checkpoint-00000028-'}" in line
    assert not (tmp_path / "run").exists()
    monkeypatch.delenv("FAULT")
    resumed = train(network, tmp_path / "run", resume=True)
    assert resumed.weights_sha256 == train(network, tmp_path / "whole").weights_sha256


def _interrupted(network: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("FAULT", INTERRUPT)
    with pytest.raises(KeyboardInterrupt):
        train(network, run, checkpoint_every=4)
    monkeypatch.delenv("FAULT")
    return list_checkpoints(run.with_name(f"{run.name}.partial"))


def test_a_checkpoint_is_a_source(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latest = _interrupted(network, tmp_path / "run", monkeypatch)[-1]
    tensors = read_checkpoint(latest.parent).tensors
    source = load_source(str(latest))
    assert isinstance(source, TorchSource)
    state = source.module.state_dict()
    assert state
    assert all(torch.equal(value, tensors[f"best.{name}"]) for name, value in state.items())
    with pytest.raises(InputRefused, match="brings its own weights"):
        load_source(str(latest), weights=latest)
    network.write_text(network.read_text() + "# another\n")
    with pytest.raises(InputRefused, match="not the one that the checkpoint was trained with"):
        load_source(str(latest))
    latest.write_bytes(latest.read_bytes()[:-9])
    with pytest.raises(InputRefused, match="the checkpoint is damaged"):
        load_source(str(latest))


def test_a_checkpoint_within_the_first_epoch_is_a_source(
    tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", INTERRUPT.replace("31", "9"))
    with pytest.raises(KeyboardInterrupt):
        train(network, tmp_path / "run", checkpoint_every=4)
    monkeypatch.delenv("FAULT")
    (latest,) = list_checkpoints(tmp_path / "run.partial")[-1:]
    source = load_source(str(latest))
    assert isinstance(source, TorchSource)
    tensors = read_checkpoint(latest.parent).tensors
    assert all(torch.equal(value, tensors[f"model.{name}"]) for name, value in source.module.state_dict().items())


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_refused(
    tmp_path: Path, network: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    before, latest = _interrupted(network, tmp_path / "run", monkeypatch)
    content = latest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    latest.write_bytes({"cut": content[:-9], "flipped": flipped, "empty": b""}[damage])
    result = cli("train", network, "-o", tmp_path / "run", "--resume")
    assert result.exit_code == 3
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"error: the checkpoint is damaged in {latest}: found SHA-256 ")
    assert f"remove it, and --resume goes on from the one before it, {before}" in line
    if damage == "flipped":
        latest.unlink()
        resumed = train(network, tmp_path / "run", resume=True)
        assert resumed.weights_sha256 == train(network, tmp_path / "whole").weights_sha256


def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, network: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_written = 0

    def full(descriptor: int) -> None:
        nonlocal n_written
        n_written += 1
        if n_written == 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr(training_job, "MIN_SECONDS", 0.0)
    result = cli("train", network, "-o", tmp_path / "run", "--checkpoint-every", 4)
    assert result.exit_code == 4
    line = result.stderr.splitlines()[-1]
    assert line.startswith(
        f"error: the checkpoint cannot be written in {tmp_path / 'run.partial' / 'checkpoint-00000019'}"
    )
    assert "found No space left on device" in line
    partial = tmp_path / "run.partial"
    assert [path.name[:19] for path in sorted(partial.iterdir())][:-1] == ["checkpoint-00000012", "checkpoint-00000016"]
    assert read_checkpoint(partial).facts["step"] == 16
    assert f"`bnfold train {network} -o {tmp_path / 'run'} --resume` goes on" in line
    monkeypatch.undo()
    resumed = train(network, tmp_path / "run", resume=True)
    assert resumed.weights_sha256 == train(network, tmp_path / "whole").weights_sha256


def test_short_epochs_do_not_wait_for_the_disk(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    write = training_job.write_checkpoint

    def noted(*arguments: Any, step: int) -> None:
        steps.append(step)
        write(*arguments, step=step)

    monkeypatch.setattr(training_job, "write_checkpoint", noted)
    monkeypatch.setattr(training_job, "MIN_SECONDS", 1e9)
    train(network, tmp_path / "run", epochs=3)
    monkeypatch.setattr(training_job, "MIN_SECONDS", 0.0)
    train(network, tmp_path / "other", epochs=3)
    assert steps == [19, 19, 38, 57]


def test_a_disk_too_small_for_one_checkpoint_is_left_empty(tmp_path: Path, network: Path, cli: Cli) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        result = cli("train", network, "-o", tmp_path / "runs" / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 4
    assert "the checkpoint cannot be written" in result.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [network]


def test_a_full_disk_at_the_end_can_be_resumed(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training_job, "save_checkpoint", full)
    with pytest.raises(EnvironmentNotReady, match="run folder cannot be written"):
        train(network, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    resumed = train(network, tmp_path / "run", resume=True)
    assert resumed.weights_sha256 == train(network, tmp_path / "whole").weights_sha256


def test_a_run_in_progress_is_not_overwritten(
    tmp_path: Path, network: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted(network, tmp_path / "run", monkeypatch)
    before = _contents(tmp_path / "run.partial")
    result = cli("train", network, "-o", tmp_path / "run")
    assert result.exit_code == 3
    assert "a run in progress is there already" in result.stderr
    assert _contents(tmp_path / "run.partial") == before
    assert cli("train", network, "-o", tmp_path / "run", "--force", "--epochs", 1).exit_code == 0
    assert not (tmp_path / "run.partial").exists()


def test_files_of_others_beside_a_run_stay(tmp_path: Path, network: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "notes.txt").write_text("mine")
    with pytest.raises(InputRefused, match=r"files that are not of a run.*notes\.txt"):
        train(network, tmp_path / "run", epochs=1)
    assert (tmp_path / "run.partial" / "notes.txt").read_text() == "mine"


def test_nothing_to_resume(tmp_path: Path, network: Path, cli: Cli) -> None:
    result = cli("train", network, "-o", tmp_path / "run", "--resume")
    assert result.exit_code == 3
    assert "there is no checkpoint to go on from" in result.stderr
    assert list(tmp_path.iterdir()) == [network]


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _interrupted(network, tmp_path / "run", monkeypatch)
    before = _contents(tmp_path / "run.partial")
    with pytest.raises(InputRefused, match=r"of another job: its batch_size differs .* found 64, expected 32"):
        train(network, tmp_path / "run", resume=True, batch_size=32)
    network.write_text(network.read_text() + "\n# changed\n")
    with pytest.raises(InputRefused, match="of another job: its model file differs"):
        train(network, tmp_path / "run", resume=True)
    checkpoints = {name: content for name, content in before.items() if name.startswith("checkpoint")}
    after = _contents(tmp_path / "run.partial")
    assert {name: content for name, content in after.items() if name in checkpoints} == checkpoints


def test_a_smaller_rate_may_be_resumed_with_and_is_said(
    tmp_path: Path, network: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupted(network, tmp_path / "run", monkeypatch)
    result = cli("train", network, "-o", tmp_path / "run", "--resume", "--lr", 1e-4)
    assert result.exit_code == 0, result.stderr
    assert "will not equal one without interruption to the bit: lr was 0.001 and is 0.0001" in result.stderr


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = _interrupted(network, tmp_path / "run", monkeypatch)
    assert not any(path.read_bytes().startswith((b"\x80", b"PK")) for path in kept)


def test_two_processes(tmp_path: Path, network: Path, warm_python: list[str]) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python")
    two = [*warm_python, *launcher, *warm_python]
    whole = _run(two, network, "-o", tmp_path / "whole", "--json", "-")
    assert whole.returncode == 0, whole.stderr
    report = json.loads(whole.stdout)  # one process alone has written it
    assert report["processes"] == 2
    assert "no SyncBatchNorm" in whole.stderr
    assert whole.stderr.count("epoch 2/2") == 1
    one = train(network, tmp_path / "one")
    # The same images a step and the same rates; dropout differs, and each process normalises over half of the images.
    assert report["metrics"]["test"]["accuracy"] == pytest.approx(one.metrics["test"]["accuracy"], abs=0.05)
    killed = _run(two, network, "-o", tmp_path / "run", "--checkpoint-every", 4, fault=KILL)
    assert killed.returncode != 0
    resumed = _run(two, network, "-o", tmp_path / "run", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "one", "run", "whole"]
