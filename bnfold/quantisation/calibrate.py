"""Ranges of values over samples, and their means, streamed: memory holds one batch of activations at a time."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.quantisation.samples import answers_to, batches
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnfold.records import InputSpec

__all__ = ["ChannelStatistics", "Observed", "exposing", "observe", "observe_channels", "values_of"]

ACTIVATION_BYTES = 256 * 2**20  # of all observed values of a batch
MOST_SAMPLES = 32  # at a time


@dataclasses.dataclass
class Observed:
    """What was seen of a value over all samples.

    Attributes:
        low: the smallest element, and
        high: the largest.
        mean: of a sample, (1, ...) in float64; None where samples have different shapes, or no axis counts them.
    """

    low: float = np.inf
    high: float = -np.inf
    mean: np.ndarray | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The range, with 0 inside."""
        return min(self.low, 0.0), max(self.high, 0.0)


def observe(
    model: ir.Model,
    wanted: Sequence[str],
    samples: Mapping[str, np.ndarray],
    inputs: Sequence[InputSpec],
    *,
    means: Sequence[str] = (),
    n_means: int | None = None,
    threads: int | None = None,
) -> dict[str, Observed]:
    """Run a float graph over samples and observe values by name.

    Args:
        model: the graph; unchanged.
        wanted: names of values whose ranges are asked for.
        samples: arrays by input name, samples first.
        inputs: of the graph.
        means: names of values, of those wanted, whose mean sample is asked for,
        n_means: over the first so many samples; None for all.
        threads: of one operator.

    Raises:
        InputRefused: a value is not finite on these samples.
    """
    observed = {name: Observed() for name in wanted}
    counts = dict.fromkeys(means, 0)
    left = len(next(iter(samples.values()))) if n_means is None else n_means
    for n, values in values_of(model, wanted, samples, inputs, threads=threads):
        for name, value in values.items():
            own = observed[name]
            low, high = (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)
            if not (np.isfinite(low) and np.isfinite(high)):
                raise InputRefused(
                    "a value of the network is not finite on the samples", where=name, found=f"{low} to {high}",
                    remedy="check how the samples are scaled",
                )  # fmt: skip
            own.low, own.high = min(own.low, low), max(own.high, high)
            if left > 0 and counts.get(name, -1) >= 0:
                _add_mean(own, value[: min(n, left)], counts, name)
        left -= n
    for name, count in counts.items():
        mean = observed[name].mean
        observed[name].mean = mean / count if count > 0 and mean is not None else None
    return observed


def _add_mean(own: Observed, value: np.ndarray, counts: dict[str, int], name: str) -> None:
    """Add the samples of a batch up; one of another shape ends it."""
    total = value.sum(axis=0, keepdims=True, dtype=np.float64) if value.ndim else None
    if total is None or (own.mean is not None and own.mean.shape != total.shape):
        counts[name], own.mean = -1, None
        return
    own.mean = total if own.mean is None else own.mean + total
    counts[name] += len(value)


def values_of(
    model: ir.Model,
    wanted: Sequence[str],
    samples: Mapping[str, np.ndarray],
    inputs: Sequence[InputSpec],
    *,
    threads: int | None = None,
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """The values by name, batch by batch, each with the number of its samples; a fixed batch may hold more rows."""
    own_inputs = {spec.name for spec in inputs}
    exposed = sorted(set(wanted) - own_inputs)
    session = open_session(exposing(model, exposed), threads=threads)
    n, done = len(next(iter(samples.values()))), 0
    for feed in batches(samples, inputs, _batch_size(session, exposed, samples, inputs)):
        found = dict(zip(exposed, answers_to(feed, session, exposed), strict=True)) if exposed else {}
        found |= {name: feed[name] for name in wanted if name in own_inputs}
        rows = min(_rows(feed, inputs), n - done)
        done += rows
        yield rows, found


def exposing(model: ir.Model, names: Sequence[str], dtype: int = onnx.TensorProto.FLOAT) -> bytes:
    """The bytes of a model with values of one type as outputs too."""
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    declared = {value.name for value in proto.graph.output}
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, dtype, None) for name in names if name not in declared
    )
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


def _batch_size(
    session: Any, exposed: Sequence[str], samples: Mapping[str, np.ndarray], inputs: Sequence[InputSpec]
) -> int:
    """So many samples at a time that the observed values fit into ACTIVATION_BYTES."""
    feed = next(batches({name: array[:1] for name, array in samples.items()}, inputs, 1))
    n_bytes = sum(value.nbytes for value in answers_to(feed, session, exposed)) if exposed else 1
    return int(min(MOST_SAMPLES, max(1, ACTIVATION_BYTES * _rows(feed, inputs) // max(1, n_bytes))))


def _rows(feed: Mapping[str, np.ndarray], inputs: Sequence[InputSpec]) -> int:
    """How many samples a feed holds."""
    counted = [
        feed[spec.name].shape[spec.batch_axis] for spec in inputs if spec.has_batch and spec.batch_axis is not None
    ]
    return counted[0] if counted else 1


@dataclasses.dataclass
class ChannelStatistics:
    """What was seen of each channel (axis 1) of a value: shape (C,).

    Attributes:
        low: the smallest element, at most 0, and
        high: the largest, at least 0.
        square: the mean square.
        positions: elements of a channel in one sample.
    """

    low: np.ndarray
    high: np.ndarray
    square: np.ndarray
    positions: float


def observe_channels(
    model: ir.Model,
    wanted: Sequence[str],
    samples: Mapping[str, np.ndarray],
    inputs: Sequence[InputSpec],
    *,
    threads: int | None = None,
) -> dict[str, ChannelStatistics]:
    """Statistics of the channels of values by name; values of one axis are left out, as are those that change channels.

    Args:
        model: a float graph; unchanged.
        wanted: names of values.
        samples: arrays by input name, samples first.
        inputs: of the graph.
        threads: of one operator.
    """
    found: dict[str, ChannelStatistics] = {}
    n_seen: dict[str, int] = {}
    for n, values in values_of(model, wanted, samples, inputs, threads=threads):
        for name, value in values.items():
            if value.ndim < 2:
                continue
            rows = np.moveaxis(value[:n], 1, 0).reshape(value.shape[1], -1)
            square = np.einsum("cn,cn->c", rows, rows, dtype=np.float64) / max(1, rows.shape[1])
            low, high = np.minimum(rows.min(axis=1), 0.0), np.maximum(rows.max(axis=1), 0.0)
            own = found.get(name)
            seen = n_seen.get(name, 0)
            if own is not None and len(own.low) == len(low):
                low, high = np.minimum(own.low, low), np.maximum(own.high, high)
                square = (own.square * seen + square * n) / (seen + n)
            found[name] = ChannelStatistics(low, high, square, rows.shape[1] / n)
            n_seen[name] = seen + n
    return found
