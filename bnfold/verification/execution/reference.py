"""What a file is compared with: the source in float64, and the source's own executions in its own precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx

    from bnfold.graph.float64 import Float64Graph
    from bnfold.records import Coverage
    from bnfold.verification.data.input_facts import InputFacts

__all__ = ["EVALUATOR", "Arrays", "Reference"]

Arrays = dict[str, "np.ndarray"]
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
    def n_own(self) -> int:
        """How many of `executions32`, from the first, are the source's own; the others are of what was made of it."""

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
