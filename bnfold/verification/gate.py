"""The verdict on a file."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Literal

from bnfold.errors import InputRefused
from bnfold.records import Departure, InputSpec, Verdict
from bnfold.verification.certified import Certified, certified
from bnfold.verification.compare import Scope, compare
from bnfold.verification.comparison import Comparison, NotFinite
from bnfold.verification.explain import explain
from bnfold.verification.judgement import judgement
from bnfold.verification.kinds import Unequal
from bnfold.verification.ranges import batch_dim, dims, in_ranges, value_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from bnfold.records import Certificate
    from bnfold.verification.inputs import Extent
    from bnfold.verification.reference import Reference

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
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    seed: int = 0,
    reproduction: Path | None = None,
    certificate: Certificate | None = None,
    extent: Extent = "few",
    share: Callable[[float], None] | None = None,
) -> Verdict:
    """Prove an `.onnx` file operator by operator, and compare it with its reference in ONNX Runtime.

    It is proven by its certificate or, where bnfold made it, by that of the source folded again; see
    `bnfold.verification.certificate`. Then it runs with graph optimizations off and as deployed. Names, dtypes, shapes
    and finiteness come before values; values are judged by `bnfold.verification.criterion`. Outputs of whole numbers or
    booleans must be equal wherever the source's own executions agree with float64 (they need not where two scores tie).
    A row alone must equal the same row in a batch, unless the source is a file where it does not.

    A file that is proven is compared on few inputs, at every batch: what is left to be seen is how it is executed, and
    whether the unfolded graph is the source. Where it does not pass on these, or is not proven, all inputs decide: so
    few inputs can pass a file and never fail one.

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
        extent: of the inputs that a file which is proven is compared on; "one" is what `--quick` asks for, "all" what
            other files are compared on.
        share: told how much is done, from 0 to 1.

    Raises:
        InputRefused: the file does not load, the inputs cannot be made, another batch is asked for than the fixed one,
            or the source has no finite answer.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    tell = share or (lambda _: None)
    gate = _Gate(candidate, reference, provider, threads, samples, batches, seed, tell)
    comparison = gate.opened()
    proof = _proof(comparison, inputs, certificate, seed=seed)
    tell(PROVEN)
    first: NotFinite | None = None
    for tried in in_ranges(inputs) if samples is None else [inputs]:
        try:
            asked = gate.ask(comparison, tried, extent if proof.is_proven else "all")
        except NotFinite as refused:
            log.info("%s", refused)
            first, comparison = first or refused, gate.opened()
        else:
            return _verdict(gate, tried, asked, proof, is_ours=certificate is not None, reproduction=reproduction)
    raise first or RuntimeError("no inputs were tried")


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A comparison that has come to its end: on what, and the sentence where it did not pass."""

    comparison: Comparison
    scope: Scope
    extent: Extent
    failure: str | None


@dataclasses.dataclass(frozen=True)
class _Gate:
    """What the comparisons of one file have in common; see `verify_file`."""

    candidate: Path
    reference: Reference
    provider: Literal["cpu", "cuda"]
    threads: int | None
    samples: Mapping[str, np.ndarray] | None
    batches: Sequence[int]
    seed: int
    tell: Callable[[float], None]

    def opened(self) -> Comparison:
        """A comparison in which nothing was asked."""
        return Comparison(self.candidate, self.reference, provider=self.provider, threads=self.threads)

    def ask(self, comparison: Comparison, inputs: tuple[InputSpec, ...], extent: Extent) -> _Asked:
        """Compare on inputs of one range, on all of them where fewer do not pass."""
        scope = Scope()
        failure: str | None = None
        try:
            compare(
                comparison, inputs, samples=self.samples, batches=self.batches, seed=self.seed, scope=scope,
                extent=extent, share=lambda done: self.tell(PROVEN + (1 - PROVEN) * done),
            )  # fmt: skip
            failure = comparison.failure()
        except Unequal as unequal:
            failure = str(unequal)
        except NotFinite:
            raise
        except InputRefused as refused:
            if extent == "all":
                raise
            failure = str(refused)
        if failure is None or extent == "all":
            return _Asked(comparison, scope, extent, failure)
        log.debug("comparing on all inputs, since on %s: %s", extent, failure)
        return self.ask(self.opened(), inputs, "all")


def _verdict(
    gate: _Gate,
    inputs: tuple[InputSpec, ...],
    asked: _Asked,
    proof: Certified,
    *,
    is_ours: bool,
    reproduction: Path | None,
) -> Verdict:
    """The verdict on a file from the comparison on inputs of one range, and the proof."""
    comparison, scope, failure = asked.comparison, asked.scope, asked.failure
    departure: Departure | None = None
    unproven = proof.unproven if is_ours else None
    if failure is not None or proof.failure is not None:
        found, clause = explain(comparison, inputs, samples=gate.samples, seed=gate.seed, reproduction=reproduction)
        departure = _named(found, proof, mine=is_ours or failure is None)
        if departure is not None and departure is not found:
            clause = departure.sentence()
        failure = f"{failure or proof.failure}; {clause}"
    elif unproven is not None:
        failure = f"it is not proven: {unproven}"
    if is_ours and proof.skipped is not None:
        scope.warnings.append(f"the file is verified on inputs only: {proof.skipped}")
    coverage = gate.reference.coverage
    if coverage is not None and coverage.never_active and proof.unknown is not None:
        scope.warnings.append(
            f"{coverage.never_active} of {coverage.channels} channels were never active, and what is computed in them "
            f"is not proven: {proof.unknown}"
        )
    return Verdict(
        passed=failure is None,
        n_compared=sum(errors.n_compared for errors in comparison.outputs.values()),
        providers=comparison.providers,
        batches=scope.batches,
        **judgement(comparison, passed=failure is None, disproven=bool(proof.failure or unproven)),
        reference=comparison.reference.description,
        failure=failure,
        departure=departure,
        sizes=scope.sizes,
        coverage=coverage,
        certificate=proof.facts,
        unproven=unproven,
        executions=comparison.executions(),
        warnings=(*scope.warnings, *comparison.warnings()),
        dims=dims(inputs),
        batch_dim=batch_dim(inputs),
        values=value_texts(inputs) if gate.samples is None else {},
        quick=asked.extent == "one",
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
