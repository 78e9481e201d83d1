"""What `bnfold recalibrate` works on: the run, the data to measure on, and how good the network is on it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnfold.errors import GateFailed, InputRefused
from bnfold.sources.model_file import load_model_file
from bnfold.sources.state_dicts import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch
    from torch import nn

    from bnfold.calibration.layers import Statistics
    from bnfold.records import LayerStatistics
    from bnfold.sources.checkpoint import Run
    from bnfold.training.data import DataSet
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks import Task
    from bnfold.workflows.recalibration_wish import Wish

    Inputs = tuple[torch.Tensor, ...]

__all__ = [
    "Scores",
    "Subject",
    "gate",
    "load_subject",
    "measure",
    "scores",
    "wanted_batches",
]

_EVAL_BATCH = 256
_WITH_ENTROPY = ("classification", "segmentation")  # tasks whose output is logits


@dataclass(frozen=True)
class Subject:
    """The run: its network, what it learnt, and the target it is adapted to, if any."""

    run: Run
    module: nn.Module
    dtypes: Sequence[str] | None
    recipe: Recipe
    data: DataSet
    task: Task
    target: DataSet | None


@dataclass(frozen=True)
class Scores:
    """The task's metrics on the run's own splits `val` and `test`, and on the target, with `entropy`."""

    val: Mapping[str, float]
    test: Mapping[str, float]
    target: Mapping[str, float]


def load_subject(run: Run, wish: Wish) -> Subject:
    from bnfold.training.data import make_data
    from bnfold.training.recipe import read_recipe
    from bnfold.training.tasks import make_task

    recipe = read_recipe(run.metadata["recipe"], where=str(run.folder))
    file = load_model_file(str(run.model_file))
    module = file.build()
    load_weights(module, run.state, str(run.folder))
    data = make_data(recipe, run.input_shapes, download=wish.download)
    found, expected = data.facts.get("sha256"), run.metadata["data"].get("sha256")
    if found != expected:
        raise InputRefused(
            "the data is not what the run was trained on", where=str(recipe.data), found=f"SHA-256 {found}",
            expected=str(expected), remedy="restore the data, or train again",
        )  # fmt: skip
    other = None if wish.data is None else replace(recipe, data=wish.data)
    target = None if other is None else make_data(other, run.input_shapes, download=wish.download)
    return Subject(run, module.eval(), file.input_dtypes, recipe, data, make_task(recipe, data), target)


def wanted_batches(subject: Subject, wish: Wish) -> list[Inputs]:
    """The inputs that the statistics are measured on."""
    from bnfold.calibration.samples import chosen_batches

    size = subject.recipe.batch_size if wish.batch_size is None else wish.batch_size
    return chosen_batches(_inputs(subject, wish), wish.n_samples, size)


def _inputs(subject: Subject, wish: Wish) -> Iterator[Inputs]:
    import torch

    if wish.inputs is None:
        data = subject.data if subject.target is None else subject.target
        yield from (batch.inputs for batch in data.batches("train", _EVAL_BATCH))
        return
    from bnfold.sources.torch_source import input_specs
    from bnfold.sources.user_inputs import read_inputs

    run = subject.run
    specs = input_specs(subject.module, run.input_shapes, dtypes=subject.dtypes, where=str(run.folder))
    arrays = read_inputs(wish.inputs, specs)
    yield tuple(torch.from_numpy(arrays[spec.name]) for spec in specs)


def measure(
    subject: Subject, wish: Wish, batches: list[Inputs], told: Callable[[float], None]
) -> tuple[nn.Module, tuple[LayerStatistics, ...]]:
    """A copy of the network with new statistics, measured in float64, and the report of its layers."""
    from bnfold.calibration.dropout import dropouts_in_front
    from bnfold.calibration.health import layer_reports
    from bnfold.calibration.layers import batchnorms, read_statistics, write_statistics

    where = str(subject.run.folder)
    layers = batchnorms(subject.module)
    if not layers:
        raise InputRefused(
            "the network has no BatchNorm with running statistics", where=where, remedy="there is nothing to measure"
        )
    before = {name: read_statistics(layer) for name, layer in layers.items()}
    dropouts = dropouts_in_front(subject.module, tuple(x[:2] for x in batches[0]))
    after = _statistics(subject, wish, batches, told)
    module = copy.deepcopy(subject.module)
    for name, statistics in after.items():
        write_statistics(batchnorms(module)[name], statistics)
    measured = "recalibration" in subject.run.metadata or subject.recipe.precise_bn
    return module, layer_reports(subject.module, before, after, dropouts, measured=measured)


def _statistics(
    subject: Subject, wish: Wish, batches: list[Inputs], told: Callable[[float], None]
) -> Mapping[str, Statistics]:
    from bnfold.calibration.measure import Prior, measure_layerwise, measure_pooled
    from bnfold.verification.execution.torch_float64 import in_float64

    where = str(subject.run.folder)
    wide = copy.deepcopy(subject.module).double()
    inputs = [tuple(x.double() if x.is_floating_point() else x for x in batch) for batch in batches]
    with in_float64():
        if not wish.layerwise:
            return measure_pooled(wide, inputs, where=where)
        prior = Prior(wish.prior, sum(len(batch[0]) for batch in batches)) if wish.adapt else None
        return measure_layerwise(wide, inputs, prior=prior, where=where, told=told)


def scores(subject: Subject, wish: Wish) -> Scores:
    """How good the subject's network is.

    Raises:
        InputRefused: an adaptation that nothing can judge: no labels, and no probabilities.
    """
    from bnfold.training.loop import evaluate

    val, test = (evaluate(subject.module, subject.data, subject.task, split) for split in ("val", "test"))
    return Scores(val, test, _target_scores(subject, wish) if wish.adapt else {})


def _target_scores(subject: Subject, wish: Wish) -> Mapping[str, float]:
    """On the target's test split where there is a data set, else on the unlabelled inputs."""
    from bnfold.calibration.entropy import mean_entropy
    from bnfold.training.loop import evaluate

    target = subject.target
    found = {} if target is None else dict(evaluate(subject.module, target, subject.task, "test"))
    if subject.recipe.task in _WITH_ENTROPY:
        inputs = (
            _inputs(subject, wish)
            if target is None
            else (batch.inputs for batch in target.batches("test", _EVAL_BATCH))
        )
        found["entropy"] = mean_entropy(subject.module, inputs)
    if not found:
        raise InputRefused(
            "nothing can tell whether an adaptation helps", where=f"the task {subject.recipe.task}",
            found="inputs without labels, outputs that are no probabilities", remedy="give a data set with --data",
        )  # fmt: skip
    return found


def gate(before: Mapping[str, float], after: Mapping[str, float], goal: str, *, maximise: bool = True) -> None:
    """Refuse an adaptation after which the target's metric is worse or the entropy of the predictions higher.

    Raises:
        GateFailed: says which, and by how much.
    """
    worse = []
    if goal in before and (after[goal] < before[goal] if maximise else after[goal] > before[goal]):
        worse.append(f"{goal} {after[goal]:.4f}, which was {before[goal]:.4f}")
    if "entropy" in before and after["entropy"] > before["entropy"]:
        worse.append(f"mean entropy of the predictions {after['entropy']:.4f} nats, which was {before['entropy']:.4f}")
    if worse:
        raise GateFailed(
            "the adapted network is worse on the target", found=" and ".join(worse), expected="no worse than before",
            remedy="raise --prior or give more samples; nothing was written",
        )  # fmt: skip
