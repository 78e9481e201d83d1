"""A graph run one step after the other, each as a model of its own: what is stored between them is at hand.

A tensor is dropped after its last reader. Memory holds what is live for all samples, most of it as integers.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.graph.float64_values import reads
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np

    from bnfold.quantisation.write import Step, Written

__all__ = ["StepRunner"]

Batch = dict[str, "np.ndarray"]


class StepRunner:
    """The steps of a quantised graph, and what is live between them.

    Args:
        written: the graph; its initializers may change until a step that reads them runs.
        feeds: of the graph's inputs, one for each batch.
        threads: of one operator.

    Attributes:
        live: tensors by name, for each batch.
        peak_bytes: the most that was live at once.
    """

    def __init__(self, written: Written, feeds: Iterable[Mapping[str, np.ndarray]], *, threads: int | None) -> None:
        self._graph = written.model.graph
        self._header = _header(written.model)
        self._threads = threads
        self._known = {str(value.name) for value in self._graph.inputs}
        self._known |= {str(value.name) for node in self._graph for value in node.outputs}
        self._pending: Counter[str] = Counter()
        for step in written.steps:
            self._pending.update(self._reads(step))
        self.live: list[Batch] = [dict(feed) for feed in feeds]
        self.peak_bytes = 0

    def run(self, step: Step) -> None:
        """Run a step on every batch."""
        names = self._reads(step)
        inner = {str(value.name) for node in step.nodes for value in node.outputs if value.name}
        outputs = sorted(name for name in inner if self._pending[name])
        if outputs:
            session = open_session(self._model(step, names, outputs), threads=self._threads)
            for batch in self.live:
                found = session.run(outputs, {name: batch[name] for name in names})
                batch.update(zip(outputs, found, strict=True))
            self.peak_bytes = max(self.peak_bytes, sum(array.nbytes for batch in self.live for array in batch.values()))
        self._pending.subtract(names)
        for name in names:
            if not self._pending[name]:
                for batch in self.live:
                    batch.pop(name, None)

    def _reads(self, step: Step) -> list[str]:
        """What a step reads that is neither a constant nor its own, by its subgraphs too."""
        own = {str(value.name) for node in step.nodes for value in node.outputs}
        names = (name for node in step.nodes for name in reads(ir.to_proto(node)))
        return list(dict.fromkeys(name for name in names if name in self._known and name not in own))

    def _model(self, step: Step, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
        model = onnx.ModelProto()
        model.CopyFrom(self._header)
        graph = model.graph
        graph.name = "step"
        graph.node.extend(ir.to_proto(node) for node in step.nodes)
        needed = {name for node in graph.node for name in reads(node)}
        for name in sorted(needed):
            value = self._graph.initializers.get(name)
            if value is not None and value.const_value is not None:
                graph.initializer.append(ir.to_proto(value.const_value))
        for name in inputs:
            array = self.live[0][name]
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            sizes = list(array.shape) if array.dtype.kind in "iu" and array.ndim < 2 else [None] * array.ndim
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, sizes))  # lengths of shapes are read
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
        serialized: bytes = model.SerializeToString()
        return serialized


def _header(model: ir.Model) -> onnx.ModelProto:
    header = onnx.ModelProto(ir_version=model.ir_version)
    header.opset_import.extend(
        onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()
    )
    return header
