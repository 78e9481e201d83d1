"""Whether a session computes what the default one does: bit for bit, or as near to float64 as right files come."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.offline import open_deployed
from bnfold.errors import BnfoldError, InputRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records.tuning import SessionSettings

__all__ = ["SameNumbers"]

SCALES = (1.0, 1e-3, 1e-38)
"""Of the inputs that bits are compared on; the last leaves float32's normal numbers, which a session may take for 0."""


@dataclasses.dataclass
class SameNumbers:
    """Judges sessions of one file, each once.

    Attributes:
        file: the file.
        default: the session whose numbers are right.
        inputs: values by name, as the file is timed on.
        samples: real inputs to compare on, see `bnfold.sources.user_inputs`; None for random ones.
        source_options: how the file is read as a source: `input_shapes`, `dims`.
        batch: that the file is tuned for.
        seed: of random inputs.
    """

    file: Path
    default: SessionSettings
    inputs: Mapping[str, Any]
    samples: Path | None
    source_options: Mapping[str, Any]
    batch: int
    seed: int
    _known: dict[str, str | None] = dataclasses.field(default_factory=dict)
    _right: list[list[bytes]] | None = None

    def refusal(self, settings: SessionSettings) -> str | None:
        """Why the numbers of a session are not taken; None where they are."""
        name = settings.name(self.default)
        if name not in self._known:
            try:
                self._known[name] = self._refusal(settings)
            except BnfoldError as error:
                self._known[name] = f"its numbers are not proven: {error}"
        return self._known[name]

    def _refusal(self, settings: SessionSettings) -> str | None:
        if self._right is None:
            self._right = self._answers(self.default)
        if self._answers(settings) == self._right:
            return None
        return self._by_criterion(settings)

    def _answers(self, settings: SessionSettings) -> list[list[bytes]]:
        """The bits of every output on every input."""
        session = open_deployed(self.file, settings)
        try:
            return [[np.asarray(output).tobytes() for output in session.run(None, feed)] for feed in self._feeds()]
        except Exception as error:
            raise InputRefused(
                "ONNX Runtime does not run it", where=str(self.file), found=str(error), remedy="leave the option out"
            ) from error

    def _feeds(self) -> list[dict[str, Any]]:
        def scaled(value: Any, scale: float) -> Any:
            return value * value.dtype.type(scale) if value.dtype.kind == "f" else value

        return [{name: scaled(value, scale) for name, value in self.inputs.items()} for scale in SCALES]

    def _by_criterion(self, settings: SessionSettings) -> str | None:
        """By `bnfold verify`'s: `E_out <= max(k E_src, bound)`, the file in float64 being the answer."""
        from bnfold.export import plain_graph
        from bnfold.sources.user_inputs import with_inputs
        from bnfold.verification import reference_for
        from bnfold.verification.checks.comparison import Compared, compare
        from bnfold.verification.execution.candidate import Candidate
        from bnfold.verification.execution.deployment import Deployment
        from bnfold.verification.execution.settled_sizes import settled
        from bnfold.workflows.networks import loaded_network
        from bnfold.workflows.session_files import offline_file

        source = settled(with_inputs(loaded_network(self.file, **self.source_options), self.samples))
        with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
            deployment = Deployment(settings, offline_file(self.file, settings, Path(folder)))
            candidate = Candidate.opened(
                self.file, provider=settings.provider, threads=settings.threads, deployment=deployment
            )
            found = compare(
                candidate, reference_for(source, plain_graph(source)), source.inputs, samples=source.samples,
                batches=_batches(source.inputs, self.batch), seed=self.seed, extent="few",
            )  # fmt: skip
        if not isinstance(found, Compared):
            raise found.refusal()
        failure = found.failure()
        return None if failure is None else f"its numbers leave the proof: {failure}"


def _batches(inputs: Sequence[Any], batch: int) -> tuple[int, ...]:
    return (batch,) if any(spec.batch_dynamic for spec in inputs) else ()
