"""Model files: plain PyTorch, one network a file, in the zoo or the user's own.

A model file has a docstring, `INPUT_SHAPE` (one array with a leading 1 as batch), `build() -> nn.Module` and, to be
trained, `RECIPE`. `OUTPUT_NAMES` may name the outputs, `INPUT_DTYPE` the input's dtype, which is else that of the
parameters: "int64" for token ids, for the indices of an embedding or of a gather. A network of several inputs has
`INPUT_SHAPES` and `INPUT_DTYPES` instead, one entry for each in the order of `forward`: `("float32", "int64")`. They
hold for `file.py:factory` too, where `--input-dtype` may say them instead, as `--input-shape` the shapes.

The networks of the zoo state as `EXPECTED` the least that the recipe reaches on the test split (the most, for a
distance), and how many BatchNorms are kept; `scripts/zoo_table.py` holds them to it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require_torch
from bnfold.sources.usercode import build_module, import_file

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "DTYPES",
    "ModelFile",
    "input_dtypes_of",
    "input_shapes_of",
    "is_model_path",
    "load_model_file",
    "nearest",
    "zoo_folder",
    "zoo_names",
]

DTYPES = ("float32", "float64", "float16", "bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64")


@dataclass(frozen=True)
class ModelFile:
    """A model file that has been read: `build()` makes the network, with parameters from PyTorch's random state.

    `recipe` is empty where the file has none; `input_shapes` has one shape for each input, with a leading 1 as batch;
    `input_dtypes` one NumPy name for each or one for all, None where they are of the parameters' dtype.
    """

    name: str
    path: Path
    build: Callable[[], nn.Module]
    recipe: Mapping[str, Any]
    input_shapes: tuple[tuple[int, ...], ...]
    output_names: tuple[str, ...] | None = None
    input_dtypes: tuple[str, ...] | None = None


def zoo_folder() -> Path:
    """The folder of the zoo: `models` in a checkout, `bnfold/_models` in an installed package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_models"
    return installed if installed.is_dir() else package.parent / "models"


def zoo_names() -> tuple[str, ...]:
    """The names of the networks of the zoo."""
    return tuple(sorted(path.stem for path in zoo_folder().glob("*.py") if not path.stem.startswith("_")))


def is_model_path(spec: str) -> bool:
    """Whether a spec is meant as the path of a `.py` file (otherwise it is a name of the zoo)."""
    return spec.endswith(".py")


def nearest(name: str, known: tuple[str, ...] | list[str], *, listing: str) -> str:
    """A remedy for a misspelt name: the nearest known ones.

    Args:
        name: what was asked.
        known: the names that exist.
        listing: where all names can be read, for when none is near.
    """
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return listing


def load_model_file(spec: str) -> ModelFile:
    """Read a model file.

    Args:
        spec: a name of the zoo (`bnnet`), or the path of a `.py` file.

    Raises:
        InputRefused: no such name or file, or the file lacks `build` or a valid `INPUT_SHAPE`.
        EnvironmentNotReady: PyTorch is not installed.
    """
    path = Path(spec).expanduser() if is_model_path(spec) else zoo_folder() / f"{spec}.py"
    if not is_model_path(spec) and spec not in zoo_names():
        path_given = Path(spec).expanduser()
        raise InputRefused(
            f"the zoo has no network {spec!r}",
            found="a folder of that name, which is no model file" if path_given.is_dir() else None,
            remedy=nearest(spec, zoo_names(), listing=f"known names: {', '.join(zoo_names())}")
            + "; a network of your own is given as the path of its .py file",
        )
    if path.is_file():
        require_torch()  # the file imports it, and an error in there would be the file's
    module = import_file(path)
    build = getattr(module, "build", None)
    if not callable(build):
        raise InputRefused(
            "the model file has no function `build`",
            where=str(path),
            expected="def build() -> nn.Module",
            remedy="add it, or name another function as `file.py:function`",
        )
    return ModelFile(
        name=path.stem,
        path=path.resolve(),
        build=partial(build_module, build, where=f"{path}:build", folder=path.resolve().parent),
        recipe=_recipe(module, path),
        input_shapes=input_shapes_of(module, path),
        output_names=_output_names(module, path),
        input_dtypes=input_dtypes_of(module, path),
    )


def _recipe(module: ModuleType, path: Path) -> Mapping[str, Any]:
    recipe = getattr(module, "RECIPE", {})
    if not isinstance(recipe, Mapping):
        raise InputRefused(
            "RECIPE is not a mapping",
            where=str(path),
            found=type(recipe).__name__,
            expected='for example RECIPE = {"epochs": 20}',
            remedy="write it as a dict",
        )
    return MappingProxyType(dict(recipe))


def input_shapes_of(module: ModuleType, path: Path) -> tuple[tuple[int, ...], ...]:
    """The INPUT_SHAPES of a Python file, or its INPUT_SHAPE as the only one.

    Raises:
        InputRefused: missing, or no shapes of arrays with a leading 1 as batch.
    """
    several = hasattr(module, "INPUT_SHAPES")
    name = "INPUT_SHAPES" if several else "INPUT_SHAPE"
    stated = getattr(module, name, None)
    shapes = stated if several else (stated,)
    if not isinstance(shapes, (tuple, list)) or not shapes or not all(map(_is_shape, shapes)):
        example = "((1, 13), (1, 4))" if several else "(1, 3, 32, 32)"
        raise InputRefused(
            f"the model file has no valid {name}",
            where=str(path),
            found=repr(stated),
            expected=f"positive integers with a leading 1 as batch, for example {name} = {example}",
            remedy=f"add it, or name the function as `{path.name}:build` with --input-shape",
        )
    return tuple(tuple(shape) for shape in shapes)


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, (tuple, list))
        and len(shape) > 0
        and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape)
        and shape[0] == 1
    )


def input_dtypes_of(module: ModuleType, path: Path) -> tuple[str, ...] | None:
    """The INPUT_DTYPES of a Python file, one for each input, or its INPUT_DTYPE for all; None where it has neither.

    Raises:
        InputRefused: they are no names of numbers that NumPy holds.
    """
    several = hasattr(module, "INPUT_DTYPES")
    name = "INPUT_DTYPES" if several else "INPUT_DTYPE"
    stated = getattr(module, name, None)
    if stated is None:
        return None
    dtypes = stated if several else (stated,)
    if not isinstance(dtypes, (tuple, list)) or not dtypes or not all(dtype in DTYPES for dtype in dtypes):
        raise InputRefused(
            f"the model file has no valid {name}",
            where=str(path),
            found=repr(stated),
            expected='for example INPUT_DTYPES = ("float32", "int64")' if several else 'for example "int64"',
            remedy="mend it, or leave it out where the inputs are of the parameters' dtype",
        )
    return tuple(dtypes)


def _output_names(module: ModuleType, path: Path) -> tuple[str, ...] | None:
    names = getattr(module, "OUTPUT_NAMES", None)
    if names is None:
        return None
    valid = isinstance(names, (tuple, list)) and all(isinstance(name, str) and name for name in names)
    if not valid or len(set(names)) != len(names):
        raise InputRefused(
            "OUTPUT_NAMES is not a tuple of different names",
            where=str(path),
            found=repr(names),
            expected='for example OUTPUT_NAMES = ("logits",)',
            remedy="mend it or leave it out",
        )
    return tuple(names)
