"""What a file is compared with: the source in float64, and the source's own executions in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.sources.types import Source, TorchSource
from bnfold.verification.disagreement import moved_by_roundings
from bnfold.verification.graph_facts import coarsest_format, input_facts, quantizes
from bnfold.verification.parameters import stored_parameters
from bnfold.verification.plain_execution import PlainExecution, as_proto, stored_tensors
from bnfold.verification.torch_float64 import in_float64, sharing_copy, stored_format, to_array, to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx
    import onnx_ir as ir
    import torch

    from bnfold.records import Coverage
    from bnfold.verification.inputs import InputFacts

__all__ = ["OnnxReference", "Reference", "TorchReference", "reference_for"]

Arrays = dict[str, np.ndarray]
EVALUATOR = "ONNX reference evaluator, float64"


class Reference(Protocol):
    """The source, as the comparison sees it. Feeds and results are arrays by name."""

    @property
    def description(self) -> str:
        """Who computed the float64 values, such as "PyTorch float64"."""

    @property
    def is_file(self) -> bool:
        """Whether the source is an `.onnx` file, and no network that somebody may have left in train mode."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the order that the file must have."""

    @property
    def input_facts(self) -> Mapping[str, InputFacts]:
        """What is known of the inputs; may be empty."""

    @property
    def plain(self) -> onnx.ModelProto | None:
        """The unfolded graph, None where there is none; made each time where the source does not hold it as such."""

    @property
    def stored_format(self) -> str:
        """The coarsest floating-point format of the source's parameters, "float32" say."""

    @property
    def coverage(self) -> Coverage | None:
        """The channels that the inputs of `executions32` have activated; None without an unfolded graph."""

    @property
    def graph64(self) -> Float64Graph | None:
        """The graph that `evaluate64` evaluates; None where PyTorch computes, or nothing does."""

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The source in float64."""

    def executions32(self, feed: Mapping[str, np.ndarray]) -> list[Arrays]:
        """The source in its own precision, once for each way of executing it."""

    def execution32(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The one of them that nothing but the source itself has a part in: PyTorch, or ONNX Runtime for a file."""

    def release(self) -> None:
        """Give back the memory of what the last calls have opened; the next one opens it again."""


def reference_for(source: Source, plain: onnx.ModelProto | ir.Model | None) -> Reference:
    """The reference of a source.

    Args:
        source: as loaded.
        plain: its unfolded ONNX graph; with it the source's executions in float32 include the one in ONNX Runtime
            without graph optimizations. An `ir.Model` is turned into a `ModelProto`, which is a copy of the parameters,
            only while one is read. None reads the graph of an `OnnxSource`.
    """
    if isinstance(source, TorchSource):
        return TorchReference(source.runnable, [spec.name for spec in source.inputs], source.output_names, plain)
    return OnnxReference(plain if plain is not None else source.model)


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
        """The graph in ONNX Runtime, graph optimizations off; of one that quantises the other executions, first.

        Raises:
            InputRefused: ONNX Runtime does not load it, or does not run it.
        """
        found = self._runtime.run(feed)
        if self._deployed is None:
            return [found]
        return [self._rounded(feed, found), self._deployed.run(feed), found]

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


class TorchReference:
    """A PyTorch module, evaluated in float64 on a copy; the module itself is left as it is.

    The copy shares the module's parameters, which are widened while their layer runs; where that fails, as with layers
    that read each other's parameters, it is a whole copy in float64. Where that does not run either, the plain ONNX
    graph is evaluated instead, and `description` says so.

    Args:
        module: in eval mode, on the CPU.
        input_names: in the order of `forward`.
        output_names: in the order of the flattened outputs.
        plain: the unfolded ONNX graph, or None where there is none.
    """

    is_file = False

    def __init__(
        self,
        module: torch.nn.Module,
        input_names: Sequence[str],
        output_names: Sequence[str],
        plain: onnx.ModelProto | ir.Model | None = None,
    ) -> None:
        self.description = "PyTorch float64"
        self.output_names = tuple(output_names)
        self.input_facts: Mapping[str, InputFacts] = {} if plain is None else input_facts(as_proto(plain))
        self.stored_format = stored_format(module)
        self._input_names = tuple(input_names)
        self._module = module
        self._wide: torch.nn.Module | None = sharing_copy(module)
        self._shares = True
        self._plain = plain
        self._graph: Float64Graph | None = None
        self._runtime = None if plain is None else PlainExecution(plain)

    @property
    def plain(self) -> onnx.ModelProto | None:
        """The exported graph, None where there is none."""
        return None if self._plain is None else as_proto(self._plain)

    @property
    def coverage(self) -> Coverage | None:
        """Of the plain graph in ONNX Runtime; None where it was not asked."""
        if self._runtime is None or not self._runtime.has_run:
            return None
        return self._runtime.activity.coverage()

    @property
    def graph64(self) -> Float64Graph | None:
        """The plain graph in float64, where PyTorch did not run."""
        return self._graph

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The copy in float64, or the plain graph in float64.

        Raises:
            InputRefused: neither runs in float64.
        """
        if self._wide is not None:
            try:
                with in_float64():
                    return self._call(self._wide, feed, wide=True)
            except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
                if self._shares:
                    self._wide, self._shares = sharing_copy(self._module, share=False).double(), False
                    return self.evaluate64(feed)
                self._use_graph(error)
        if self._graph is None:
            raise RuntimeError("evaluate64 has neither a module nor a graph")
        return self._graph.evaluate(feed)

    def executions32(self, feed: Mapping[str, np.ndarray]) -> list[Arrays]:
        """PyTorch in the module's own precision, and the plain graph in ONNX Runtime without graph optimizations."""
        executions = [self.execution32(feed)]
        if self._runtime is not None:
            executions.append(self._runtime.run(feed))
        return executions

    def execution32(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """PyTorch in the module's own precision."""
        return self._call(self._module, feed, wide=False)

    def release(self) -> None:
        """Close the session of the plain graph; the module stays, as it belongs to the source."""
        if self._runtime is not None:
            self._runtime.close()

    def _use_graph(self, error: Exception) -> None:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        plain = self.plain
        if plain is None:
            raise InputRefused(
                "the network does not run in float64",
                found=cause,
                remedy="remove what fixes the precision of its tensors",
            ) from error
        self._wide = None
        self._graph = Float64Graph(plain)
        self.description = f"{EVALUATOR}, since PyTorch did not run in float64 ({cause})"

    def _call(self, module: torch.nn.Module, feed: Mapping[str, np.ndarray], *, wide: bool) -> Arrays:
        import torch
        from torch.utils import _pytree as pytree

        tensors = [to_tensor(feed[name], wide=wide) for name in self._input_names]
        with torch.no_grad():
            leaves = pytree.tree_leaves(module(*tensors))
        outputs = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if len(outputs) != len(self.output_names):
            raise InputRefused(
                "the network returns another number of tensors than were exported",
                found=str(len(outputs)),
                expected=f"{len(self.output_names)} ({', '.join(self.output_names)})",
                remedy="return the same outputs for every input",
            )
        arrays = [to_array(output) for output in outputs]
        return dict(zip(self.output_names, arrays, strict=True))
