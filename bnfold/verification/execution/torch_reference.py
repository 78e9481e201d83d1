"""A PyTorch module as the source: evaluated in float64 on a copy, and executed as it is and as its plain graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.verification.data.input_facts import input_facts
from bnfold.verification.execution.plain_execution import PlainExecution, as_proto
from bnfold.verification.execution.reference import EVALUATOR, Arrays
from bnfold.verification.execution.torch_float64 import in_float64, sharing_copy, stored_format, to_array, to_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnx
    import onnx_ir as ir
    import torch

    from bnfold.records import Coverage
    from bnfold.verification.data.input_facts import InputFacts

__all__ = ["TorchReference"]


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
    n_own = 1

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
