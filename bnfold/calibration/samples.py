"""The samples that statistics are measured on: chosen and ordered by what they hold, not by where they lie.

The digest of a sample is a random number that anyone can draw again. The n smallest are a uniform sample of the data,
and batches in the order of the digests are mixed, however the data is sorted: the same data in another order makes the
same batches.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch

    Inputs = tuple[torch.Tensor, ...]

__all__ = ["N_SAMPLES", "chosen_batches"]

N_SAMPLES = 2048
"""How many are enough by default: Wu and Johnson 2021 find no gain beyond some thousand (section 3.2)."""


def chosen_batches(batches: Iterable[Inputs], n_samples: int, batch_size: int) -> list[Inputs]:
    """Choose samples, and divide them into batches of nearly equal size.

    Args:
        batches: inputs, first axis the sample.
        n_samples: how many to take at most, 2 at least.
        batch_size: the least size of a batch, unless there are fewer samples.

    Raises:
        InputRefused: fewer than two samples.
    """
    import torch

    kept: list[tuple[bytes, Inputs]] = []
    for batch in batches:
        rows = [tuple(x[index] for x in batch) for index in range(len(batch[0]))]
        kept = sorted([*kept, *((_digest(row), row) for row in rows)], key=lambda entry: entry[0])[:n_samples]
    if len(kept) < 2:
        raise InputRefused(
            "statistics need at least two samples", where="the data", found=str(len(kept)), remedy="give more samples"
        )
    n_batches = max(1, len(kept) // batch_size)
    ends = [len(kept) * index // n_batches for index in range(n_batches + 1)]
    parts = [[row for _, row in kept[start:end]] for start, end in itertools.pairwise(ends)]
    return [tuple(torch.stack(column) for column in zip(*part, strict=True)) for part in parts]


def _digest(row: Sequence[torch.Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for x in row:
        digest.update(x.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
