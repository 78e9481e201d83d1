"""The errors of every output, of the source and of the file, pooled over the feeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.verification.checks.batch_invariance import SOURCE, BatchInvariance
from bnfold.verification.checks.criterion import OutputErrors
from bnfold.verification.checks.interface import Difference, differing_kind
from bnfold.verification.data.precision import logistic_error
from bnfold.verification.execution.answers import is_finite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bnfold.numerics.error_bounds import PooledError
    from bnfold.verification.checks.parameter_errors import ParameterErrors
    from bnfold.verification.data.feeds import Feed
    from bnfold.verification.data.precision import Precision
    from bnfold.verification.execution.answers import Answer
    from bnfold.verification.execution.file_sessions import FileRun
    from bnfold.verification.execution.reference import Arrays, Reference
    from bnfold.verification.execution.source_runs import SourceRun

__all__ = ["NotFinite", "PooledErrors"]


@dataclass(frozen=True)
class NotFinite:
    """The source has no finite answer to a feed that was made up; others may be in its range."""

    output: str
    feed: str

    def refusal(self) -> InputRefused:
        """Of the source, where no range is left to try."""
        return InputRefused(
            "the source itself gives NaN or infinity, so that nothing can be compared",
            where=f"output {self.output}",
            found=f"non-finite values on {self.feed}",
            remedy="check its parameters and the range of its inputs",
        )


class PooledErrors:
    """First those of the source, feed by feed, then those of the file, in the same order.

    Attributes:
        outputs: by name, in the order of the source.
        rows: each that ran alone, against itself in a batch.
        coarser: unit roundoff of the file's format over that of the source's, at least 1.

    Args:
        precision: of the file.
        reference: the source.
    """

    def __init__(self, precision: Precision, reference: Reference) -> None:
        self.precision = precision
        self.coarser = max(precision.u / unit_roundoff(reference.stored_format), 1.0)
        self.outputs: dict[str, OutputErrors] = {}
        self.rows = BatchInvariance(source_may_mix=reference.is_file)
        self._names, self._n_own = reference.output_names, reference.n_own

    def take_source(self, runs: Iterable[SourceRun]) -> NotFinite | None:
        """Take in the errors of the source's own executions, up to an answer that is not finite."""
        for run in runs:
            refused = self._take_source(run.feed, run.answer, run.executions)
            if refused is not None:
                return refused
            del run  # before the source runs again
        return None

    def _take_source(self, feed: Feed, answer: Answer, executions: Sequence[Arrays]) -> NotFinite | None:
        for name in self._names:
            own, exact = [execution[name] for execution in executions], answer.exact[name]
            errors = self.outputs.setdefault(name, self._without_values(name, answer))
            if not (is_finite(exact) and all(is_finite(execution) for execution in own)):
                return NotFinite(name, str(feed))
            errors.reference.add(exact)
            for number, execution in enumerate(own):
                errors.add_source(number, answer.agreed_values(name, _difference(execution, exact)))
        self.rows.add(SOURCE, feed, answer.exact)
        return None

    def _without_values(self, name: str, answer: Answer) -> OutputErrors:
        is_float = answer.kinds[name].dtype.kind not in "iub"
        errors = OutputErrors(name, self.precision.relative_bound if is_float else 0.0, self.coarser, self._n_own)
        errors.absolute_bound = logistic_error(self.precision.u) if name in self.precision.logistic else 0.0
        return errors

    def take_file(self, runs: Iterable[FileRun]) -> Difference | None:
        """Take in the errors of the file, up to an output of another kind, or a feed that it does not run on."""
        for run in runs:
            if isinstance(run.outputs, str):
                return Difference(f"the file does not run on {run.feed} ({run.label}): {run.outputs}")
            different = self._take_file(run.label, run.feed, run.outputs, run.answer)
            if different is not None:
                return different
        return None

    def _take_file(self, label: str, feed: Feed, got: Arrays, answer: Answer) -> Difference | None:
        for name in self._names:
            different = differing_kind(name, got[name], answer.kinds[name], f"{feed}, {label}")
            if different is not None:
                self.outputs[name].comparable = False
                return different
            error = answer.agreed_values(name, _difference(got[name], answer.exact[name]))
            self.outputs[name].add_candidate(label, error, str(feed))
        self.rows.add(f"the file ({label})", feed, got)
        return None

    def take_parameters(self, judged: Mapping[str, ParameterErrors]) -> None:
        """Take in the judgement of the file's parameters."""
        for name, errors in judged.items():
            self.outputs[name].parameters = errors
            self.outputs[name].worst_order = self.precision.worst_order

    def take_execution(self, judged: Mapping[str, PooledError]) -> None:
        """Take in what roundings of an execution leave of outputs whose parameters were judged."""
        for name, moved in judged.items():
            parameters = self.outputs[name].parameters
            if parameters is not None:
                parameters.execution = moved

    @property
    def has_failed_outputs(self) -> bool:
        """Whether an output lies too far off, so that the parameters decide."""
        return any(output.failure() for output in self.outputs.values())

    @property
    def has_failed_by_execution(self) -> bool:
        """Whether an output of right parameters still lies too far off."""
        return any(output.failure() and output.has_right_parameters for output in self.outputs.values())

    @property
    def n_compared(self) -> int:
        """Values of the file that were compared."""
        return sum(errors.n_compared for errors in self.outputs.values())

    def failure(self) -> str | None:
        """The first output that does not pass, or a row that depends on the others; None where all is well."""
        for errors in self.outputs.values():
            sentence = errors.failure() or self.rows.failure(errors)
            if sentence is not None:
                return sentence
        return None if self.outputs else "nothing was compared: the source has no outputs"

    def warnings(self) -> tuple[str, ...]:
        """What is odd in the source and no fault of the file."""
        found = (self.rows.warning(errors) for errors in self.outputs.values())
        return tuple(sentence for sentence in found if sentence is not None)


def _difference(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return got.astype(np.float64) - exact.astype(np.float64)
