"""The verdict on a file."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.records import Departure, InputSpec, Verdict
from bnfold.verification.checks.comparison import Compared, compare
from bnfold.verification.checks.judgement import judgement
from bnfold.verification.checks.pooled_errors import NotFinite
from bnfold.verification.checks.proof import Certified, certified
from bnfold.verification.checks.source_agreement import Disagreement
from bnfold.verification.data.value_ranges import batch_dim, dims, in_ranges, value_texts
from bnfold.verification.execution.candidate import Candidate
from bnfold.verification.localisation.explanation import explain, first_disagreeing_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import onnx

    from bnfold.records import Certificate
    from bnfold.runtime import Provider
    from bnfold.verification.data.feeds import Extent
    from bnfold.verification.execution.deployment import Deployment
    from bnfold.verification.execution.reference import Reference

__all__ = ["verify_file"]

log = logging.getLogger("bnfold.verification")

PROVEN = 0.2  # about what the proof takes of a verification, the rest on few inputs


def verify_file(
    candidate: Path,
    reference: Reference,
    *,
    inputs: tuple[InputSpec, ...],
    samples: Mapping[str, np.ndarray] | None = None,
    batches: Sequence[int] = (),
    provider: Provider = "cpu",
    threads: int | None = None,
    seed: int = 0,
    reproduction: Path | None = None,
    certificate: Certificate | None = None,
    extent: Extent = "few",
    share: Callable[[float], None] | None = None,
    deployment: Deployment | None = None,
) -> Verdict:
    """Prove an `.onnx` file operator by operator, and compare it with its reference in ONNX Runtime.

    It is proven by its certificate or, where bnfold made it, by that of the source folded again; see
    `bnfold.verification.certificate`. Then it runs with graph optimizations off and as deployed. Names, dtypes, shapes
    and finiteness come before values; values are judged by `bnfold.verification.checks.criterion`. Outputs of whole
    numbers or booleans must be equal wherever the source's own executions agree with float64 (they need not where two
    scores tie). A row alone must equal the same row in a batch, unless the source is a file where it does not.

    A file that is proven is compared on few inputs, at every batch: what is left to be seen is how it is executed, and
    whether the unfolded graph is the source. Where it does not pass on these, or is not proven, all inputs decide: so
    few inputs can pass a file and never fail one.

    Args:
        candidate: the file.
        reference: see `reference_for`.
        inputs: of the source, in order; an axis that the file fixes is taken from the file.
        samples: real inputs by name, samples first; None takes random ones, standard normal, or in the first range of
            `bnfold.verification.data.value_ranges` in which the source is finite.
        batches: sizes to compare at besides 1, 2 and 3, where the batch is dynamic; else the fixed one, or none.
        provider: the ONNX Runtime provider that the file runs on.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the random inputs.
        reproduction: the folder to write the first diverging layer to, where the file is not equal; None for none.
        certificate: what the fold said of the file.
        extent: of the inputs that a file which is proven is compared on; "one" is what `--quick` asks for, "all" what
            other files are compared on.
        share: told how much is done, from 0 to 1.
        deployment: the session that it is deployed with, None for bnfold's own.

    Raises:
        InputRefused: the file does not load, the inputs cannot be made, another batch is asked for than the fixed one,
            or the source has no finite answer.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    tell = share or (lambda _: None)
    opened, file = Candidate.read(candidate, provider=provider, threads=threads, deployment=deployment)
    proof = _proof(file, reference, inputs, certificate, seed=seed)
    del file  # before the sessions of the source and of the file are open
    tell(PROVEN)
    asked = _Asked(opened, reference, samples, batches, seed, tell)
    first: NotFinite | None = None
    for tried in in_ranges(inputs) if samples is None else [inputs]:
        compared, compared_on = asked.compared(tried, extent if proof.is_proven else "all")
        if isinstance(compared, NotFinite):
            log.info("%s", compared.refusal())
            first = first or compared
            continue
        failure, departure = _failure(
            asked, tried, compared, proof, is_ours=certificate is not None, reproduction=reproduction
        )
        return _verdict(
            asked, tried, compared, proof, failure=failure, departure=departure, is_ours=certificate is not None,
            quick=compared_on == "one",
        )  # fmt: skip
    raise RuntimeError("no inputs were tried") if first is None else first.refusal()


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What the comparisons of one file have in common; see `verify_file`."""

    candidate: Candidate
    reference: Reference
    samples: Mapping[str, np.ndarray] | None
    batches: Sequence[int]
    seed: int
    tell: Callable[[float], None]

    def compared(self, inputs: tuple[InputSpec, ...], extent: Extent) -> tuple[Compared | NotFinite, Extent]:
        """The comparison on inputs of one range, on all of them where fewer do not pass; and which it was.

        Raises:
            InputRefused: nothing can be compared, on all inputs.
        """
        if extent != "all":
            try:
                found = self._compared(inputs, extent)
            except InputRefused as refused:
                log.debug("comparing on all inputs, since on %s: %s", extent, refused)
            else:
                if isinstance(found, NotFinite):
                    return found, extent
                failure = "the source disagrees" if isinstance(found, Disagreement) else found.failure()
                if isinstance(found, Compared) and failure is None:
                    return found, extent
                log.debug("comparing on all inputs, since on %s: %s", extent, failure)
        found = self._compared(inputs, "all")
        if isinstance(found, Disagreement):
            raise found.refusal(self._first_disagreeing_node(found))
        return found, "all"

    def _compared(self, inputs: tuple[InputSpec, ...], extent: Extent) -> Compared | NotFinite | Disagreement:
        return compare(
            self.candidate, self.reference, inputs, samples=self.samples, batches=self.batches, seed=self.seed,
            extent=extent, share=lambda done: self.tell(PROVEN + (1 - PROVEN) * done),
        )  # fmt: skip

    def _first_disagreeing_node(self, found: Disagreement) -> str:
        plain = self.reference.plain
        if plain is None:
            return ""
        return first_disagreeing_node(plain, found.feeds, u=unit_roundoff(self.reference.stored_format), seed=self.seed)


def _failure(
    asked: _Asked,
    inputs: tuple[InputSpec, ...],
    compared: Compared,
    proof: Certified,
    *,
    is_ours: bool,
    reproduction: Path | None,
) -> tuple[str | None, Departure | None]:
    """Why the file does not pass, None where it does; and where it diverges from its source."""
    failure = compared.failure()
    if failure is None and proof.failure is None:
        unproven = proof.unproven if is_ours else None
        return None if unproven is None else f"it is not proven: {unproven}", None
    found, clause = explain(
        asked.candidate, asked.reference, inputs, samples=asked.samples, seed=asked.seed, reproduction=reproduction
    )
    departure = _named(found, proof, mine=is_ours or failure is None)
    if departure is not None and departure is not found:
        clause = departure.sentence()
    return f"{failure or proof.failure}; {clause}", departure


def _verdict(
    asked: _Asked,
    inputs: tuple[InputSpec, ...],
    compared: Compared,
    proof: Certified,
    *,
    failure: str | None,
    departure: Departure | None,
    is_ours: bool,
    quick: bool,
) -> Verdict:
    """The verdict on a file from the comparison on inputs of one range, and the proof."""
    errors, coverage = compared.errors, asked.reference.coverage
    warnings = list(compared.warnings)
    unproven = proof.unproven if is_ours else None
    if is_ours and proof.skipped is not None:
        warnings.append(f"the file is verified on inputs only: {proof.skipped}")
    if coverage is not None and coverage.never_active and proof.unknown is not None:
        warnings.append(
            f"{coverage.never_active} of {coverage.channels} channels were never active, and what is computed in them "
            f"is not proven: {proof.unknown}"
        )
    sessions = asked.candidate.sessions
    return Verdict(
        passed=failure is None,
        n_compared=errors.n_compared,
        providers=sessions.providers,
        batches=compared.batches,
        **judgement(errors, passed=failure is None, disproven=bool(proof.failure or unproven)),
        reference=asked.reference.description,
        failure=failure,
        departure=departure,
        sizes=compared.sizes,
        coverage=coverage,
        certificate=proof.facts,
        unproven=unproven,
        executions=sessions.executions(),
        warnings=(*warnings, *errors.warnings()),
        dims=dims(inputs),
        batch_dim=batch_dim(inputs),
        values=value_texts(inputs) if asked.samples is None else {},
        quick=quick,
    )


def _proof(
    file: onnx.ModelProto,
    reference: Reference,
    inputs: Sequence[InputSpec],
    certificate: Certificate | None,
    *,
    seed: int,
) -> Certified:
    """The file operator by operator: all of it, whatever the inputs reach."""
    plain = reference.plain
    if plain is None:
        return Certified(skipped="the source has no unfolded graph")
    return certified(file, plain, certificate, sizes={spec.name: spec.shape for spec in inputs}, seed=seed)


def _named(departure: Departure | None, proof: Certified, *, mine: bool) -> Departure | None:
    """Where the file diverges: by the proof, if it is certain of the units, else by the comparison on inputs."""
    if proof.departure is None or (departure is not None and not mine):
        return departure
    reproduction = departure.reproduction if departure is not None else None
    return dataclasses.replace(proof.departure, reproduction=reproduction)
