"""Networks that are Python code: of a library, a model file or a factory; those of a run come with its weights."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import read_run
from bnfold.sources.factories import build_from_factory
from bnfold.sources.healthy import has_new_statistics
from bnfold.sources.library import build_timm, build_torchvision
from bnfold.sources.model_file import ModelFile, load_model_file
from bnfold.sources.seeds import seeded
from bnfold.sources.state_dicts import load_weights
from bnfold.sources.torch_source import torch_source
from bnfold.sources.unfinished import read_unfinished
from bnfold.sources.weights import put_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfold.sources.types import TorchSource

__all__ = ["checkpoint_source", "factory_source", "file_source", "library_source", "run_source"]

log = logging.getLogger("bnfold.sources")


def library_source(
    spec: str,
    *,
    weights: Path | None,
    pretrained: bool,
    shapes: Sequence[tuple[int, ...]] | None,
    dtypes: Sequence[str] | None,
) -> TorchSource:
    library, _, name = spec.partition(":")
    if pretrained and weights is not None:
        raise InputRefused("--pretrained and --weights exclude each other", where=spec, remedy="leave one of them out")
    with seeded():
        module, shape = (build_timm if library == "timm" else build_torchvision)(name, pretrained=pretrained)
    if weights is not None:
        put_weights(module, weights)
    elif not pretrained:
        log.warning("%s has random weights; give --weights FILE or --pretrained for trained ones", spec)
    return torch_source(module, spec, shapes=shapes or (shape,), dtypes=dtypes, details={"kind": library})


def file_source(
    model: ModelFile,
    spec: str,
    weights: Path | None,
    shapes: Sequence[tuple[int, ...]] | None,
    dtypes: Sequence[str] | None,
) -> TorchSource:
    with seeded():
        module = model.build()
    if weights is not None:
        put_weights(module, weights)
    else:
        log.warning("%s has random weights; give --weights FILE for trained ones", spec)
    return torch_source(
        module,
        spec,
        shapes=shapes or model.input_shapes,
        dtypes=dtypes or model.input_dtypes,
        output_names=model.output_names,
        task=model.recipe.get("task"),
        details={"kind": "model file"},
    )


def factory_source(
    spec: str, weights: Path | None, shapes: Sequence[tuple[int, ...]] | None, dtypes: Sequence[str] | None
) -> TorchSource:
    with seeded():
        module, own_shapes, own_dtypes = build_from_factory(spec, read_shapes=not shapes)
    wanted = shapes or own_shapes
    if wanted is None:
        raise InputRefused(
            "the input shape of a factory's network cannot be known",
            where=spec,
            remedy="give it with --input-shape, for example 1x3x224x224, once for every input of forward; in Python"
            " input_shapes=[(1, 3, 224, 224)]",
        )
    if weights is not None:
        put_weights(module, weights)
    source = torch_source(module, spec, shapes=wanted, dtypes=dtypes or own_dtypes, details={"kind": "factory"})
    if weights is None and has_new_statistics(module):
        log.warning("%s: no BatchNorm has seen data yet; give --weights FILE for trained parameters", spec)
    return source


def run_source(path: Path, spec: str, shapes: Sequence[tuple[int, ...]] | None) -> TorchSource:
    run = read_run(path)
    if shapes:
        raise InputRefused(
            "a run has the input shape it was trained with", where=spec, remedy="leave --input-shape out"
        )
    model = load_model_file(str(run.model_file))
    with seeded():
        module = model.build()
    load_weights(module, run.state, str(run.folder))
    recipe: dict[str, Any] = dict(run.metadata.get("recipe") or model.recipe)
    return torch_source(
        module,
        spec,
        shapes=run.input_shapes,
        dtypes=model.input_dtypes,
        output_names=model.output_names,
        task=recipe.get("task"),
        samples=run.samples(),
        details={"kind": "run", "metadata": run.metadata},
    )


def checkpoint_source(path: Path, spec: str, shapes: Sequence[tuple[int, ...]] | None) -> TorchSource:
    checkpoint = read_unfinished(path)
    with seeded():
        module = checkpoint.model.build()
    load_weights(module, checkpoint.state, str(path))
    return torch_source(
        module,
        spec,
        shapes=shapes or checkpoint.model.input_shapes,
        dtypes=checkpoint.model.input_dtypes,
        output_names=checkpoint.model.output_names,
        task=checkpoint.recipe.get("task"),
        details={"kind": "checkpoint"},
    )
