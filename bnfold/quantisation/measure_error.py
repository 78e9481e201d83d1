"""What quantisation costs: signal over noise of layers and outputs, in decibels, and agreement.

    SQNR = 10 log10( sum y^2 / sum (y - y_q)^2 )

Layers: the integer simulation against float64, error from the layers in front included. Outputs: both files in ONNX
Runtime, over all samples that were held out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.quantisation.float_nodes import evaluate_float
from bnfold.quantisation.samples import answers_to, batches
from bnfold.quantisation.simulate import Simulation
from bnfold.records.quantisation import OutputError
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bnfold.records import InputSpec

__all__ = ["layer_sqnr", "output_errors", "share_outside", "sqnr_db"]

HIGHEST_DB = 300.0  # of an output without any error
BATCH = 8


def sqnr_db(signal: float, noise: float) -> float:
    """Decibels of a sum of squares over that of an error."""
    if noise <= 0:
        return HIGHEST_DB
    if not math.isfinite(noise):
        return -HIGHEST_DB
    return max(-HIGHEST_DB, min(HIGHEST_DB, 10 * math.log10(max(signal, np.finfo(float).tiny) / noise)))


def layer_sqnr(
    written: onnx.ModelProto, folded: onnx.ModelProto, values: Iterable[str], feeds: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """The SQNR of values of the folded graph, by name, as the file has them.

    Args:
        written: the quantised file, with `value/q8` for the integers of a value.
        folded: the float graph.
        values: whose names both know.
        feeds: inputs.
    """
    wanted = set(values)
    reference = onnx.ModelProto()
    reference.CopyFrom(folded)
    declared = {value.name for value in reference.graph.output}
    reference.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - declared))
    simulation = Simulation(written)
    grids = _grids(written)
    signal, noise = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, 0.0)
    for feed in feeds:
        expected = evaluate_float(reference, feed)

        def seen(node: str, name: str, value: np.ndarray, expected: Mapping[str, np.ndarray] = expected) -> np.ndarray:
            del node
            stem = name.removesuffix("/q8")
            if stem in wanted:
                real = value if stem == name else (value.astype(np.float64) - grids[name][1]) * grids[name][0]
                signal[stem] += float((expected[stem] ** 2).sum())
                noise[stem] += float(((expected[stem] - real) ** 2).sum())
            return value

        simulation.run(feed, seen, also=wanted)
    return {name: sqnr_db(signal[name], noise[name]) for name in sorted(wanted) if signal[name] or noise[name]}


def _grids(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """Scale and zero point by the name of the integers."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return {
        node.output[0]: (
            float(onnx.numpy_helper.to_array(constants[node.input[1]])),
            float(onnx.numpy_helper.to_array(constants[node.input[2]])),
        )
        for node in model.graph.node
        if kind_of(node) == op.QuantizeLinear
    }


def output_errors(
    file: Path | bytes,
    float_file: Path | bytes,
    samples: Mapping[str, np.ndarray],
    inputs: Sequence[InputSpec],
    *,
    optimized: bool = True,
    threads: int | None = None,
) -> tuple[OutputError, ...]:
    """The SQNR of every float output, and how often the largest class of a classification is the same.

    Args:
        file: the quantised one, or its bytes.
        float_file: the folded one, likewise.
        samples: held out, by input name, samples first.
        inputs: of both.
        optimized: whether ONNX Runtime may change the graph of the first.
        threads: of one operator.
    """
    sessions = [open_session(float_file, threads=threads), open_session(file, threads=threads, optimized=optimized)]
    names = [value.name for value in sessions[0].get_outputs()]
    signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    same: dict[str, list[int]] = {name: [0, 0] for name in names}
    n, done = len(next(iter(samples.values()))), 0
    for feed in batches(samples, inputs, BATCH):
        pair = answers_to(feed, sessions[0], names), sessions[1].run(names, feed)
        rows = min(BATCH if inputs[0].fixed_batch is None else inputs[0].fixed_batch, n - done)
        done += rows
        for name, exact, own in zip(names, *pair, strict=True):
            if exact.dtype.kind != "f":
                continue
            y, q = exact.astype(np.float64), own.astype(np.float64)
            signal[name] += float((y**2).sum())
            noise[name] += float(((y - q) ** 2).sum())
            if y.ndim == 2 and y.shape[1] > 1:
                same[name][0] += int((y[:rows].argmax(1) == q[:rows].argmax(1)).sum())
                same[name][1] += rows
    return tuple(
        OutputError(name, sqnr_db(signal[name], noise[name]), same[name][0] / same[name][1] if same[name][1] else None)
        for name in names
        if signal[name] or noise[name]
    )


def share_outside(samples: Mapping[str, np.ndarray], ranges: Mapping[str, tuple[float, float]]) -> float:
    """The share of the input elements that lie outside of their calibrated range."""
    inside = [(array, ranges[name]) for name, array in samples.items() if name in ranges]
    outside = sum(int(((array < low) | (array > high)).sum()) for array, (low, high) in inside)
    total = sum(array.size for array, _ in inside)
    return outside / total if total else 0.0
