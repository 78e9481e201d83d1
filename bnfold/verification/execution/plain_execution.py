"""The unfolded graph of a source in ONNX Runtime, opened when it is asked and closed when told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from bnfold.errors import InputRefused
from bnfold.runtime.memory import give_back_memory
from bnfold.verification.execution.channel_activity import Activity, watched
from bnfold.verification.execution.plain_session import plain_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx_ir as ir
    from onnx import TensorProto

__all__ = ["PlainExecution", "as_proto"]

Arrays = dict[str, "np.ndarray"]


def as_proto(model: onnx.ModelProto | ir.Model) -> onnx.ModelProto:
    """The graph itself, or a copy of an `ir.Model` with its parameters."""
    import onnx_ir as ir

    return ir.to_proto(model) if isinstance(model, ir.Model) else model


def stored_tensors(model: onnx.ModelProto | ir.Model) -> dict[str, TensorProto | ir.TensorProtocol]:
    """The initializers of a graph where they lie, by name."""
    if isinstance(model, onnx.ModelProto):
        return {tensor.name: tensor for tensor in model.graph.initializer}
    values = model.graph.initializers
    return {name: value.const_value for name, value in values.items() if value.const_value is not None}


class PlainExecution:
    """The unfolded graph on the CPU.

    Attributes:
        activity: of its channels, over everything it has run on; of none where it is optimized.
        has_run: whether it has.

    Args:
        model: the graph; changed for the moment in which it is opened.
        optimized: whether with the graph optimizations of a deployed file, else with none.
    """

    def __init__(self, model: onnx.ModelProto | ir.Model, *, optimized: bool = False) -> None:
        self._model = model
        self._optimized = optimized
        self._session: Any = None
        self.activity = Activity(())
        self.has_run = False

    def run(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """Outputs by name for inputs by name.

        Raises:
            InputRefused: ONNX Runtime does not load the graph, or does not run it.
        """
        if self._session is None:
            self._open()
        names = [output.name for output in self._session.get_outputs()]
        try:
            outputs = self._session.run(None, dict(feed))
        except Exception as error:
            raise InputRefused(
                "the unfolded graph does not run in ONNX Runtime",
                where=", ".join(f"{name} {array.shape}" for name, array in feed.items()),
                found=str(error),
                remedy="fix the batch dimension if the network works at one batch only",
            ) from error
        self.has_run = True
        return self.activity.take(dict(zip(names, outputs, strict=True)))

    def close(self) -> None:
        """Give the session's memory back; the next run opens it again."""
        self._session = None
        give_back_memory()

    def _open(self) -> None:
        plain = as_proto(self._model)
        if self._optimized:
            self._session = plain_session(plain, optimized=True)
            return
        with watched(plain) as activity:
            self._session = plain_session(plain)
        if not self.activity.layers:  # opened again, what has been active stays so
            self.activity = activity
