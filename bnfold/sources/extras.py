"""Optional packages: imported where they are used, and named with the pip line that brings them when missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bnfold.errors import EnvironmentNotReady

__all__ = ["require", "require_torch"]


def require(package: str, *, extra: str | None, purpose: str) -> Any:
    """Import an optional package.

    Args:
        package: the import name.
        extra: the extra of bnfold that installs it, None where it is installed by itself.
        purpose: what it is needed for, for the message.

    Raises:
        EnvironmentNotReady: the package is missing or cannot be loaded.
    """
    remedy = f'run `pip install "bnfold[{extra}]"`' if extra else f"run `pip install {package}`"
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        missing = error.name or package
        raise EnvironmentNotReady(
            f"{purpose} needs the package {missing}, which is not installed", remedy=remedy
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentNotReady(
            f"{purpose} needs the package {package}, which does not load",
            found=f"{type(error).__name__}: {error}",
            remedy=remedy,
        ) from error


def require_torch() -> Any:
    """Import torch, or say how to install it."""
    return require("torch", extra="torch", purpose="a PyTorch model")
