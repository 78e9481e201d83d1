"""Networks with random parameters are built from a fixed seed, so that the same command gives the same file."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.sources.extras import require_torch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUILD_SEED", "require_seed", "seeded"]

BUILD_SEED = 0
LARGEST_SEED = 2**32 - 1
"""Of NumPy's global generator."""


def require_seed(seed: int) -> None:
    """Refuse a seed that not every generator takes.

    Raises:
        InputRefused: it is negative, or too large.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InputRefused(f"the seed must be 0 to {LARGEST_SEED}, got {seed}", remedy="choose another")


@contextlib.contextmanager
def seeded(seed: int = BUILD_SEED) -> Iterator[None]:
    """Seed PyTorch, NumPy's global generator and `random`, and give all three their old state back afterwards."""
    torch = require_torch()
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - factories draw from the global generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - as above
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002 - as above
