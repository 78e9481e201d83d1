"""The file under test in ONNX Runtime, with graph optimizations off and as deployed: one session at a time.

A session holds the parameters once, and once more where it reorders them for its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bnfold.records import Execution
from bnfold.runtime.memory import give_back_memory
from bnfold.verification.execution.plain_session import frugal, try_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from bnfold.runtime import Provider
    from bnfold.verification.data.feeds import Feed
    from bnfold.verification.execution.answers import Answer
    from bnfold.verification.execution.deployment import Deployment

__all__ = ["AS_WRITTEN", "DEPLOYED", "Declared", "FileRun", "FileSessions"]

DEPLOYED, AS_WRITTEN = "graph optimizations as deployed", "graph optimizations off"
OPTIMIZATIONS = {AS_WRITTEN: "off", DEPLOYED: "all"}


@dataclass(frozen=True)
class Declared:
    """An input or output of a session: its type, "tensor(float)" say, and its axes, names or None where dynamic."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    @classmethod
    def copied(cls, value: Any) -> Self:
        """From a `NodeArg`, which would keep its session, and the parameters in it, alive."""
        return cls(value.name, value.type, tuple(value.shape))


@dataclass(frozen=True)
class FileRun:
    """The file on one feed: outputs by name, or what ONNX Runtime says where it does not run; and the source's answer.

    `label` says with which graph optimizations.
    """

    label: str
    feed: Feed
    outputs: dict[str, Any] | str
    answer: Answer


class FileSessions:
    """A file, opened when it is asked and closed again.

    Attributes:
        providers: that the file runs on.
        inputs, outputs: by name, in order, as ONNX Runtime declares them.
        provider: that it is opened with, and
        threads: those of one operator.

    Args:
        candidate: the file.
        provider: that it runs on.
        threads: of one operator; None for all that this process may use.
        deployment: the session that is deployed, None for bnfold's own.

    Raises:
        InputRefused: ONNX Runtime does not load it.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """

    def __init__(
        self, candidate: Path, *, provider: Provider, threads: int | None, deployment: Deployment | None = None
    ) -> None:
        self._candidate = candidate
        self._deployment = deployment
        self.provider: Provider = provider
        self.threads = threads
        self._executions: dict[str, Execution] = {}
        session = self._opened(AS_WRITTEN)  # the less work of the two
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.inputs = {value.name: Declared.copied(value) for value in session.get_inputs()}
        self.outputs = {value.name: Declared.copied(value) for value in session.get_outputs()}
        del session
        give_back_memory()

    def _opened(self, label: str) -> Any:
        from bnfold.runtime import open_session
        from bnfold.runtime.placement import node_counts, rounds_to_tf32

        give_back_memory()
        own = self._deployment if label == DEPLOYED else None
        level: str = OPTIMIZATIONS[label]
        if own is None:
            session = open_session(
                self._candidate, provider=self.provider, threads=self.threads, optimized=label == DEPLOYED, exact=True,
                configure=_configure,
            )  # fmt: skip
        else:
            level = own.settings.opt_level
            session = open_session(
                own.offline or self._candidate, provider=self.provider, threads=self.threads, settings=own.settings,
                configure=partial(_as_deployed, own),
            )  # fmt: skip
        self._executions[label] = Execution(level, node_counts(session), rounds_to_tf32(session))
        return session

    def executions(self) -> tuple[Execution, ...]:
        """Where the nodes of each session run, and with which arithmetic."""
        for label in OPTIMIZATIONS:
            if label not in self._executions:
                self._opened(label)
        return tuple(self._executions[label] for label in OPTIMIZATIONS)

    @property
    def declared_axes(self) -> dict[str, tuple[int | str | None, ...]]:
        """The axes of the inputs: numbers where they are fixed, names or None where they are dynamic."""
        return {name: value.shape for name, value in self.inputs.items()}

    def run(self, feeds: Callable[[], Iterable[Feed]], answers: Iterable[Answer]) -> Iterator[FileRun]:
        """Run the file on every feed that the source has answered, first as written, then as deployed.

        Args:
            feeds: makes them, once for each way of executing the file.
            answers: of the source, in the order of the feeds.

        Raises:
            InputRefused: ONNX Runtime does not load it.
        """
        for label in (AS_WRITTEN, DEPLOYED):
            for (feed, found), answer in zip(self._runs(label, feeds()), answers, strict=True):
                outputs = found if isinstance(found, str) else dict(zip(self.outputs, found, strict=True))
                yield FileRun(label, feed, outputs, answer)

    def _runs(self, label: str, feeds: Iterable[Feed]) -> Iterator[tuple[Feed, list[Any] | str]]:
        """Open the file, run it on each feed, and close it."""
        session = self._opened(label)
        try:
            for feed in feeds:
                yield feed, try_run(session, self._taken(feed))
        finally:
            del session
            give_back_memory()

    def _taken(self, feed: Feed) -> dict[str, np.ndarray]:
        """The arrays that the file has inputs for."""
        return {name: array for name, array in feed.arrays.items() if name in self.inputs}


def _as_deployed(deployment: Deployment, options: Any) -> None:
    from bnfold.runtime import require_onnxruntime
    from bnfold.runtime.placement import record_placement
    from bnfold.runtime.settings import set_graph_level

    settings = deployment.settings
    level = "disabled" if deployment.offline is not None else settings.opt_level
    set_graph_level(require_onnxruntime(settings.provider), options, level)
    record_placement(options)


def _configure(options: Any) -> None:
    from bnfold.runtime.placement import record_placement

    record_placement(options)
    frugal(options)
