"""The samples that a network is calibrated on, of which a part is held out."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnfold.records import InputSpec

__all__ = ["HELD_OUT", "Samples", "answers_to", "batches", "split_samples"]

HELD_OUT = 0.25  # of the samples, at most MOST_HELD_OUT
MOST_HELD_OUT = 128
_REMEDY = "give at least two samples that differ, a hundred are better: --inputs FILE.npz, a folder, or --data"


@dataclasses.dataclass(frozen=True)
class Samples:
    """Arrays by input name, samples first: those that give the ranges, and those that the file is judged on."""

    calibration: Mapping[str, np.ndarray]
    held_out: Mapping[str, np.ndarray]
    sha256: str

    @property
    def n(self) -> int:
        """How many give the ranges."""
        return len(next(iter(self.calibration.values())))

    @property
    def n_held_out(self) -> int:
        """How many are held out."""
        return len(next(iter(self.held_out.values())))


def split_samples(samples: Mapping[str, np.ndarray], *, seed: int, where: str) -> Samples:
    """Hold a part of the samples out, drawn by the seed.

    Args:
        samples: arrays by input name, samples first, as many in each.
        seed: of the draw.
        where: they come from, for messages.

    Raises:
        InputRefused: fewer than two samples, all of them the same, constant ones alone, or NaN and infinity in them.
    """
    n = len(next(iter(samples.values()))) if samples else 0
    if n < 2:
        raise InputRefused(
            "there are too few samples to calibrate on and to judge the file by", where=where,
            found="no sample" if n == 0 else "one sample", expected="at least two", remedy=_REMEDY,
        )  # fmt: skip
    for name, array in samples.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))
            raise InputRefused(
                "the samples hold NaN or infinity", where=f"{name} of {where}",
                found=f"{len(bad)} such values, the first in sample {bad[0][0]}", remedy="leave these samples out",
            )  # fmt: skip
    if all((array == array[:1]).all() for array in samples.values()):
        raise InputRefused("all samples are the same", where=where, found=f"{n} equal samples", remedy=_REMEDY)
    floats = [array for array in samples.values() if array.dtype.kind == "f"]
    if floats and all(_is_constant(array) for array in floats):
        raise InputRefused(
            "every sample is constant, which excites no range", where=where,
            found=f"{n} samples, each of one number", remedy=_REMEDY,
        )  # fmt: skip
    order = np.random.default_rng(seed).permutation(n)
    n_held_out = max(1, min(round(HELD_OUT * n), MOST_HELD_OUT))
    held, rest = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    return Samples(
        {name: array[rest] for name, array in samples.items()},
        {name: array[held] for name, array in samples.items()},
        _digest(samples),
    )


def batches(
    samples: Mapping[str, np.ndarray], inputs: Sequence[InputSpec], size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Feeds of a network; where its batch is fixed, the last sample fills the last one up.

    Args:
        samples: by input name, samples first.
        inputs: of the network; one without a batch axis serves all samples, its first is taken.
        size: samples at a time where the batch is dynamic.
    """
    n = len(next(iter(samples.values())))
    fixed = next((spec.fixed_batch for spec in inputs if spec.fixed_batch is not None), None)
    size = fixed or size
    for start in range(0, n, size):
        rows = (
            np.arange(start, min(start + size, n))
            if fixed is None
            else np.minimum(np.arange(start, start + size), n - 1)
        )
        yield {spec.name: _placed(samples[spec.name][rows], spec) for spec in inputs}


def _placed(array: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Samples on the axis of the input that counts them."""
    if not spec.has_batch or spec.batch_axis is None:
        return np.asarray(array[0])
    return np.ascontiguousarray(np.moveaxis(array, 0, spec.batch_axis))


def _is_constant(array: np.ndarray) -> bool:
    rows = array.reshape(len(array), -1)
    return bool(rows.shape[1] > 1 and (rows == rows[:, :1]).all())


def _digest(samples: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(samples):
        array = np.ascontiguousarray(samples[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def answers_to(feed: Mapping[str, np.ndarray], session: Any, names: Sequence[str]) -> list[np.ndarray]:
    """What a session of the float network answers to samples.

    Raises:
        InputRefused: it does not run on them.
    """
    try:
        return list(session.run(list(names), dict(feed)))
    except Exception as error:  # ONNX Runtime's errors share no class but this one; its words are told
        raise InputRefused(
            "the network does not run on the samples",
            where=", ".join(f"{name} {array.shape}" for name, array in feed.items()),
            found=" ".join(str(error).split())[-200:],
            remedy="give samples that the network takes: indices that its tables have, sizes at which it runs",
        ) from error
