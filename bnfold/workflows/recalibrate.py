"""`bnfold recalibrate`: a run's BatchNorm statistics measured again, or adapted to other data."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.calibration.samples import N_SAMPLES
from bnfold.records import RecalibrationReport
from bnfold.sources.checkpoint import METRICS, RUN_FILES, WEIGHTS, read_run, save_checkpoint
from bnfold.sources.extras import require
from bnfold.workflows.recalibration import (
    gate,
    load_subject,
    measure,
    scores,
    wanted_batches,
)
from bnfold.workflows.recalibration_wish import wish_of
from bnfold.workflows.staging import staged_folder
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from bnfold.sources.checkpoint import Run
    from bnfold.workflows.recalibration import Scores, Subject
    from bnfold.workflows.recalibration_wish import Wish

__all__ = ["recalibrate"]


@runs_user_code()
def recalibrate(
    run: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    layerwise: bool = False,
    data: str | None = None,
    inputs: Path | None = None,
    adapt: bool = False,
    prior: float | None = None,
    n_samples: int = N_SAMPLES,
    batch_size: int | None = None,
    download: bool = False,
    dry_run: bool = False,
    force: bool = False,
    told: Callable[[float], None] = lambda _: None,
) -> RecalibrationReport:
    """Measure the running statistics of a run's BatchNorms again, in float64, and write a new run folder.

    Args:
        run: a run folder of `bnfold train`; it is left as it is.
        output: the new run folder; None takes RUN-recalibrated.
        layerwise: each BatchNorm sees inputs made by layers that already have their new statistics; see
            `bnfold.calibration.measure`. An adaptation always works so.
        data: the data set to measure on (its training split); None takes the run's own.
        inputs: an `.npz` file of arrays by input name or a folder of images to measure on, instead of a data set.
        adapt: mix the statistics with those found, for data of another kind than the training data.
        prior: of an adaptation: as how many samples the statistics found count; None takes 16.
        n_samples: how many samples to measure on at most.
        batch_size: samples a batch of the pooled pass; None takes the recipe's.
        download: fetch a data set that is not on this machine.
        dry_run: write nothing.
        force: replace an existing output.
        told: is given the share done, from 0 to 1.

    Raises:
        InputRefused: the run, the data or the output cannot be used.
        GateFailed: the adapted network is less accurate on the target, or less sure of what it says.
        EnvironmentNotReady: a package is missing.
    """
    from bnfold.training.reproducible import reproducible

    for package in ("torch", "safetensors"):
        require(package, extra="train", purpose="bnfold recalibrate")
    wish = wish_of(
        data,
        inputs,
        layerwise=layerwise,
        adapt=adapt,
        prior=prior,
        n_samples=n_samples,
        batch_size=batch_size,
        download=download,
    )
    source = read_run(Path(run))
    folder = _beside(source.folder) if output is None else Path(output)
    with reproducible(0, source.metadata.get("threads")):
        if dry_run:
            return _work(source, wish, folder, None, told)
        with staged_folder(folder, RUN_FILES, force=force) as stage:
            return _work(source, wish, folder, stage, told)


def _beside(folder: Path) -> Path:
    """The default output of a run."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}-recalibrated")


def _work(
    source: Run, wish: Wish, folder: Path, stage: Path | None, told: Callable[[float], None]
) -> RecalibrationReport:
    """Measure, judge, and write into `stage` where there is one."""
    start = time.perf_counter()
    subject = load_subject(source, wish)
    batches = wanted_batches(subject, wish)
    before = scores(subject, wish)
    module, layers = measure(subject, wish, batches, told)
    after = scores(replace(subject, module=module), wish)
    gate(before.target, after.target, subject.task.goal, maximise=subject.task.maximise)
    facts: dict[str, Any] = {
        "mode": wish.mode,
        "data": str(wish.inputs or wish.data or subject.recipe.data),
        "prior": wish.prior if wish.adapt else 0.0,
        "n_samples": sum(len(batch[0]) for batch in batches),
        "n_batches": len(batches),
        "goal": subject.task.goal,
        "before": before.test,
        "after": after.test,
        "target_before": before.target,
        "target_after": after.target,
    }
    digest = None if stage is None else _save(subject, module, after, facts, stage)
    seconds = round(time.perf_counter() - start, 3)
    return RecalibrationReport(
        source=source.folder, run=folder, written=stage is not None, layers=layers, weights_sha256=digest,
        seconds=seconds, **facts,
    )  # fmt: skip


def _save(subject: Subject, module: nn.Module, after: Scores, facts: Mapping[str, Any], stage: Path) -> str:
    """Write the new run folder; return the digest of its weights."""
    source = subject.run
    added = {"event": "recalibrate", "mode": facts["mode"], "val": dict(after.val), "test": dict(after.test)}
    lines = (source.folder / METRICS).read_text(encoding="utf-8")
    (stage / METRICS).write_text(lines + json.dumps(added, allow_nan=False) + "\n", encoding="utf-8")
    old = {key: value for key, value in source.metadata.items() if key not in ("schema", "files")}
    metadata = {
        **old,
        "metrics": {**source.metadata["metrics"], "val": dict(after.val), "test": dict(after.test)},
        "recalibration": {
            "source": {"path": str(source.folder.resolve()), "weights_sha256": source.metadata["files"][WEIGHTS]},
            **facts,
        },
    }
    record = save_checkpoint(
        stage, module, metadata, model_file=source.model_file.read_bytes(), samples=source.samples()
    )
    digest: str = record["files"][WEIGHTS]
    return digest
