"""What float16 costs: signal over noise of layers, simulated as a GPU computes them, against float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from bnfold.graph.float64 import Float64Graph
from bnfold.quantisation.half.simulate import simulated
from bnfold.quantisation.measure_error import sqnr_db
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["half_layer_sqnr"]


def half_layer_sqnr(
    written: onnx.ModelProto,
    reference: onnx.ModelProto,
    values: Iterable[str],
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    threads: int | None = None,
) -> dict[str, float]:
    """The SQNR of values of the reference, by name, as the file has them.

    Args:
        written: the float16 file.
        reference: the float32 graph in the units of the file.
        values: whose names both know.
        feeds: inputs.
        threads: of one operator.
    """
    wanted = sorted(set(values))
    exact, file = onnx.ModelProto(), simulated(written)
    exact.CopyFrom(reference)
    for model in (exact, file):
        declared = {value.name for value in model.graph.output}
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in wanted
            if name not in declared
        )
    graph = Float64Graph(exact)
    session = open_session(file.SerializeToString(deterministic=True), threads=threads, optimized=False)
    signal, noise = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, 0.0)
    for feed in feeds:
        expected = graph.evaluate(feed)
        for name, value in zip(wanted, session.run(wanted, dict(feed)), strict=True):
            signal[name] += float((expected[name] ** 2).sum())
            noise[name] += float(((expected[name] - value.astype(np.float64)) ** 2).sum())
    return {name: sqnr_db(signal[name], noise[name]) for name in wanted if signal[name] or noise[name]}
