"""An ONNX graph as the source: evaluated in float64, and executed by ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.verification.data.input_facts import input_facts
from bnfold.verification.data.precision import coarsest_format, quantizes
from bnfold.verification.execution.plain_execution import PlainExecution, as_proto, stored_tensors
from bnfold.verification.execution.reference import EVALUATOR, Arrays
from bnfold.verification.execution.roundings import moved_by_roundings, stored_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx
    import onnx_ir as ir

    from bnfold.records import Coverage
    from bnfold.verification.data.input_facts import InputFacts

__all__ = ["OnnxReference"]


class OnnxReference:
    """An ONNX graph, evaluated in float64 by ONNX's reference evaluator with faster operators of our own.

    A graph that quantises has jumps: where a quotient lies at a half, a rounding before it moves the result by a whole
    step, here in one execution and there in another. What the source itself loses by that is measured on more than one
    execution: without graph optimizations, as deployed, and in float64 with parameters moved and every result rounded.

    Args:
        model: the unfolded graph, external data loaded.

    Raises:
        InputRefused: the graph has an operator without a float64 meaning.
    """

    description = EVALUATOR
    is_file = True

    def __init__(self, model: onnx.ModelProto | ir.Model) -> None:
        self._model = model
        self._graph: Float64Graph | None = None
        self._runtime = PlainExecution(model)
        plain = self.plain
        self._deployed = PlainExecution(model, optimized=True) if quantizes(plain) else None
        if self._deployed is not None:
            self.description = f"{EVALUATOR}; it quantises, and a step that rounding flips is the source's own error"
        self.n_own = 1 if self._deployed is None else 2
        self.output_names = Float64Graph(plain).output_names
        self.input_facts: Mapping[str, InputFacts] = input_facts(plain)
        self.stored_format = coarsest_format(plain)

    @property
    def plain(self) -> onnx.ModelProto:
        """The graph."""
        return as_proto(self._model)

    @property
    def coverage(self) -> Coverage | None:
        """Of the graph in ONNX Runtime."""
        return self._runtime.activity.coverage()

    @property
    def graph64(self) -> Float64Graph:
        """The graph in float64."""
        if self._graph is None:
            self._graph = Float64Graph(self.plain, stored_tensors(self._model))
        return self._graph

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The graph in float64.

        Raises:
            InputRefused: it cannot be evaluated, or ONNX Runtime does not take these inputs either, and says so.
        """
        try:
            return self.graph64.evaluate(feed)
        except InputRefused:
            self._runtime.run(feed)
            raise

    def executions32(self, feed: Mapping[str, np.ndarray]) -> list[Arrays]:
        """The graph in ONNX Runtime, unoptimized; one that quantises in rounded float64 first, as deployed last.

        Raises:
            InputRefused: ONNX Runtime does not load it, or does not run it.
        """
        found = self._runtime.run(feed)
        if self._deployed is None:
            return [found]
        return [self._rounded(feed, found), found, self._deployed.run(feed)]

    def execution32(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The graph in ONNX Runtime, graph optimizations off.

        Raises:
            InputRefused: as `executions32`.
        """
        return self._runtime.run(feed)

    def _rounded(self, feed: Mapping[str, np.ndarray], kinds: Arrays) -> Arrays:
        """The graph in float64, parameters moved and results rounded as float32 does; the same for the same feed."""
        u, generator = unit_roundoff("float32"), np.random.default_rng(0)
        moved = dict(moved_by_roundings({**feed, **dict(stored_parameters(self.plain))}, u, generator))
        outputs = self.graph64.evaluate(moved, rounded_to=np.dtype(np.float32))
        return {name: array.astype(kinds[name].dtype) for name, array in outputs.items()}

    def release(self) -> None:
        """Close the session, and drop the copy of the parameters that is evaluated."""
        self._graph = None
        self._runtime.close()
        if self._deployed is not None:
            self._deployed.close()
