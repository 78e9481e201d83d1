"""From the word on the command line to a loaded source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import run_folder
from bnfold.sources.factories import is_factory
from bnfold.sources.library import LIBRARIES
from bnfold.sources.model_file import DTYPES, is_model_path, load_model_file, zoo_names
from bnfold.sources.onnx_file import load_onnx
from bnfold.sources.options import source_options
from bnfold.sources.program import load_program
from bnfold.sources.python_code import checkpoint_source, factory_source, file_source, library_source, run_source
from bnfold.sources.unfinished import is_unfinished
from bnfold.sources.weights import WEIGHT_SUFFIXES, is_torchscript

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from bnfold.sources.options import SourceOptions
    from bnfold.sources.types import Source

__all__ = ["load_source"]


def load_source(spec: str, **options: Unpack[SourceOptions]) -> Source:
    """Load and check anything that can be folded.

    Args:
        spec: a run folder, or a checkpoint of a run in progress; a name of the zoo or a `.py` file; `timm:NAME` or
            `torchvision:NAME`; `package.module:factory` or `file.py:factory`; a `.pt2` or an `.onnx` file.
        options: see `SourceOptions`.

    Returns:
        The source, on the CPU and in eval mode; the same arguments give the same parameters.

    Raises:
        InputRefused: it is missing, damaged, unknown, or cannot be folded safely.
        EnvironmentNotReady: a package is missing.
    """
    given = source_options(options)
    input_shapes, pretrained = given["input_shapes"], given["pretrained"]
    library = spec.partition(":")[0]
    dtypes = None if given["input_dtypes"] is None else _known_dtypes(given["input_dtypes"])
    file = None if given["weights"] is None else Path(given["weights"])
    if pretrained and library not in LIBRARIES:
        raise InputRefused(
            "--pretrained is for timm: and torchvision: networks", where=spec, remedy="give a file with --weights"
        )
    if Path(spec).suffix != ".onnx" and (given["dims"] or given["batch_dim"] is not None):
        raise InputRefused(
            "--dim and --batch-dim are for .onnx files", where=spec, remedy="give the sizes with --input-shape"
        )
    if library in LIBRARIES and library != spec:
        return library_source(spec, weights=file, pretrained=pretrained, shapes=input_shapes, dtypes=dtypes)
    path = Path(spec).expanduser()
    if path.suffix in (".onnx", ".pt2"):
        _refuse_weights(spec, file)
        _refuse_dtypes(spec, dtypes)
        if path.suffix == ".pt2" and is_torchscript(_existing(path)):
            raise _torchscript(path)
        _existing(path)
        if path.suffix == ".pt2":
            return load_program(path, spec, input_shapes=input_shapes)
        return load_onnx(
            path, spec, input_shapes=input_shapes, dims=given["dims"], batch_dim=given["batch_dim"], runs=given["runs"]
        )
    if is_model_path(spec) or spec in zoo_names():
        return file_source(load_model_file(spec), spec, file, input_shapes, dtypes)
    if is_factory(spec):
        return factory_source(spec, file, input_shapes, dtypes)
    if run_folder(path) is not None:
        _refuse_weights(spec, file)
        _refuse_dtypes(spec, dtypes)
        return run_source(path, spec, input_shapes)
    if is_unfinished(path):
        _refuse_weights(spec, file)
        _refuse_dtypes(spec, dtypes)
        return checkpoint_source(path, spec, input_shapes)
    if path.exists() or path.suffix in WEIGHT_SUFFIXES or len(path.parts) > 1:
        raise _no_source(_existing(path))
    return file_source(load_model_file(spec), spec, file, input_shapes, dtypes)


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
            "weights alone are not a network",
            where=str(path),
            remedy=f"name the network and add --weights {path}",
        )
    return InputRefused(
        "the file is not a SOURCE",
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
