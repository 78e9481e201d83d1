"""A file is judged by golden values where neither its source nor PyTorch is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.records import Verdict
from bnfold.verification.checks.comparison import Compared, judge
from bnfold.verification.checks.interface import Difference, differing_outputs, matched_inputs
from bnfold.verification.checks.judgement import judgement
from bnfold.verification.checks.pooled_errors import PooledErrors
from bnfold.verification.execution.candidate import Candidate
from bnfold.verification.execution.source_runs import SourceRuns
from bnfold.verification.golden.golden_reference import GoldenReference, read_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.runtime import Provider
    from bnfold.verification.execution.deployment import Deployment

__all__ = ["verify_bundle"]


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
    compared = _compared(opened, golden, seed=seed)
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
