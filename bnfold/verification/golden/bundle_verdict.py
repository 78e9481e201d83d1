"""A file is judged by golden values where neither its source nor PyTorch is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.records import Verdict
from bnfold.verification.checks.compared_feeds import FeedSeries
from bnfold.verification.checks.comparison import AskedSource, ask_file, judged_parameters
from bnfold.verification.checks.interface import Difference, differing_outputs, matched_inputs
from bnfold.verification.checks.judgement import judgement
from bnfold.verification.checks.pooled_errors import PooledErrors
from bnfold.verification.execution.answers import Answers
from bnfold.verification.execution.candidate import Candidate
from bnfold.verification.golden.golden_reference import GoldenReference, read_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.runtime import Provider

__all__ = ["verify_bundle"]


def verify_bundle(
    candidate: Path,
    folder: Path,
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    seed: int = 0,
) -> Verdict:
    """Judge a file by golden values, with graph optimizations off and as deployed.

    Args:
        candidate: the `.onnx` file.
        folder: written by `write_bundle`.
        provider: the ONNX Runtime provider that the file runs on.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the roundings by which parameters are judged.

    Raises:
        InputRefused: the bundle is damaged, or the file does not load.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    golden = read_bundle(folder)
    opened = Candidate.opened(candidate, provider=provider, threads=threads)
    errors = PooledErrors(opened.precision, golden)
    different = _compare(opened, golden, errors, seed=seed)
    failure = errors.failure() if different is None else different.sentence
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


def _compare(candidate: Candidate, golden: GoldenReference, errors: PooledErrors, *, seed: int) -> Difference | None:
    """Take in the errors of the source and of the file, up to the first difference of kind."""
    inputs = matched_inputs(candidate.sessions.inputs, golden.inputs, golden)
    if isinstance(inputs, Difference):
        return inputs
    different = differing_outputs(candidate.sessions.outputs, golden)
    if different is not None:
        return different
    with Answers() as answers:
        refused = AskedSource(golden, errors, answers).ask(FeedSeries(golden.inputs, "all", lambda: iter(golden.feeds)))
        if refused is not None:
            raise refused.refusal()
        different = ask_file(candidate, errors, lambda: golden.feeds, answers)
    if different is None and any(output.failure() for output in errors.outputs.values()):
        errors.add_parameters(judged_parameters(candidate, golden, golden.feeds, seed=seed))
    return different
