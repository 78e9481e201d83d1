"""From the word on the command line to a loaded source."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import load_weights, read_run, run_folder
from bnfold.sources.factories import build_from_factory, is_factory
from bnfold.sources.library import LIBRARIES, build_timm, build_torchvision
from bnfold.sources.model_file import DTYPES, ModelFile, is_model_path, load_model_file, zoo_names
from bnfold.sources.onnx_file import load_onnx
from bnfold.sources.program import load_program
from bnfold.sources.seeds import seeded
from bnfold.sources.torch_source import torch_source
from bnfold.sources.unfinished import is_unfinished, read_unfinished
from bnfold.sources.weights import WEIGHT_SUFFIXES, is_torchscript, put_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.sources.types import Source, TorchSource

__all__ = ["load_source"]

log = logging.getLogger("bnfold.sources")


def load_source(
    spec: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
    runs: bool = True,
) -> Source:
    """Load and check anything that can be folded.

    Args:
        spec: a run folder, or a checkpoint of a run in progress; a name of the zoo or a `.py` file; `timm:NAME` or
            `torchvision:NAME`; `package.module:factory` or `file.py:factory`; a `.pt2` or an `.onnx` file.
        weights: a weight file for a network that is named by its code.
        pretrained: load the published weights of a timm or torchvision network, which may download them.
        input_shapes: one per input, axis 0 the batch, where they cannot be known or shall be others.
        input_dtypes: NumPy's name of each input's type, or one for all, for a network that is Python code; None takes
            INPUT_DTYPES of its file, or the type of its parameters.
        runs: whether the source will be run; an `.onnx` file that will only be read needs no sizes.

    Returns:
        The source, on the CPU and in eval mode; the same arguments give the same parameters.

    Raises:
        InputRefused: it is missing, damaged, unknown, or cannot be folded safely.
        EnvironmentNotReady: a package is missing.
    """
    library = spec.partition(":")[0]
    dtypes = None if input_dtypes is None else _known_dtypes(input_dtypes)
    file = None if weights is None else Path(weights)
    if pretrained and library not in LIBRARIES:
        raise InputRefused(
            "--pretrained is for timm: and torchvision: networks", where=spec, remedy="give a file with --weights"
        )
    if library in LIBRARIES and library != spec:
        return _library(spec, weights=file, pretrained=pretrained, shapes=input_shapes, dtypes=dtypes)
    path = Path(spec).expanduser()
    if path.suffix in (".onnx", ".pt2"):
        _refuse_weights(spec, file)
        _refuse_dtypes(spec, dtypes)
        if path.suffix == ".pt2" and is_torchscript(_existing(path)):
            raise _torchscript(path)
        _existing(path)
        if path.suffix == ".onnx":
            return load_onnx(path, spec, input_shapes=input_shapes, runs=runs)
        return load_program(path, spec, input_shapes=input_shapes)
    if is_model_path(spec) or spec in zoo_names():
        return _model_file(load_model_file(spec), spec, file, input_shapes, dtypes)
    if is_factory(spec):
        return _factory(spec, file, input_shapes, dtypes)
    if run_folder(path) is not None:
        _refuse_weights(spec, file)
        _refuse_dtypes(spec, dtypes)
        return _run(path, spec, input_shapes)
    if is_unfinished(path):
        _refuse_weights(spec, file)
        _refuse_dtypes(spec, dtypes)
        return _unfinished_run(path, spec, input_shapes)
    if path.exists() or path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1:
        raise _no_source(_existing(path))
    return _model_file(load_model_file(spec), spec, file, input_shapes, dtypes)


def _library(
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


def _model_file(
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


def _factory(
    spec: str, weights: Path | None, shapes: Sequence[tuple[int, ...]] | None, dtypes: Sequence[str] | None
) -> TorchSource:
    with seeded():
        module, own_shapes, own_dtypes = build_from_factory(spec, read_shapes=not shapes)
    wanted = shapes or own_shapes
    if wanted is None:
        raise InputRefused(
            "the input shape of a factory's network cannot be known",
            where=spec,
            remedy="give it with --input-shape, for example 1x3x224x224, once for every input of forward",
        )
    if weights is not None:
        put_weights(module, weights)
    return torch_source(module, spec, shapes=wanted, dtypes=dtypes or own_dtypes, details={"kind": "factory"})


def _run(path: Path, spec: str, shapes: Sequence[tuple[int, ...]] | None) -> TorchSource:
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


def _unfinished_run(path: Path, spec: str, shapes: Sequence[tuple[int, ...]] | None) -> TorchSource:
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


def _refuse_weights(spec: str, weights: Path | None) -> None:
    if weights is not None:
        raise InputRefused("the source brings its own weights", where=spec, remedy="leave --weights out")


def _refuse_dtypes(spec: str, dtypes: Sequence[str] | None) -> None:
    if dtypes is not None:
        raise InputRefused(
            "the source states the types of its inputs itself", where=spec, remedy="leave --input-dtype out"
        )


def _known_dtypes(dtypes: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in dtypes if name not in DTYPES]
    if unknown:
        raise InputRefused(
            f"--input-dtype must be one of {', '.join(DTYPES)}, got {unknown[0]!r}",
            remedy="name the type of each input of forward, in their order",
        )
    return tuple(dtypes)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InputRefused(
            "no such file or folder", where=str(path), remedy="check the path, or give the name of a network of the zoo"
        )
    return path


def _no_source(path: Path) -> InputRefused:
    if is_torchscript(path):
        return _torchscript(path)
    if path.suffix in WEIGHT_SUFFIXES:
        return InputRefused(
            "weights alone are no network",
            where=str(path),
            remedy=f"name the network and add --weights {path}",
        )
    return InputRefused(
        "the file is no source",
        where=str(path),
        expected="a run folder, .py, .pt2 or .onnx",
        remedy="see `bnfold fold-export --help` for every kind of source",
    )


def _torchscript(path: Path) -> InputRefused:
    return InputRefused(
        "the file is a TorchScript archive of torch.jit.save, whose layers can no longer be told apart",
        where=str(path),
        expected="a run folder, .py, .pt2 or .onnx",
        remedy="name the network's Python code, with the weights of this file as --weights: write them with "
        f"safetensors.torch.save_file(torch.jit.load('{path.name}').state_dict(), 'weights.safetensors')",
    )
