"""All contenders over the same samples, in step: scores of each, and how often two say the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.evaluation.classified import Classified
from bnfold.evaluation.labels import label_order
from bnfold.evaluation.tallied import Tallied
from bnfold.training.tasks import make_task
from bnfold.training.tasks.detection import Detection
from bnfold.training.tasks.segmentation import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.evaluation.contenders import Contender
    from bnfold.evaluation.labelled import Samples
    from bnfold.evaluation.scores import Scores
    from bnfold.training.tasks import Task

__all__ = ["Judged", "judge"]


@dataclass(frozen=True)
class Judged:
    """The scores of each contender, and the metric that matters.

    `maximise`: whether more of it is better.
    """

    scores: tuple[Scores, ...]
    goal: str
    maximise: bool
    n: int


def judge(
    contenders: Sequence[Contender],
    samples: Sequence[Samples],
    *,
    batch: int,
    progress: Callable[[float], None] | None = None,
) -> Judged:
    """Run every contender over its samples, which are the same for all but for how they are scaled.

    Args:
        contenders: run in turn on each batch.
        samples: one for each.
        batch: samples at a time.
        progress: called with the part that is done, 0 to 1.

    Raises:
        InputRefused: the samples differ between contenders, or do not fit.
    """
    scores: list[Scores] = []
    done = 0
    for step in zip(*(own.batches(batch) for own in samples), strict=True):
        _refuse_other_targets(step, samples)
        for k, (contender, (inputs, targets)) in enumerate(zip(contenders, step, strict=True)):
            outputs = contender.run(inputs)
            if len(scores) <= k:
                scores.append(_scores(contender, samples[k], outputs))
            scores[k].add(inputs, outputs, targets)
        done += len(step[0][1])
        if progress is not None:
            progress(done / samples[0].n)
    first = scores[0]
    if isinstance(first, Tallied):
        return Judged(tuple(scores), first.task.goal, first.task.maximise, done)
    return Judged(tuple(scores), "accuracy", maximise=True, n=done)


def _scores(contender: Contender, samples: Samples, outputs: Sequence[np.ndarray]) -> Scores:
    if samples.task == "classification":
        rows = outputs[0]
        if len(outputs) < 1 or rows.ndim != 2:
            raise InputRefused(
                "the output does not fit a classification", where=f"{contender.path}, {contender.output_names[0]}",
                found=f"shape {rows.shape}", expected="(samples, classes)",
                remedy="evaluate a classifier, or say --task segmentation or detection",
            )  # fmt: skip
        order, classes = label_order(samples, contender.facts, rows.shape[1], contender.path)
        return Classified(order, classes, samples.names, contender.path)
    return Tallied(_task(contender, samples, outputs), contender.path)


def _task(contender: Contender, samples: Samples, outputs: Sequence[np.ndarray]) -> Task:
    """The task of the training recipe; without one, that of as many classes as the first output has channels."""
    if samples.recipe is not None and samples.data is not None:
        return make_task(samples.recipe, samples.data)
    makers: dict[str, Callable[[int], Task]] = {"segmentation": Segmentation, "detection": Detection}
    if samples.task not in makers:
        raise InputRefused(
            f"the metrics of a {samples.task} need the data of a training recipe", where=samples.spec,
            expected="a run folder, or a file exported from one", remedy="leave --data out, or name the run's data",
        )  # fmt: skip
    if outputs[0].ndim != 4:
        raise InputRefused(
            f"the output does not fit a {samples.task}", where=f"{contender.path}, {contender.output_names[0]}",
            found=f"shape {outputs[0].shape}", expected="(samples, classes, height, width)",
            remedy="name the task with --task",
        )  # fmt: skip
    return makers[samples.task](outputs[0].shape[1])


def _refuse_other_targets(
    step: Sequence[tuple[tuple[np.ndarray, ...], np.ndarray]], samples: Sequence[Samples]
) -> None:
    first = step[0][1]
    for (_, targets), own in zip(step[1:], samples[1:], strict=True):
        if not np.array_equal(first, targets):
            raise InputRefused(
                "the files are not evaluated on the same samples", where=own.spec,
                found="other labels at the same place", remedy="give the data of both with --data",
            )  # fmt: skip
