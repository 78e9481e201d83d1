"""Runs that can be repeated: PyTorch's random state, its threads, and the versions a run was made with."""

from __future__ import annotations

import platform
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from bnfold.runtime import available_threads
from bnfold.sources import seeds
from bnfold.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["reproducible", "versions"]

_PACKAGES = ("torch", "numpy", "safetensors", "accelerate", "scikit-learn")


@contextmanager
def reproducible(seed: int, threads: int | None) -> Iterator[int]:
    """Random generators seeded, PyTorch deterministic and on `threads` threads; all is put back afterwards.

    See https://docs.pytorch.org/docs/stable/notes/randomness.html: results agree for the same seed, machine, version
    and number of threads, which is yielded.
    """
    import torch

    n_threads = available_threads() if threads is None else threads
    before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with seeds.seeded(seed):
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(n_threads)
        try:
            yield n_threads
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def versions() -> dict[str, str | None]:
    """bnfold, Python and the packages a run depends on; None for one that is not installed."""
    found: dict[str, str | None] = {"bnfold": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
