"""The file under test: where it lies, how it is run, and how precisely it can compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bnfold.runtime.memory import give_back_memory, map_large_blocks
from bnfold.verification.data.precision import Precision
from bnfold.verification.execution.file_sessions import FileSessions

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from bnfold.runtime import Provider
    from bnfold.verification.execution.deployment import Deployment

__all__ = ["Candidate"]


@dataclass(frozen=True)
class Candidate:
    """A file that ONNX Runtime loads."""

    path: Path
    sessions: FileSessions
    precision: Precision

    @classmethod
    def opened(
        cls, path: Path, *, provider: Provider, threads: int | None, deployment: Deployment | None = None
    ) -> Self:
        """Open a file whose parameters nobody looks at.

        Raises:
            InputRefused: ONNX Runtime does not load it.
            EnvironmentNotReady: ONNX Runtime or the provider is missing.
        """
        import onnx

        sessions = _sessions(path, provider, threads, deployment)
        found = cls(path, sessions, Precision.of(onnx.load(path, load_external_data=False)))
        give_back_memory()
        return found

    @classmethod
    def read(
        cls, path: Path, *, provider: Provider, threads: int | None, deployment: Deployment | None = None
    ) -> tuple[Self, onnx.ModelProto]:
        """Open a file, and read it with its parameters.

        Raises:
            InputRefused: ONNX Runtime does not load it.
            EnvironmentNotReady: ONNX Runtime or the provider is missing.
        """
        sessions = _sessions(path, provider, threads, deployment)  # none of them open: one copy in memory
        model = _read(path)
        return cls(path, sessions, Precision.of(model)), model

    def model(self) -> onnx.ModelProto:
        """The file with its parameters, read again: it is not kept while others are in memory."""
        return _read(self.path)


def _sessions(path: Path, provider: Provider, threads: int | None, deployment: Deployment | None) -> FileSessions:
    map_large_blocks()
    return FileSessions(path, provider=provider, threads=threads, deployment=deployment)


def _read(path: Path) -> onnx.ModelProto:
    from bnfold.sources.external_data import load_with_data

    return load_with_data(path)
