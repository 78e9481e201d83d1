"""In what metric errors of a layer's weights are errors of what it computes: mean products of what they multiply.

    H = C / p + 0.1 (I + S)        C = mean((x - mean x) (x - mean x)^T)        p = mean_k C_kk

of a convolution's window x, channels and taps in the order of its weights; zeros of the border count. The mean is left
in where no bias takes away what a weight is off by on average. S is 1 where two weights are taps of one channel. The
second term is what is known without samples, of which few tell less than C has numbers: weights matter alike, and taps
read what is nearly the same, the more so for what pools average behind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, operand
from bnfold.graph.float64_windows import Windows
from bnfold.graph.operators import kind_of
from bnfold.quantisation.calibrate import values_of
from bnfold.quantisation.operators import output_channels

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx_ir as ir

    from bnfold.records import InputSpec

__all__ = ["input_moments"]

N_SAMPLES = 64
ROWS = (1024, 8192)  # windows of a layer, over all samples: eight times as many as it has weights, within these
MOST_WEIGHTS = 2304  # of an output channel: 3x3 of 256 channels; its moments are 20 MiB
MOST_BYTES = 256 * 2**20  # of all moments
# Of I on trained EfficientNet-Lite0: with 4 samples best of 0.01, 0.03 and 0.1; with 48 the best within 0.1 dB. S costs
# 0.1 dB there, and gains one of random networks on noise, whose taps have nothing in common.
PRIOR = 0.1
LEAST_POWER = 1e-12  # of the largest number squared: what differs by less is rounded in float32
_WINDOW = ("auto_pad", "pads", "strides", "dilations")
Array = np.ndarray


def input_moments(
    model: ir.Model,
    layers: Collection[str],
    samples: Mapping[str, Array],
    inputs: Sequence[InputSpec],
    *,
    about_mean: Collection[str],
    threads: int | None = None,
) -> dict[str, Array]:
    """H of layers by the name of their node, (K, K) in float32.

    Layers of groups have none, nor those of more than 2304 weights an output channel; and where all together would take
    more than 256 MiB, the widest ones have none.

    Args:
        model: the prepared float graph; unchanged.
        layers: nodes, each a Conv, Gemm or MatMul of constant weight.
        samples: arrays by input name, samples first, of which at most 64 are taken, evenly.
        inputs: of the graph.
        about_mean: the nodes whose bias takes the mean away.
        threads: of one operator.
    """
    nodes = _measured([node for node in model.graph if node.name in layers])
    n = len(next(iter(samples.values())))
    own = {name: array[:: math.ceil(n / N_SAMPLES)] for name, array in samples.items()}
    n = len(next(iter(own.values())))
    draw = np.random.default_rng(0)
    sums = {str(node.name): _Sums() for node in nodes}
    wanted = sorted({str(operand(node).name) for node in nodes})
    for count, values in values_of(model, wanted, own, inputs, threads=threads) if nodes else ():
        for node in nodes:
            x = values[str(operand(node).name)]
            rows = min(ROWS[1], max(ROWS[0], 8 * _n_weights(node)))
            if x.size:
                sums[str(node.name)].add(_windows(node, x, math.ceil(rows * count / n), draw))
    taps = {str(node.name): math.prod(_weight(node).shape[2:]) if kind_of(node) == op.Conv else 1 for node in nodes}
    return {
        name: _with_prior(each.covariance(about_mean=name in about_mean), taps[name])
        for name, each in sums.items()
        if each.n
    }


def _with_prior(c: Array, taps: int) -> Array:
    power = float(np.diag(c).mean())
    channel = np.arange(len(c)) // taps
    prior = np.eye(len(c)) + (channel[:, None] == channel if taps > 1 else 0)
    return np.asarray((c / power if power > LEAST_POWER else 0) + PRIOR * prior, np.float32)


def _measured(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """The layers whose moments are taken: groups read few channels, where right sums over taps are nearly as good."""
    found, left = [], MOST_BYTES
    dense = [node for node in nodes if int(attribute(node, "group", 1)) == 1 and _n_weights(node) <= MOST_WEIGHTS]
    for node in sorted(dense, key=_n_weights):
        left -= 4 * _n_weights(node) ** 2
        if left >= 0:
            found.append(node)
    return found


def _weight(node: ir.Node) -> Array:
    weight = constant(node.inputs[1])
    if weight is None:
        raise ValueError(f"the weight of {node.name} is not constant")
    return weight


def _n_weights(node: ir.Node) -> int:
    weight = _weight(node)
    return weight.size // output_channels(node, weight)


def _windows(node: ir.Node, x: Array, n: int, draw: np.random.Generator) -> Array:
    """About n rows that the weights of a layer are multiplied with, (N, K), drawn where there are more."""
    if kind_of(node) != op.Conv:
        rows = x.reshape(-1, x.shape[-1])
        return np.asarray(rows[_drawn(len(rows), n, draw)])
    windows = Windows(x.shape[2:], _weight(node).shape[2:], **{name: attribute(node, name, None) for name in _WINDOW})
    padded = windows.padded(x, 0.0) if any(map(any, windows.pads)) else x
    chosen = np.unravel_index(_drawn(math.prod(windows.out), max(1, n // len(x)), draw), windows.out)
    flat = padded.reshape(*x.shape[:2], -1)
    taps = []
    for tap in np.ndindex(*windows.kernel):
        place = zip(chosen, windows.strides, tap, windows.dilations, strict=True)
        cells = np.ravel_multi_index([o * s + t * d for o, s, t, d in place], padded.shape[2:])
        taps.append(flat[:, :, cells])
    return np.stack(taps, axis=-1).transpose(0, 2, 1, 3).reshape(-1, x.shape[1] * len(taps))


def _drawn(n: int, most: int, draw: np.random.Generator) -> Array:
    return np.arange(n) if n <= most else np.sort(draw.choice(n, most, replace=False))


class _Sums:
    """Sums of rows (N, K) and of their products, from the mean of the first ones on and in units of their size."""

    def __init__(self) -> None:
        self.n = 0
        self._start = self._first = self._second = np.zeros(0)
        self._unit = 1.0

    def add(self, rows: Array) -> None:
        if not self.n:
            self._start, self._unit = rows.mean(axis=0), float(np.abs(rows).max()) or 1.0
            self._first, self._second = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2, np.float32)
        own = (rows - self._start) / np.float32(self._unit)
        self.n += len(own)
        self._first += own.sum(axis=0, dtype=np.float64)
        self._second += own.T @ own

    def covariance(self, *, about_mean: bool) -> Array:
        """C, (K, K) in float64, in units of the largest number."""
        mean = self._first / self.n
        found = self._second.astype(np.float64) / self.n - np.outer(mean, mean)
        if not about_mean:
            mean += self._start / self._unit
            found += np.outer(mean, mean)
        return np.asarray((found + found.T) / 2)
