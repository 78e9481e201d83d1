"""Running Python that the user wrote: their files, their factories, and the ends these can come to."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require_torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import CodeType, ModuleType

    from torch import nn

__all__ = ["build_module", "described", "import_file", "user_code"]


def described(error: BaseException) -> str:
    """An exception as one line: its type and its message."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


@contextlib.contextmanager
def user_code(folder: Path | None = None) -> Iterator[None]:
    """Run the user's code as Python would: its folder can be imported from, and what it prints goes to standard error.

    Standard output belongs to our results.
    """
    entry = None if folder is None else str(folder)
    if entry is not None:
        sys.path.insert(0, entry)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if entry is not None and entry in sys.path:
            sys.path.remove(entry)


class _FreshLoader(SourceFileLoader):
    """Compiles the file as it is now and leaves no `__pycache__` beside it."""

    def get_code(self, fullname: str) -> CodeType:
        source_path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(source_path), source_path)
        return code


def import_file(path: Path) -> ModuleType:
    """Run a `.py` file as a module.

    Raises:
        InputRefused: there is no such file, or it raises when it is run.
    """
    if not path.is_file():
        raise InputRefused(
            "no such Python file",
            where=str(path),
            remedy="give the path of a .py file, or the name of a network of the zoo",
        )
    path = path.resolve()
    name = f"bnfold_user_{path.stem}"  # no path in it: PyTorch's exporter stores module names
    spec = importlib.util.spec_from_loader(name, _FreshLoader(name, str(path)))
    if spec is None:
        raise InputRefused("the file is not a Python module", where=str(path), remedy="give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up by name
    try:
        with user_code(path.parent):
            _FreshLoader(name, str(path)).exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputRefused(
            "the Python file raises when it is imported",
            where=str(path),
            found=described(error),
            remedy=f"mend the file until `python {path.name}` ends without an error",
        ) from error
    return module


def build_module(factory: Callable[..., Any], *, where: str, folder: Path | None = None) -> nn.Module:
    """Call a factory of the user and check that it returns a module.

    Args:
        factory: called without arguments.
        where: the factory as the user named it.
        folder: the folder that its own imports may come from.

    Raises:
        InputRefused: the factory raises, or returns something that is not a `torch.nn.Module`.
    """
    torch = require_torch()
    try:
        with user_code(folder):
            made = factory()
    except InputRefused:
        raise
    except (Exception, SystemExit) as error:
        raise InputRefused(
            "the factory raises",
            where=where,
            found=described(error),
            expected="a torch.nn.Module",
            remedy="mend the factory, which is called without arguments",
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise InputRefused(
            "the factory returns no module",
            where=where,
            found=f"{type(made).__module__}.{type(made).__qualname__}",
            expected="a torch.nn.Module",
            remedy="return the network from the factory, which is called without arguments",
        )
    module: nn.Module = made
    return module
