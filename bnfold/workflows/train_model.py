"""`bnfold train`: a model file becomes a run folder, with weights, recipe, metrics and real samples."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records import TrainReport
from bnfold.sources.checkpoint import METRICS, RUN_FILES, WEIGHTS, save_checkpoint
from bnfold.sources.extras import require
from bnfold.sources.model_file import ModelFile, load_model_file
from bnfold.training.data import make_data
from bnfold.training.hooks import make_hooks
from bnfold.training.loop import evaluate, fit
from bnfold.training.progress import show_progress
from bnfold.training.recipe import Recipe, read_recipe
from bnfold.training.rehearsal import input_samples, rehearse
from bnfold.training.reproducible import reproducible, versions
from bnfold.training.tasks import make_task
from bnfold.workflows.staging import staged_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from bnfold.training.data import DataSet
    from bnfold.training.tasks import Task

__all__ = ["train"]

_N_SAMPLES = 64


@dataclass(frozen=True)
class _Job:
    """What is trained, and from what."""

    spec: str
    file: ModelFile
    content: bytes
    recipe: Recipe
    seed: int
    threads: int
    download: bool


@dataclass(frozen=True)
class _Prepared:
    """The network and what it learns."""

    module: nn.Module
    data: DataSet
    task: Task


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
    download: bool = False,
    force: bool = False,
) -> TrainReport:
    """Train a network as its model file's `RECIPE` says, and write a run folder.

    The same seed gives bit-equal weights on the same machine with the same number of threads.

    Args:
        model: a name of the zoo (`bnnet`) or the path of a `.py` file.
        output: the run folder; None takes `runs/NAME`.
        seed: of the parameters, the order of the samples and dropout. The data split has the recipe's `split_seed`.
        epochs: instead of the recipe's; so are `lr`, `batch_size`, `data` and `threads`.
        lr: the largest learning rate.
        batch_size: images a step.
        data: the name of the data set.
        precise_bn: end by measuring the BatchNorms' statistics anew; so are the next two keys of the recipe.
        freeze_bn_after: epochs after which the statistics of the BatchNorms stay.
        l1_gamma: the penalty on the gammas of BatchNorms by which channels become exactly 0.
        settings: other keys of the recipe, see `bnfold.training.recipe.Recipe`.
        threads: threads of PyTorch.
        download: fetch the data set if it is not on this machine.
        force: replace an existing run.

    Raises:
        InputRefused: the model file, the recipe or the output folder cannot be used.
        EnvironmentNotReady: PyTorch or scikit-learn is not installed.
        GateFailed: the loss is NaN or infinite.
    """
    spec = os.fspath(model)
    for package in ("torch", "safetensors"):
        require(package, extra="train", purpose="bnfold train")
    file = load_model_file(spec)
    given = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "data": data, "threads": threads}
    given |= {"precise_bn": precise_bn, "freeze_bn_after": freeze_bn_after, "l1_gamma": l1_gamma}
    overrides = {**(settings or {}), **{key: value for key, value in given.items() if value is not None}}
    recipe = _recipe(file, overrides)
    folder = Path("runs") / file.name if output is None else Path(output)
    with staged_folder(folder, RUN_FILES, force=force) as stage, reproducible(seed, recipe.threads) as n_threads:
        job = _Job(spec, file, file.path.read_bytes(), recipe, seed, n_threads, download)
        seconds: dict[str, float] = {}
        start = time.perf_counter()
        prepared = _prepare(job)
        seconds["load"] = round(time.perf_counter() - start, 3)
        start = time.perf_counter()
        metrics = _fit(job, prepared, stage / METRICS)
        seconds["train"] = round(time.perf_counter() - start, 3)
        record = _save(job, prepared, metrics, stage)
    return TrainReport(
        run=folder,
        model=file.name,
        seed=seed,
        n_parameters=record["model"]["n_parameters"],
        goal=prepared.task.goal,
        metrics=metrics,
        recipe=asdict(recipe),
        split_sizes=prepared.data.facts["split"]["sizes"],
        weights_sha256=record["files"][WEIGHTS],
        seconds=seconds,
    )


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


def _prepare(job: _Job) -> _Prepared:
    data = make_data(job.recipe, job.file.input_shapes, download=job.download)
    task = make_task(job.recipe, data)
    module = job.file.build()
    rehearse(module, data, task, where=job.spec)
    return _Prepared(module, data, task)


def _fit(job: _Job, prepared: _Prepared, metrics_file: Path) -> dict[str, Any]:
    """Train; write metrics.jsonl; return the metrics after the last epoch."""
    module, data, task = prepared.module, prepared.data, prepared.task
    n_epochs = job.recipe.epochs
    n_steps = n_epochs * data.n_batches("train", job.recipe.batch_size)
    metrics: dict[str, Any] = {}
    with (
        metrics_file.open("w", encoding="utf-8") as lines,
        show_progress(job.file.name, n_epochs=n_epochs, n_steps=n_steps) as progress,
    ):
        epochs = fit(
            module, data, task, job.recipe,
            seed=job.seed, hooks=make_hooks(job.recipe), on_step=lambda _: progress.step(),
        )  # fmt: skip
        for facts in epochs:
            lines.write(json.dumps(facts.line(), allow_nan=False) + "\n")
            goal = facts.val[task.goal]
            progress.epoch(
                f"epoch {facts.epoch}/{n_epochs}: loss {facts.train_loss:.4f}, validation {task.goal} {goal:.4f}"
            )
            metrics = {"train_loss": facts.train_loss, "val": dict(facts.val)}
        metrics["test"] = dict(evaluate(module, data, task, "test"))
        lines.write(json.dumps({"event": "test", "test": metrics["test"]}, allow_nan=False) + "\n")
    return metrics


def _save(job: _Job, prepared: _Prepared, metrics: Mapping[str, Any], stage: Path) -> Mapping[str, Any]:
    """Write everything but metrics.jsonl; return run.json."""
    samples = input_samples(prepared.module, prepared.data, _N_SAMPLES)
    names = job.file.output_names
    metadata = {
        "model": {
            "spec": job.spec,
            "name": job.file.name,
            "path": str(job.file.path),
            "input_shape": list(job.file.input_shapes[0]),
            "input_shapes": [list(shape) for shape in job.file.input_shapes],
            "output_names": None if names is None else list(names),
            "n_parameters": sum(parameter.numel() for parameter in prepared.module.parameters()),
        },
        "seed": job.seed,
        "threads": job.threads,
        "recipe": asdict(job.recipe),
        "metrics": metrics,
        "samples": {"split": "test", "inputs": {name: list(array.shape) for name, array in samples.items()}},
        "versions": versions(),
        "data": dict(prepared.data.facts),
    }
    return save_checkpoint(stage, prepared.module, metadata, model_file=job.content, samples=samples)
