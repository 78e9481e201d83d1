"""What `bnfold train` does between its arguments and its report: prepare, train with checkpoints, save."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import BEST, BOARD, LAST, METRICS, save_checkpoint
from bnfold.sources.model_file import is_model_path
from bnfold.training.batchnorm_hooks import batchnorm_hooks
from bnfold.training.checkpoints import write_checkpoint
from bnfold.training.data import make_data
from bnfold.training.loop import evaluate, go_on
from bnfold.training.rehearsal import input_samples, rehearse
from bnfold.training.reproducible import versions
from bnfold.training.run import begin
from bnfold.training.snapshot import capture, restore
from bnfold.training.tasks import make_task
from bnfold.workflows.training_view import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from bnfold.sources.model_file import ModelFile
    from bnfold.training.checkpoints import Checkpoint
    from bnfold.training.data import DataSet
    from bnfold.training.engine import Engine
    from bnfold.training.recipe import Recipe
    from bnfold.training.run import Run
    from bnfold.training.tasks import Task

__all__ = ["CHANGEABLE", "Job", "Prepared", "prepare", "require_same", "save", "train_to_end"]

logger = logging.getLogger("bnfold.training")

CHANGEABLE = ("epochs", "lr", "warmup", "weight_decay", "clip", "patience", "keep", "threads")
"""What may differ when a run is resumed; the other keys of a recipe belong to what the checkpoint holds."""
MIN_SECONDS = 1.0
"""Between a checkpoint and the one of the next epoch: on small networks an epoch is faster than a write to the disk."""
_N_SAMPLES = 64


@dataclass(frozen=True)
class Job:
    """What is trained, and from what; `checkpoint_every` counts steps, None keeps those of the epochs alone."""

    spec: str
    file: ModelFile
    content: bytes
    recipe: Recipe
    seed: int
    threads: int
    download: bool
    checkpoint_every: int | None
    tensorboard: bool


@dataclass(frozen=True)
class Prepared:
    """The network and what it learns."""

    module: nn.Module
    data: DataSet
    task: Task

    @property
    def n_parameters(self) -> int:
        """The number of parameters of the network."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def prepare(job: Job) -> Prepared:
    """Read the data, build the network, and refuse what cannot be trained."""
    data = make_data(job.recipe, job.file.input_shapes, download=job.download)
    task = make_task(job.recipe, data)
    module = job.file.build()
    rehearse(module, data, task, where=job.spec)
    return Prepared(module, data, task)


def train_to_end(
    job: Job, prepared: Prepared, engine: Engine, folder: Path, checkpoint: Checkpoint | None
) -> tuple[Run, dict[str, Any]]:
    """Train from the start or from a checkpoint, into a folder for runs in progress; measure the test split.

    Returns:
        The run, its network with the weights that are kept, and the metrics.
    """
    module, data, task = prepared.module, prepared.data, prepared.task
    hooks = batchnorm_hooks(job.recipe)
    run = begin(module, data, task, job.recipe, seed=job.seed, engine=engine, hooks=hooks)
    record = _record(job, prepared, engine)
    if checkpoint is not None:
        require_same(checkpoint, record)
        restore(run, checkpoint.tensors, checkpoint.facts, where=str(checkpoint.path))

    written = -math.inf

    def keep(run: Run) -> None:
        nonlocal written
        tensors, facts = capture(run)
        if engine.is_main:
            write_checkpoint(folder, tensors, facts, record, step=run.step)
        written = time.perf_counter()

    with shown(job.file.name, run, folder, tensorboard=job.tensorboard) as view:

        def on_step(run: Run) -> None:
            view.progress.step()
            if job.checkpoint_every and run.step % job.checkpoint_every == 0:
                keep(run)

        def on_epoch(run: Run) -> None:
            if engine.gather(time.perf_counter() - written >= MIN_SECONDS)[0]:  # all do as the first one's clock says
                keep(run)
            view.epoch(run)

        for _ in go_on(run, on_step=on_step, on_epoch=on_epoch):
            pass
        latest = run.history[-1]
        val = (
            evaluate(module, data, task, "val", engine=engine) if hooks or job.recipe.keep == "best" else latest["val"]
        )
        test = evaluate(module, data, task, "test", engine=engine)
        view.test(test)
    return run, {"train_loss": latest["train_loss"], "val": dict(val), "test": dict(test)}


def _record(job: Job, prepared: Prepared, engine: Engine) -> dict[str, Any]:
    """What a checkpoint belongs to."""
    data = json.dumps(dict(prepared.data.facts), sort_keys=True, default=str)
    return {
        "model": job.file.name,
        "source": str(job.file.path) if is_model_path(job.spec) else job.spec,
        "model file": hashlib.sha256(job.content).hexdigest(),
        "data": hashlib.sha256(data.encode()).hexdigest(),
        "seed": job.seed,
        "processes": engine.world,
        "device": engine.device.type,
        "recipe": asdict(job.recipe),
        "threads": job.threads,
        "versions": versions(),
    }


def require_same(checkpoint: Checkpoint, record: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another job; say what of the rest will keep the bits from being the same.

    Raises:
        InputRefused: another model, data set, seed or number of processes, or a recipe whose difference matters.
    """
    old = checkpoint.job
    facts = {key: (old[key], record[key]) for key in ("model", "model file", "data", "seed", "processes", "device")}
    # A checkpoint holds JSON: a tuple has become a list.
    recipe = json.loads(json.dumps(record["recipe"]))
    keys = {key: (old["recipe"].get(key), value) for key, value in recipe.items()}
    differing = {name: pair for name, pair in {**facts, **keys}.items() if pair[0] != pair[1]}
    refused = {name: pair for name, pair in differing.items() if name not in CHANGEABLE}
    if refused:
        name, (was, now) = next(iter(refused.items()))
        raise InputRefused(
            f"the checkpoint is of another job: its {name} differs",
            where=str(checkpoint.path),
            found=str(was),
            expected=str(now),
            remedy="resume with what it was started with, or start again with --force",
        )
    for key in ("threads", "versions"):
        if old[key] != record[key]:
            differing[key] = (old[key], record[key])
    if differing:
        changes = ", ".join(f"{name} was {was} and is {now}" for name, (was, now) in differing.items())
        logger.warning("the run will not equal one without interruption to the bit: %s", changes)


def save(
    job: Job, prepared: Prepared, run: Run, metrics: Mapping[str, Any], *, folder: Path, stage: Path
) -> Mapping[str, Any]:
    """Write a run folder from a run that is finished and its folder for runs in progress; return run.json."""
    shutil.copyfile(folder / METRICS, stage / METRICS)
    if job.tensorboard:
        shutil.copytree(folder / BOARD, stage / BOARD)
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
            "n_parameters": prepared.n_parameters,
        },
        "seed": job.seed,
        "threads": job.threads,
        "processes": run.engine.world,
        "device": run.engine.device.type,
        "recipe": asdict(job.recipe),
        "epochs": {"done": run.epoch, "best": run.best_epoch, "kept": run.kept_epoch},
        "metrics": metrics,
        "samples": {"split": "test", "inputs": {name: list(array.shape) for name, array in samples.items()}},
        "versions": versions(),
        "data": dict(prepared.data.facts),
    }
    other = LAST if job.recipe.keep == "best" else BEST
    spare = (other, run.spare) if run.kept_epoch != run.spare_epoch else None
    return save_checkpoint(stage, prepared.module, metadata, model_file=job.content, samples=samples, spare=spare)
