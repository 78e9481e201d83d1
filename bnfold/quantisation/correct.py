"""Sequential bias correction: what a layer is off by on average, in the quantised network, goes into its bias.

    correction_c = mean(W * x)_c - mean(W_q * x_q)_c

over samples and positions, where x_q comes from the layers in front, corrected already, so that later layers make up
for what earlier ones lose too. A layer is linear: the mean of what it writes is what it writes for the mean sample, so
one sample has to be computed for each layer, in float64. (Nagel et al. 2019, Data-Free Quantization, section 4.2, takes
x_q = x from the BatchNorms; Finkelstein et al. 2019 measure it.)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant, operand
from bnfold.graph.float64 import evaluate
from bnfold.quantisation.digits import digits_of
from bnfold.quantisation.grids import integer_bias
from bnfold.quantisation.operators import WEIGHTED, channel_axis
from bnfold.quantisation.samples import batches
from bnfold.quantisation.steps import StepRunner
from bnfold.quantisation.stored import store_bias, weight_name
from bnfold.quantisation.write import write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.quantisation.calibrate import Observed
    from bnfold.quantisation.write import Written
    from bnfold.records import InputSpec
    from bnfold.records.recipes import Recipe

__all__ = ["bias_corrections", "corrected_inputs", "samples_that_fit"]

OPSET = 13  # Conv and Gemm mean the same from 11 on
BATCH = 8  # samples at a time
LIVE_BYTES = 768 * 2**20
log = logging.getLogger("bnfold.quantisation")


def corrected_inputs(model: ir.Model, recipe: Recipe) -> dict[str, str]:
    """The value that each layer which can be corrected reads, by the name of its node."""
    nodes = {str(node.name): node for node in model.graph}
    return {
        plan.name: str(operand(nodes[plan.name]).name)
        for plan in recipe.nodes
        if plan.op in WEIGHTED and plan.op != op.MatMul
    }


def samples_that_fit(
    model: ir.Model, recipe: Recipe, samples: Mapping[str, np.ndarray], inputs: Sequence[InputSpec], threads: int | None
) -> int:
    """How many samples can be live at once, between the steps of the quantised graph, within LIVE_BYTES."""
    n = len(next(iter(samples.values())))
    first = {name: array[:1] for name, array in samples.items()}
    written = write(model.clone(), recipe)
    runner = StepRunner(written, batches(first, inputs, 1), threads=threads)
    for step in written.steps:
        runner.run(step)
    rows = next((spec.fixed_batch for spec in inputs if spec.fixed_batch), 1)
    return int(max(1, min(n, LIVE_BYTES * rows // max(1, runner.peak_bytes))))


def bias_corrections(
    model: ir.Model,
    recipe: Recipe,
    samples: Mapping[str, np.ndarray],
    inputs: Sequence[InputSpec],
    observed: Mapping[str, Observed],
    *,
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """What is added to the bias of each layer in integers, in real units, one number for each output channel.

    Args:
        model: the prepared float graph; unchanged.
        recipe: without corrections.
        samples: arrays by input name, samples first, as `observed` has the means of.
        inputs: of the graph.
        observed: with the mean of what each layer reads; one without is not corrected.
        threads: of one operator.
    """
    written = write(model.clone(), recipe)
    runner = StepRunner(written, batches(samples, inputs, BATCH), threads=threads)
    reads = corrected_inputs(model, recipe)
    nodes = {str(node.name): node for node in model.graph}
    corrections: dict[str, np.ndarray] = {}
    for step in written.steps:
        source = reads.get(step.name)
        mean = None if source is None else observed[source].mean
        if source is not None and mean is not None:
            found = _correction(nodes[step.name], written, runner, source, mean)
            if found is not None:
                corrections[step.name] = found
        runner.run(step)
    return corrections


def _correction(
    node: ir.Node, written: Written, runner: StepRunner, source: str, mean: np.ndarray
) -> np.ndarray | None:
    """The correction of one layer, which also goes into the graph that runs."""
    graph, name = written.model.graph, str(node.name)
    grid = written.grids[source]
    seen = _mean_of(runner, written.integers[source])
    if seen is None or seen.shape != mean.shape:
        return None
    weight, offset, axis = digits_of(node, 1), digits_of(node, 2), channel_axis(node)
    if weight is None:
        raise ValueError(f"the weight of {name} is not constant")
    stored_scale = _stored(graph, f"{name}/weight/scale")
    scale = stored_scale.astype(np.float64)
    steps = scale.reshape([-1 if k == axis else 1 for k in range(weight.ndim)]) if scale.ndim else scale
    integers = _stored(graph, weight_name(name)).astype(np.float64)
    channels = weight.shape[axis]
    bias = np.zeros(channels) if offset is None else offset
    x_q = (seen - int(grid.zero_point)) * np.float64(grid.scale)
    found: np.ndarray = _layer_mean(node, mean, weight) - _layer_mean(node, x_q, integers * steps)
    values, _ = integer_bias(bias + found, grid.scale, stored_scale)
    store_bias(graph, name, np.broadcast_to(values, (channels,)))
    return found


def _stored(graph: ir.Graph, name: str) -> np.ndarray:
    array = constant(graph.initializers[name])
    if array is None:
        raise ValueError(f"{name} is no constant")
    return array


def _mean_of(runner: StepRunner, name: str) -> np.ndarray | None:
    """The mean sample of stored integers, (1, ...) in float64; None where samples have different shapes."""
    shapes = {batch[name].shape[1:] for batch in runner.live}
    if len(shapes) > 1:
        return None
    total = sum(batch[name].sum(axis=0, keepdims=True, dtype=np.float64) for batch in runner.live)
    return np.asarray(total / sum(len(batch[name]) for batch in runner.live))


def _layer_mean(node: ir.Node, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The mean over positions of what a layer without bias writes for one sample, by output channel."""
    proto = ir.to_proto(node)
    del proto.input[:]
    proto.input.extend(["x", "w"])
    del proto.output[:]
    proto.output.append("y")
    kinds = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in "xwy"]
    graph = onnx.helper.make_graph([proto], "layer", kinds[:2], kinds[2:])
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    y = evaluate(onnx.helper.make_model(graph, opset_imports=opsets), {"x": x, "w": w})["y"]
    return np.asarray(y.mean(axis=(0, *range(2, y.ndim))))
