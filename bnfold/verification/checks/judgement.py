"""What a comparison decides of a verdict, as data: the outputs, the criterion, the conditioning."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from bnfold.records import Criterion, OutputVerdict

if TYPE_CHECKING:
    from bnfold.verification.checks.pooled_errors import PooledErrors

__all__ = ["Judgement", "judgement"]

_RANK = list(Criterion).index


class Judgement(TypedDict):
    """Fields of a `Verdict`."""

    outputs: tuple[OutputVerdict, ...]
    decided_by: Criterion
    ill_conditioned: bool
    judged_as: str | None


def judgement(pooled: PooledErrors, *, passed: bool, disproven: bool = False) -> Judgement:
    """The fields, of a comparison that has come to its end.

    Args:
        pooled: the errors of the source and of the file.
        passed: whether the file is equal to its source.
        disproven: whether the check of its operators says that it is not.
    """
    outputs = tuple(errors.verdict(pooled.precision.u) for errors in pooled.outputs.values())
    passed_by = (output.decided_by for output in outputs if output.decided_by is not None)
    return {
        "outputs": outputs,
        "decided_by": max(passed_by, key=_RANK) if passed else _failed_by(pooled, disproven=disproven),
        "ill_conditioned": any(output.ill_conditioned for output in outputs),
        "judged_as": pooled.precision.stored_format if pooled.coarser > 1 else None,
    }


def _failed_by(pooled: PooledErrors, *, disproven: bool) -> Criterion:
    for errors in pooled.outputs.values():
        if errors.failure() is not None:
            return errors.decided_by or Criterion.INTERFACE
        if pooled.rows.failure(errors) is not None:
            return Criterion.BATCH_INVARIANCE
    return Criterion.CERTIFICATE if disproven and pooled.outputs else Criterion.INTERFACE
