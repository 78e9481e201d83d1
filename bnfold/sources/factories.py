"""Factories: `package.module:factory` and `file.py:factory`, called without arguments."""

from __future__ import annotations

from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.model_file import input_dtypes_of, input_shapes_of, is_model_path, nearest
from bnfold.sources.usercode import build_module, described, import_file, user_code

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build_from_factory", "is_factory"]


def is_factory(spec: str) -> bool:
    """Whether a spec has the form `package.module:factory` or `file.py:factory`."""
    place, colon, name = spec.rpartition(":")
    return bool(place and colon) and all(part.isidentifier() for part in name.split("."))


def build_from_factory(
    spec: str, *, read_shapes: bool = True
) -> tuple[nn.Module, tuple[tuple[int, ...], ...] | None, tuple[str, ...] | None]:
    """Import the factory and call it.

    Args:
        spec: `package.module:factory` (importable from the working folder too) or `file.py:factory`.
        read_shapes: read INPUT_SHAPE (INPUT_SHAPES) of the file too.

    Returns:
        The network, and the shapes and dtypes of its inputs that a `.py` file states, None where it states none.

    Raises:
        InputRefused: nothing to import, no such factory, it raises, or it returns no module.
    """
    place, _, name = spec.rpartition(":")
    if is_model_path(place):
        path = Path(place).expanduser()
        module, folder = import_file(path), path.resolve().parent
    else:
        folder = Path.cwd()
        module = _import(place, folder)
    try:
        factory = attrgetter(name)(module)
    except AttributeError as error:
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InputRefused(
            f"no factory {name!r}",
            where=place,
            remedy=nearest(name, public, listing="name a function or class that is called without arguments"),
        ) from error
    if not callable(factory):
        raise InputRefused(
            f"{name!r} is not a factory",
            where=place,
            found=type(factory).__name__,
            expected="a function or class that returns a torch.nn.Module",
            remedy=f"add `def factory(): return {name}` there and name that",
        )
    network = build_module(factory, where=spec, folder=folder)
    if not is_model_path(place):
        return network, None, None
    path = Path(place)
    states_shapes = hasattr(module, "INPUT_SHAPE") or hasattr(module, "INPUT_SHAPES")
    shapes = input_shapes_of(module, path) if read_shapes and states_shapes else None
    return network, shapes, input_dtypes_of(module, path)


def _import(name: str, folder: Path) -> Any:
    try:
        with user_code(folder):
            return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        own = name == missing or name.startswith(f"{missing}.")
        raise InputRefused(
            f"no module {missing!r} to import" if own else f"the module {name} needs {missing!r}, which is missing",
            where=f"the working folder {folder} and this Python's packages",
            remedy="check the name, or give the path of the file: `file.py:factory`" if own else f"install {missing}",
        ) from error
    except (Exception, SystemExit) as error:
        raise InputRefused(
            "the module raises when it is imported",
            where=name,
            found=described(error)[:300],
            remedy=f"mend it until `python -c 'import {name}'` ends without an error",
        ) from error
