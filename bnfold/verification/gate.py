"""The verdict on a file."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Literal

from bnfold.records import Departure, InputSpec, Verdict
from bnfold.verification.certified import Certified, certified
from bnfold.verification.compare import Scope, compare
from bnfold.verification.comparison import Comparison, NotFinite
from bnfold.verification.explain import explain
from bnfold.verification.judgement import judgement
from bnfold.verification.kinds import Unequal
from bnfold.verification.ranges import batch_dim, dims, in_ranges, value_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from bnfold.records import Certificate
    from bnfold.verification.reference import Reference

__all__ = ["verify_file"]

log = logging.getLogger("bnfold.verification")


def verify_file(
    candidate: Path,
    reference: Reference,
    *,
    inputs: tuple[InputSpec, ...],
    samples: Mapping[str, np.ndarray] | None = None,
    batches: Sequence[int] = (),
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    seed: int = 0,
    reproduction: Path | None = None,
    certificate: Certificate | None = None,
) -> Verdict:
    """Compare an `.onnx` file with its reference, in ONNX Runtime, with graph optimizations off and as deployed.

    Names, dtypes, shapes and finiteness come before values; values are judged by `bnfold.verification.criterion`.
    Outputs of whole numbers or booleans must be equal wherever the source's own executions agree with float64 (they
    need not where two scores tie). A row alone must equal the same row in a batch, unless the source is
    a file where it does not. Then the file is proven operator by operator, by its certificate or, where bnfold made it,
    by that of the source folded again; see `bnfold.verification.certificate`.

    Args:
        candidate: the file.
        reference: see `reference_for`.
        inputs: of the source, in order; an axis that the file fixes is taken from the file.
        samples: real inputs by name, rows first; None takes random ones, standard normal, or in the first range of
            `bnfold.verification.ranges` in which the source is finite.
        batches: sizes to compare at besides 1, 2 and 3, where the batch is dynamic; else the fixed one, or none.
        provider: the ONNX Runtime provider that the file runs on.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the random inputs.
        reproduction: the folder to write the first departing layer to, where the file is not equal; None for none.
        certificate: what the fold said of the file.

    Raises:
        InputRefused: the file does not load, the inputs cannot be made, another batch is asked for than the fixed one,
            or the source has no finite answer.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    first: NotFinite | None = None
    for tried in in_ranges(inputs) if samples is None else [inputs]:
        try:
            return _verified(
                Comparison(candidate, reference, provider=provider, threads=threads),
                tried,
                samples=samples,
                batches=batches,
                seed=seed,
                reproduction=reproduction,
                certificate=certificate,
            )
        except NotFinite as refused:
            log.info("%s", refused)
            first = first or refused
    raise first or RuntimeError("no inputs were tried")


def _verified(
    comparison: Comparison,
    inputs: tuple[InputSpec, ...],
    *,
    samples: Mapping[str, np.ndarray] | None,
    batches: Sequence[int],
    seed: int,
    reproduction: Path | None,
    certificate: Certificate | None,
) -> Verdict:
    """The verdict on inputs of one range."""
    reference = comparison.reference
    failure: str | None = None
    departure: Departure | None = None
    scope = Scope()
    try:
        compare(comparison, inputs, samples=samples, batches=batches, seed=seed, scope=scope)
        failure = comparison.failure()
    except Unequal as unequal:
        failure = str(unequal)
    proof = _proof(comparison, inputs, certificate, seed=seed)
    if failure is not None or proof.failure is not None:
        found, clause = explain(comparison, inputs, samples=samples, seed=seed, reproduction=reproduction)
        departure = _named(found, proof, mine=certificate is not None or failure is None)
        if departure is not None and departure is not found:
            clause = departure.sentence()
        failure = f"{failure or proof.failure}; {clause}"
    if certificate is not None and proof.skipped is not None:
        scope.warnings.append(f"the file is verified on inputs only: {proof.skipped}")
    coverage = reference.coverage
    if coverage is not None and coverage.never_active and proof.skipped is not None:
        scope.warnings.append(
            f"{coverage.never_active} of {coverage.channels} channels were never active, and what is computed in them "
            f"is not proven: {proof.skipped}"
        )
    return Verdict(
        passed=failure is None,
        n_compared=sum(errors.n_compared for errors in comparison.outputs.values()),
        providers=comparison.providers,
        batches=scope.batches,
        **judgement(comparison, passed=failure is None, disproven=proof.failure is not None),
        reference=comparison.reference.description,
        failure=failure,
        departure=departure,
        sizes=scope.sizes,
        coverage=coverage,
        certificate=proof.facts,
        executions=comparison.executions(),
        warnings=(*scope.warnings, *comparison.warnings()),
        dims=dims(inputs),
        batch_dim=batch_dim(inputs),
        values=value_texts(inputs) if samples is None else {},
    )


def _proof(
    comparison: Comparison, inputs: Sequence[InputSpec], certificate: Certificate | None, *, seed: int
) -> Certified:
    """The file operator by operator: all of it, whatever the inputs reach."""
    from bnfold.sources.external_data import load_with_data

    file = load_with_data(comparison.candidate)  # for a moment twice in memory, so before the graph of the source
    plain = comparison.reference.plain
    if plain is None:
        return Certified(skipped="the source has no unfolded graph")
    return certified(file, plain, certificate, sizes={spec.name: spec.shape for spec in inputs}, seed=seed)


def _named(departure: Departure | None, proof: Certified, *, mine: bool) -> Departure | None:
    """Where the file departs: by the proof, if it is certain of the units, else by the comparison on inputs."""
    if proof.departure is None or (departure is not None and not mine):
        return departure
    reproduction = departure.reproduction if departure is not None else None
    return dataclasses.replace(proof.departure, reproduction=reproduction)
