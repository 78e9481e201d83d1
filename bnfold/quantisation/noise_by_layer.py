"""How much noise at the outputs each layer makes in integers: one at a time, everything else in float.

    noise = sum_samples |y(v + e) - y|^2 / sum_samples |y|^2

    e = q(v) - v             of a value v that is stored in integers
    e = (W_q - W) x          of a layer with an integer weight, v = W x + b

The mean of e by channel is left out: the correction of biases takes it away. Errors of different places are nearly
independent, so that their noise adds up. The float graph runs once for each place and sample, with e as an input there.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant
from bnfold.quantisation.digits import digits_of
from bnfold.quantisation.operators import WEIGHTED, channel_axis
from bnfold.quantisation.samples import batches
from bnfold.quantisation.stored import weight_name
from bnfold.quantisation.write import write
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from bnfold.quantisation.grids import Grid
    from bnfold.quantisation.write import Written
    from bnfold.records import InputSpec
    from bnfold.records.recipes import Recipe

__all__ = ["NoiseByLayer", "noise_by_layer"]

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class NoiseByLayer:
    """Noise over signal at the outputs, summed over these.

    Attributes:
        values: of a value stored in integers, by its name.
        weights: of a layer with an integer weight, by the name of its node.
    """

    values: Mapping[str, float]
    weights: Mapping[str, float]

    def times(self, factor: float) -> NoiseByLayer:
        """All of them by a factor."""
        scaled = ({name: factor * own for name, own in each.items()} for each in (self.values, self.weights))
        return NoiseByLayer(*scaled)


def noise_by_layer(
    model: ir.Model,
    recipe: Recipe,
    samples: Mapping[str, Array],
    inputs: Sequence[InputSpec],
    *,
    threads: int | None = None,
) -> NoiseByLayer:
    """Measure the noise of every value and layer that a recipe has in integers.

    Args:
        model: the prepared float graph; unchanged.
        recipe: with the ranges of values.
        samples: a few, by input name, samples first; all of them and their values are in memory at once.
        inputs: of the graph.
        threads: of one operator.
    """
    written = write(model.clone(), recipe)
    nodes = {str(node.name): node for node in model.graph}
    layers = [nodes[plan.name] for plan in recipe.nodes if plan.op in WEIGHTED]
    places = [*recipe.ranges, *(str(node.outputs[0].name) for node in layers)]
    network = _Network(model, places, [str(node.inputs[0].name) for node in layers if node.inputs[0]], threads)
    runs = [network.exact(feed) for feed in batches(samples, inputs, 1)]
    values = {
        name: network.noise(runs, name, [_rounding(run.values[name], written.grids[name]) for run in runs])
        for name in recipe.ranges
    }
    weights = {
        str(node.name): network.noise(runs, str(node.outputs[0].name), _weight_errors(node, written, runs, threads))
        for node in layers
    }
    return NoiseByLayer(values, weights)


@dataclasses.dataclass(frozen=True)
class _Run:
    """A feed, the values that are asked for, and the float outputs."""

    feed: Mapping[str, Array]
    values: Mapping[str, Array]
    outputs: Sequence[Array]


class _Network:
    """A float graph that takes an error for each of some values, and adds it.

    Args:
        model: the graph; unchanged.
        places: names of its values that errors are added to.
        read: names of others that are asked for.
        threads: of one operator.
    """

    def __init__(self, model: ir.Model, places: Sequence[str], read: Sequence[str], threads: int | None) -> None:
        proto = ir.to_proto(model)
        del proto.graph.value_info[:]
        fed = {value.name for value in proto.graph.input}
        self._outputs = [value.name for value in proto.graph.output]
        self._places = sorted(set(places) - fed)
        self._wanted = sorted({*places, *read} - fed)
        copies = [_adding(node, set(self._places)) for node in proto.graph.node]
        del proto.graph.node[:]
        proto.graph.node.extend(each for copy in copies for each in copy)
        kind = onnx.TensorProto.FLOAT
        proto.graph.input.extend(
            onnx.helper.make_tensor_value_info(_error_name(name), kind, None) for name in self._places
        )
        bare: bytes = proto.SerializeToString(deterministic=True)
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._wanted if name not in self._outputs)
        self._session = open_session(bare, threads=threads)
        self._seeing: Any = open_session(proto.SerializeToString(deterministic=True), threads=threads)

    def exact(self, feed: Mapping[str, Array]) -> _Run:
        """A run without errors."""
        names = list(dict.fromkeys([*self._wanted, *self._outputs]))
        found = dict(zip(names, self._seeing.run(names, self._with_errors(feed, {})), strict=True))
        values = {**{name: found[name] for name in self._wanted}, **feed}
        return _Run(feed, values, self._session.run(self._outputs, self._with_errors(feed, {})))

    def noise(self, runs: Sequence[_Run], place: str, errors: Sequence[Array]) -> float:
        """The noise that errors of a value make, relative to each output, summed over outputs."""
        mean = _channel_mean(errors)
        signal, noise = np.zeros(len(self._outputs)), np.zeros(len(self._outputs))
        for run, error in zip(runs, errors, strict=True):
            own = (error - mean).astype(np.float32)
            feed = {**run.feed, place: run.feed[place] + own} if place in run.feed else run.feed
            found = self._session.run(self._outputs, self._with_errors(feed, {place: own}))
            for k, (y, exact) in enumerate(zip(found, run.outputs, strict=True)):
                if exact.dtype.kind == "f":
                    signal[k] += float((exact.astype(np.float64) ** 2).sum())
                    noise[k] += float(((y.astype(np.float64) - exact) ** 2).sum())
        return float((noise[signal > 0] / signal[signal > 0]).sum())

    def _with_errors(self, feed: Mapping[str, Array], errors: Mapping[str, Array]) -> dict[str, Array]:
        nothing = np.zeros(1, np.float32)
        return {**feed, **{_error_name(name): errors.get(name, nothing) for name in self._places}}


def _error_name(value: str) -> str:
    return f"{value}/error"


def _adding(node: onnx.NodeProto, places: set[str]) -> list[onnx.NodeProto]:
    """The node, and behind it an addition for each output that an error is added to."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    added = []
    for k, name in enumerate(node.output):
        if name in places:
            copy.output[k] = f"{name}/exact"
            added.append(onnx.helper.make_node(op.Add, [copy.output[k], _error_name(name)], [name]))
    return [copy, *added]


def _rounding(value: Array, grid: Grid) -> Array:
    ends = np.iinfo(grid.zero_point.dtype)
    scale, zero = np.float64(grid.scale), int(grid.zero_point)
    return np.asarray((np.clip(np.rint(value / scale) + zero, ends.min, ends.max) - zero) * scale - value)


def _weight_errors(node: ir.Node, written: Written, runs: Sequence[_Run], threads: int | None) -> list[Array]:
    """(W_q - W) x of a layer on every run."""
    weight, axis, name = digits_of(node, 1), channel_axis(node), str(node.name)
    stored = (constant(written.model.graph.initializers[each]) for each in (weight_name(name), f"{name}/weight/scale"))
    integers, scale = (np.asarray(each, np.float64) for each in stored)
    if weight is None or node.inputs[0] is None:
        raise ValueError(f"the weight of {name} is not constant")
    steps = scale.reshape([-1 if k == axis else 1 for k in range(weight.ndim)]) if scale.ndim else scale
    proto = ir.to_proto(node)
    del proto.input[:], proto.output[:]
    proto.input.extend(["x", "w"])
    proto.output.append("y")
    x, y = (onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None) for each in "xy")
    constants = [onnx.numpy_helper.from_array((integers * steps - weight).astype(np.float32), "w")]
    graph = onnx.helper.make_graph([proto], "layer", [x], [y], constants)
    opsets = [onnx.helper.make_opsetid("", node.version or 13)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = open_session(model.SerializeToString(), threads=threads)
    return [session.run(None, {"x": run.values[str(node.inputs[0].name)]})[0] for run in runs]


def _channel_mean(errors: Sequence[Array]) -> Array | float:
    """The mean over samples and positions, by channel; 0 where shapes differ from sample to sample."""
    if len({error.shape for error in errors}) > 1 or errors[0].ndim < 2:
        return 0.0
    axes = (0, *range(2, errors[0].ndim))
    return np.asarray(np.mean([error.mean(axis=axes, keepdims=True, dtype=np.float64) for error in errors], axis=0))
