"""`bnfold train`: a model file becomes a run folder, with weights, recipe, metrics and real samples."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import TrainPlan, TrainReport
from bnfold.sources.checkpoint import OPTIONAL_FILES, RUN_FILES, WEIGHTS
from bnfold.sources.extras import require
from bnfold.sources.model_file import ModelFile, load_model_file
from bnfold.sources.seeds import require_seed
from bnfold.training.engine import open_engine
from bnfold.training.recipe import Recipe, read_recipe
from bnfold.training.reproducible import reproducible
from bnfold.workflows.partial_run import PartialRun
from bnfold.workflows.staging import require_free, require_writable, staged_folder
from bnfold.workflows.training_job import Job, Prepared, prepare, save, train_to_end
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.training.checkpoints import Checkpoint
    from bnfold.training.devices import Device
    from bnfold.training.engine import Engine
    from bnfold.training.run import Run

__all__ = ["plan", "train"]

_FILES = RUN_FILES + OPTIONAL_FILES


@dataclass(frozen=True)
class _Start:
    """Where a run starts: its file, recipe and folder, and the checkpoint it goes on from, if it does."""

    spec: str
    file: ModelFile
    recipe: Recipe
    seed: int
    run: Path
    partial: PartialRun
    checkpoint: Checkpoint | None


@runs_user_code()
def train(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    data: str | None = None,
    precise_bn: bool | None = None,
    freeze_bn_after: int | None = None,
    l1_gamma: float | None = None,
    settings: Mapping[str, Any] | None = None,
    threads: int | None = None,
    device: Device = "cpu",
    download: bool = False,
    force: bool = False,
    resume: bool = False,
    checkpoint_every: int | None = None,
    tensorboard: bool = False,
) -> TrainReport:
    """Train a network as its model file's `RECIPE` says, and write a run folder.

    The same seed gives bit-equal weights on the same machine with the same number of threads, whether the run was
    interrupted and resumed or not. Started by `torchrun` or `accelerate launch`, it is one of several processes.

    Args:
        model: a name of the zoo (`bnnet`) or the path of a `.py` file.
        output: the run folder; None takes `runs/NAME`.
        seed: of the parameters, the order of the samples and dropout. The data split has the recipe's `split_seed`.
        epochs: instead of the recipe's; so are `lr`, `batch_size`, `data` and `threads`.
        lr: the largest learning rate.
        batch_size: images a step.
        data: the name of the data set.
        precise_bn: end by measuring the BatchNorms' statistics again; so are the next two keys of the recipe.
        freeze_bn_after: epochs after which the statistics of the BatchNorms stay.
        l1_gamma: the penalty on the gammas of BatchNorms by which channels become exactly 0.
        settings: other keys of the recipe, see `bnfold.training.recipe.Recipe`.
        threads: threads of PyTorch.
        device: where to train; with several processes, a GPU each.
        download: fetch the data set if it is not on this machine.
        force: replace an existing run, and one in progress.
        resume: go on from the latest checkpoint, with the recipe and the seed that the run was started with.
        checkpoint_every: write a checkpoint after so many steps too, not only after epochs, at most one a second.
        tensorboard: write the metrics for TensorBoard too.

    Raises:
        InputRefused: the model file, the recipe, the output folder or the checkpoint cannot be used.
        EnvironmentNotReady: a package is not installed, the device is not there, or the disk is full.
        GateFailed: the loss is NaN or infinite.
    """
    given = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "data": data, "threads": threads}
    given |= {"precise_bn": precise_bn, "freeze_bn_after": freeze_bn_after, "l1_gamma": l1_gamma}
    start = _start(model, output, {**(settings or {}), **_stated(given)}, seed=seed, resume=resume, force=force)
    if tensorboard:
        require("tensorboardX", extra="tensorboard", purpose="--tensorboard")
    with (
        open_engine(device=device, precision=start.recipe.precision) as engine,
        reproducible(start.seed, start.recipe.threads) as n_threads,
    ):
        content = start.file.path.read_bytes()
        job = Job(
            start.spec,
            start.file,
            content,
            start.recipe,
            start.seed,
            n_threads,
            download,
            checkpoint_every,
            tensorboard,
        )
        return _train(start, job, engine, force=force)


@runs_user_code()
def plan(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    download: bool = False,
    force: bool = False,
    resume: bool = False,
    **given: Any,
) -> TrainPlan:
    """What `train` would do with the same arguments (`given`: the recipe's), after every check that it would make.

    Data are read, and the network is built and tried; nothing is trained or written.
    """
    stated = {**(settings or {}), **_stated(given)}
    start = _start(model, output, stated, seed=seed, resume=resume, force=force)
    with reproducible(start.seed, start.recipe.threads) as n_threads:
        prepared = prepare(
            Job(start.spec, start.file, b"", start.recipe, start.seed, n_threads, download, None, tensorboard=False)
        )
    steps = prepared.data.n_batches("train", start.recipe.batch_size)
    return TrainPlan(
        run=start.run,
        model=start.file.name,
        seed=start.seed,
        n_parameters=prepared.n_parameters,
        goal=prepared.task.goal,
        recipe=asdict(start.recipe),
        split_sizes=prepared.data.facts["split"]["sizes"],
        steps_per_epoch=steps,
        n_steps=steps * start.recipe.epochs,
        n_steps_done=0 if start.checkpoint is None else start.checkpoint.facts["step"],
    )


def _stated(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {key: value for key, value in options.items() if value is not None}


def _start(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None,
    overrides: Mapping[str, Any],
    *,
    seed: int,
    resume: bool,
    force: bool,
) -> _Start:
    """Read the model file, the recipe and, with `resume`, the checkpoint; refuse what they or the folders forbid."""
    require_seed(seed)
    spec = os.fspath(model)
    for package in ("torch", "safetensors", "accelerate"):
        require(package, extra="train", purpose="bnfold train")
    file = load_model_file(spec)
    recipe = _recipe(file, overrides)
    run = Path("runs") / file.name if output is None else Path(output)
    require_free(run, _FILES, force=force)
    partial = PartialRun(run, model=spec)
    require_writable(partial.folder)
    checkpoint = partial.claim(resume=resume, force=force)
    if checkpoint is not None:
        recorded, seed = checkpoint.job["recipe"], checkpoint.job["seed"]
        recipe = read_recipe({**recorded, **overrides}, where=str(checkpoint.path))
    return _Start(spec, file, recipe, seed, run, partial, checkpoint)


def _train(start: _Start, job: Job, engine: Engine, *, force: bool) -> TrainReport:
    """Train; the first process writes the run folder; all return the same report."""
    began = time.perf_counter()
    prepared = prepare(job)
    loaded = time.perf_counter()
    with start.partial.in_progress(resumed=start.checkpoint is not None) if engine.is_main else nullcontext():
        run, metrics = train_to_end(job, prepared, engine, start.partial.folder, start.checkpoint)
        seconds = {"load": round(loaded - began, 3), "train": round(time.perf_counter() - loaded, 3)}
        record = _saved(start, job, prepared, run, metrics, force=force) if engine.is_main else {}
    record = engine.gather(record)[0]
    return TrainReport(
        run=start.run,
        model=start.file.name,
        seed=start.seed,
        n_parameters=prepared.n_parameters,
        goal=prepared.task.goal,
        metrics=metrics,
        recipe=asdict(job.recipe),
        split_sizes=prepared.data.facts["split"]["sizes"],
        weights_sha256=record["files"][WEIGHTS],
        seconds=seconds,
        epochs=record["epochs"],
        processes=engine.world,
    )


def _saved(
    start: _Start, job: Job, prepared: Prepared, run: Run, metrics: Mapping[str, Any], *, force: bool
) -> Mapping[str, Any]:
    """Write the run folder; return run.json."""
    try:
        with staged_folder(start.run, _FILES, force=force) as stage:
            return save(job, prepared, run, metrics, folder=start.partial.folder, stage=stage)
    except OSError as error:
        raise EnvironmentNotReady(
            "the run folder cannot be written",
            where=str(start.run),
            found=error.strerror or str(error),
            remedy="free some space",
        ) from error


def _recipe(file: ModelFile, overrides: Mapping[str, Any]) -> Recipe:
    """The file's recipe with the overrides; each is checked by itself, so that a message names its origin."""
    if not file.recipe:
        raise InputRefused(
            "the model file has no RECIPE",
            where=str(file.path),
            expected='for example RECIPE = {"data": "digits", "epochs": 20}',
            remedy="add it, so that the run can be repeated",
        )
    read_recipe(file.recipe, where=f"RECIPE of {file.path}")
    read_recipe(overrides, where="the options")
    return read_recipe({**file.recipe, **overrides}, where=str(file.path))
