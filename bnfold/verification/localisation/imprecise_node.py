"""Where the execution of a file, and not the file, loses precision: its first node that does.

The file is run in ONNX Runtime with every value an output, and each node is evaluated in float64 on what it read there:

    distance = run - float64,     rounding = float64 of x (1 + u r), w (1 + u r), times (1 + u r), - float64,

r uniform on [-1, 1] and new for every number. A node that is executed in its own precision stays within
K_ORDER sqrt(1 + K) times the rounding, as root mean square and as maximum: the criterion for whole files
(`bnfold.verification.checks.criterion`), with K the longest sum that the node can have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.inlined import inlined
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.numerics.error_bounds import PooledError
from bnfold.records import Departure
from bnfold.verification.checks.criterion import K_ORDER
from bnfold.verification.data.precision import accumulation_length, logistic_error
from bnfold.verification.execution.plain_session import plain_session
from bnfold.verification.localisation.float64_nodes import Arrays, Nodes, widened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from onnx import NodeProto

    from bnfold.runtime import Provider
    from bnfold.verification.data.feeds import Feed

__all__ = ["EXECUTION", "Executed", "localise_execution"]

EXECUTION = "the same layer in float64"


@dataclass(frozen=True)
class Executed:
    """The departure, the node with what it read, and the file, functions inlined."""

    departure: Departure
    node: NodeProto
    reads: Arrays
    candidate: onnx.ModelProto


def localise_execution(
    candidate: onnx.ModelProto,
    plain: onnx.ModelProto,
    feeds: Iterable[Feed],
    *,
    u: float,
    seed: int,
    provider: Provider = "cpu",
    threads: int | None = None,
) -> Executed | None:
    """Name the first node that is executed with less precision than its type has, graph optimizations off.

    Args:
        candidate: the file, external data loaded.
        plain: the unfolded graph of its source, for the user's names.
        feeds: inputs to run, tried in order until one shows a divergence.
        u: unit roundoff of the format that the file stores.
        seed: of the roundings.
        provider: that the file runs on.
        threads: of one operator in ONNX Runtime.

    Returns:
        The departure; None if every node is as precise as it can be.

    Raises:
        InputRefused: an operator has no float64 meaning, or ONNX Runtime does not load the graph.
    """
    candidate = inlined(candidate)
    run = _EveryValue(candidate, provider, threads)
    judge = _Judge(Nodes(candidate), u, np.random.default_rng(seed))
    for feed in feeds:
        values = {**feed.arrays, **run(feed)}
        for node in judge.nodes.nodes:
            wanted = judge.nodes.reads(node)
            reads = {name: values[name] for name in wanted if name in values}
            if len(reads) < len(wanted):
                continue  # a sequence, say
            error = judge.excess(node, reads, values)
            if error is not None:
                departure = Departure(_layer(node, plain), node.op_type, node.output[0], error, 0.0, EXECUTION)
                return Executed(departure, node, reads, candidate)
    return None


class _EveryValue:
    """The graph in ONNX Runtime, graph optimizations off, with every value an output."""

    def __init__(self, model: onnx.ModelProto, provider: Provider, threads: int | None) -> None:
        known = {value.name for value in model.graph.output}
        names = [name for node in model.graph.node for name in node.output if name and name not in known]
        n_outputs = len(model.graph.output)
        model.graph.output.extend(map(helper.make_empty_tensor_value_info, names))
        try:
            self._session = plain_session(model, provider=provider, threads=threads)
        finally:
            del model.graph.output[n_outputs:]
        self._names = [value.name for value in self._session.get_outputs()]
        self._inputs = {value.name for value in self._session.get_inputs()}

    def __call__(self, feed: Feed) -> Arrays:
        try:
            got: list[Any] = self._session.run(
                None, {name: array for name, array in feed.arrays.items() if name in self._inputs}
            )
        except Exception as error:
            raise InputRefused("the file does not run", where=str(feed), found=" ".join(str(error).split())) from error
        return {name: value for name, value in zip(self._names, got, strict=True) if isinstance(value, np.ndarray)}


@dataclass(frozen=True)
class _Judge:
    """The nodes in float64, and what rounds them: the unit roundoff of their format, and a generator."""

    nodes: Nodes
    u: float
    generator: np.random.Generator

    def excess(self, node: NodeProto, reads: Mapping[str, np.ndarray], values: Arrays) -> float | None:
        """The error of a node's first output that lies too far off, relative to its size; None if none does.

        What float64 needs and the file has not, such as a cast, is added to `values`.
        """
        wide = widened(reads)
        exact = self.nodes.run(node, wide)
        moved = self.nodes.run(node, self._moved({**self.nodes.parameters(node), **wide}))
        for name, value in exact.items():
            if name not in values:
                values[name] = value
            elif value.dtype.kind == "f":
                distance, rounding, size = PooledError(), PooledError(), PooledError()
                distance.add(widened({name: values[name]})[name] - value)
                rounding.add(self._moved({name: moved[name]})[name] - value)
                size.add(value)
                allowed = K_ORDER * math.sqrt(1 + self._longest_sum(node, wide, value))
                least = logistic_error(self.u) if kind_of(node) == op.Sigmoid else 0.0
                if any(
                    getattr(distance, kind) > allowed * getattr(rounding, kind) + least for kind in ("rms", "maximum")
                ):
                    return distance.rms / size.rms if size.rms else math.inf
        return None

    def _moved(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Numbers of floating point rounded at random."""
        return {
            name: array * (1 + self.u * self.generator.uniform(-1, 1, array.shape))
            if array.dtype.kind == "f"
            else array
            for name, array in arrays.items()
        }

    def _longest_sum(self, node: NodeProto, reads: Arrays, output: np.ndarray) -> int:
        """The most terms that one output can add up: those of its weights, an axis of its inputs, or all of them."""
        shapes = {name: self.nodes.constants[name].shape for name in node.input if name in self.nodes.constants}
        axes = [int(length) for array in reads.values() for length in array.shape]
        ratios = [int(array.size) // max(output.size, 1) for array in reads.values()]
        return max(accumulation_length(node, shapes), *axes, *ratios, 1)


def _layer(node: NodeProto, plain: onnx.ModelProto) -> str:
    """The layer of the source that writes the value of this name, else the one that the file's node is named by."""
    for value in (value for other in ir.from_proto(plain).graph for value in other.outputs):
        producer = value.producer()
        if value.name == node.output[0] and producer is not None:
            return layer_name(producer)
    return node.name.rpartition("/")[0] or layer_name(ir.serde.deserialize_node(node))
