"""A file is judged by golden values where neither its source nor PyTorch is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.records import Verdict
from bnfold.verification.checks.comparison import Compared, judge
from bnfold.verification.checks.interface import Difference, differing_outputs, matched_inputs
from bnfold.verification.checks.judgement import judgement
from bnfold.verification.checks.pooled_errors import PooledErrors
from bnfold.verification.data.precision import quantizes
from bnfold.verification.execution.candidate import Candidate
from bnfold.verification.execution.source_runs import SourceRuns
from bnfold.verification.golden.golden_reference import GoldenReference, read_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.runtime import Provider
    from bnfold.verification.execution.deployment import Deployment

__all__ = ["OutputLimit", "golden_limits", "verify_bundle"]


@dataclass(frozen=True)
class OutputLimit:
    """What an output may lie off the float64 values over all feeds: as root mean square, and at most.

    Whole numbers and booleans are equal wherever every execution of the source agrees with float64; both are 0 then.
    """

    name: str
    dtype: str
    rms: float
    maximum: float


def verify_bundle(
    candidate: Path,
    folder: Path,
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    seed: int = 0,
    deployment: Deployment | None = None,
) -> Verdict:
    """Judge a file by golden values, with graph optimizations off and as deployed.

    Args:
        candidate: the `.onnx` file.
        folder: written by `write_bundle`.
        provider: the ONNX Runtime provider that the file runs on.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the roundings by which parameters are judged.
        deployment: the session that the file is deployed with, None for bnfold's own.

    Raises:
        InputRefused: the bundle is damaged, or the file does not load.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    golden = read_bundle(folder)
    opened = Candidate.opened(candidate, provider=provider, threads=threads, deployment=deployment)
    return _verdict(opened, golden, _compared(opened, golden, seed=seed))


def golden_limits(
    candidate: Path, folder: Path, *, threads: int | None = None, seed: int = 0
) -> tuple[Verdict, tuple[OutputLimit, ...]]:
    """Judge a file by golden values on the CPU, and say in numbers what passes, for those who have numbers alone.

    `verify_bundle` asks for the parameters of a file in float64 where an output lies further off than usual. A reader
    of the limits cannot: so they are judged here, whatever the outputs say. Not those of a file that quantises, where
    one rounding moves a value by whole steps.

    Args:
        candidate: the `.onnx` file.
        folder: written by `write_bundle` or `write_values`.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the roundings by which parameters are judged.

    Raises:
        InputRefused: the bundle is damaged, or the file does not load.
        EnvironmentNotReady: ONNX Runtime is missing.
    """
    golden = read_bundle(folder)
    opened = Candidate.opened(candidate, provider="cpu", threads=threads)
    compared = _compared(opened, golden, seed=seed)
    verdict = _verdict(opened, golden, compared)
    if verdict.passed and not compared.errors.has_failed_outputs and not quantizes(opened.model()):
        judge(compared.errors, opened, golden, lambda: golden.feeds, seed=seed)
    limits = (
        OutputLimit(name, golden.answers[0][1][0][name].dtype.name, errors.allowed, errors.allowed_maximum)
        for name, errors in compared.errors.outputs.items()
    )
    return verdict, tuple(limits)


def _verdict(opened: Candidate, golden: GoldenReference, compared: Compared) -> Verdict:
    errors, failure = compared.errors, compared.failure()
    return Verdict(
        passed=failure is None,
        n_compared=errors.n_compared,
        providers=opened.sessions.providers,
        batches=tuple(sorted({feed.batch for feed in golden.feeds})),
        **judgement(errors, passed=failure is None),
        reference=golden.description,
        failure=failure,
        executions=opened.sessions.executions(),
        warnings=golden.warnings(),
    )


def _compared(candidate: Candidate, golden: GoldenReference, *, seed: int) -> Compared:
    """The source as it was written down, and the file, up to the first difference of kind."""
    errors = PooledErrors(candidate.precision, golden)
    inputs = matched_inputs(candidate.sessions.inputs, golden.inputs, golden)
    if isinstance(inputs, Difference):
        return Compared(errors, difference=inputs)
    different = differing_outputs(candidate.sessions.outputs, golden)
    if different is not None:
        return Compared(errors, difference=different)
    with SourceRuns(golden) as source:
        refused = errors.take_source(source.run(golden.feeds, "all"))
        if refused is not None:
            raise refused.refusal()
        different = errors.take_file(candidate.sessions.run(lambda: golden.feeds, source.answers))
    if different is None and errors.has_failed_outputs:
        judge(errors, candidate, golden, lambda: golden.feeds, seed=seed)
    return Compared(errors, difference=different)
