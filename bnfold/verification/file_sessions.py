"""The file under test in ONNX Runtime, with graph optimizations off and as deployed: one session at a time.

A session holds the parameters once, and once more where it reorders them for its kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnfold.records import Execution
from bnfold.runtime.memory import give_back_memory
from bnfold.verification.kinds import Declared, Unequal
from bnfold.verification.plain_session import frugal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bnfold.verification.inputs import Feed

__all__ = ["AS_WRITTEN", "DEPLOYED", "FileSessions"]

DEPLOYED, AS_WRITTEN = "graph optimizations as deployed", "graph optimizations off"
OPTIMIZATIONS = {AS_WRITTEN: "off", DEPLOYED: "all"}


class FileSessions:
    """A file, opened when it is asked and closed again.

    Attributes:
        providers: that the file runs on.
        inputs, outputs: by name, in order, as ONNX Runtime declares them.

    Args:
        candidate: the file.
        provider: that it runs on.
        threads: of one operator; None for all that this process may use.

    Raises:
        InputRefused: ONNX Runtime does not load it.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """

    def __init__(self, candidate: Path, *, provider: Literal["cpu", "cuda"], threads: int | None) -> None:
        self._candidate = candidate
        self._provider: Literal["cpu", "cuda"] = provider
        self._threads = threads
        self._executions: dict[str, Execution] = {}
        session = self._opened(AS_WRITTEN)  # the less work of the two
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.inputs = {value.name: Declared.copied(value) for value in session.get_inputs()}
        self.outputs = {value.name: Declared.copied(value) for value in session.get_outputs()}
        del session
        give_back_memory()

    def _opened(self, label: str) -> Any:
        from bnfold.runtime import open_session
        from bnfold.runtime.placement import node_counts, rounds_to_tf32, without_tf32

        give_back_memory()
        session = open_session(
            self._candidate,
            provider=self._provider,
            threads=self._threads,
            optimized=label == DEPLOYED,
            provider_options=without_tf32(self._provider),
            configure=_configure,
        )
        self._executions[label] = Execution(OPTIMIZATIONS[label], node_counts(session), rounds_to_tf32(session))
        return session

    def executions(self) -> tuple[Execution, ...]:
        """Where the nodes of each session run, and with which arithmetic."""
        for label in OPTIMIZATIONS:
            if label not in self._executions:
                self._opened(label)
        return tuple(self._executions[label] for label in OPTIMIZATIONS)

    def run(self, label: str, feeds: Iterable[Feed]) -> Iterator[tuple[Feed, dict[str, np.ndarray]]]:
        """Open the file, run it on each feed, and close it.

        Raises:
            Unequal: it does not run.
            InputRefused: ONNX Runtime does not load it.
        """
        session = self._opened(label)
        try:
            for feed in feeds:
                yield feed, dict(zip(self.outputs, _run(session, self._taken(feed), feed, label), strict=True))
        finally:
            del session
            give_back_memory()

    def _taken(self, feed: Feed) -> dict[str, np.ndarray]:
        """The arrays that the file has inputs for."""
        return {name: array for name, array in feed.arrays.items() if name in self.inputs}


def _run(session: Any, arrays: dict[str, np.ndarray], feed: Feed, label: str) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, arrays)
    except Exception as error:
        raise Unequal(f"the file does not run on {feed} ({label}): {' '.join(str(error).split())}") from error
    return outputs


def _configure(options: Any) -> None:
    from bnfold.runtime.placement import record_placement

    record_placement(options)
    frugal(options)
