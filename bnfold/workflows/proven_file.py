"""A file from its source to the verdict; once more without onnxsim where what that has made cannot be proven."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnfold.records import Criterion
from bnfold.workflows.conversion import Conversion, convert, into_metadata, measured_conversion
from bnfold.workflows.files import settle_interface, write_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bnfold.records import FileFacts, Verdict
    from bnfold.runtime import Provider
    from bnfold.sources.types import Source
    from bnfold.workflows.stopwatch import Stopwatch

__all__ = ["REPRODUCTION_NAME", "Made", "made_file", "proven_file"]

REPRODUCTION_NAME = "reproduction"


@dataclass(frozen=True)
class Made:
    """A file as it is written, what it was made of, and whether it is equal to its source."""

    conversion: Conversion
    facts: FileFacts
    files: tuple[Path, ...]
    verdict: Verdict


def proven_file(make: Callable[..., Made]) -> Made:
    """Make a file, and make it again without simplification where an operator of the first cannot be proven.

    A file that is not equal on inputs either stays what it is: another one would hide that.

    Args:
        make: `made_file` with all its arguments but `simplify`.
    """
    made = make(simplify=True)
    unproven = made.verdict.unproven
    if unproven is None or made.verdict.decided_by is not Criterion.CERTIFICATE:
        return made
    made = make(simplify=False)
    if not made.verdict.passed:
        return made
    warning = f"it is written without onnxsim's simplification, with which it is not proven: {unproven}"
    return replace(made, verdict=replace(made.verdict, warnings=(*made.verdict.warnings, warning)))


def made_file(
    source: Source,
    facts: FileFacts,
    watch: Stopwatch,
    path: Path,
    *,
    simplify: bool,
    place: Path,
    opset: int | None,
    static_batch: int | None,
    measure: bool,
    input_shapes: Sequence[tuple[int, ...]] | None,
    drop: bool,
    golden: bool,
    batches: Sequence[int],
    provider: Provider,
    threads: int | None,
    seed: int,
    quick: bool,
    share: Callable[[float], None] | None,
    reproduction: Path | None,
) -> Made:
    """Convert a source, write the file to `path`, and verify it.

    What is read and written, and the arguments, are those of `bnfold.fold_export`. Without `simplify` onnxsim is not
    asked, and no other fold measured.
    """
    conversion = convert(source, watch, opset=opset, static_batch=static_batch, provider=provider, simplify=simplify)
    if measure and simplify:
        with watch.stage("measure"):
            conversion = measured_conversion(
                conversion, batch=static_batch or 1, provider=provider, threads=threads, input_shapes=input_shapes,
                pixels=source.form.input if source.form else None,
            )  # fmt: skip
    settle_interface(
        source, conversion.plain, conversion.folded, static_batch=static_batch, drop=drop, golden=golden
    )  # fmt: skip
    facts = into_metadata(facts, source, conversion)
    files = write_model(conversion.folded, path, output=place)
    with watch.stage("verify"):
        verdict = _verify(
            source, conversion, files[0], batches=batches, provider=provider, threads=threads, seed=seed, quick=quick,
            share=share, reproduction=reproduction,
        )  # fmt: skip
    return Made(conversion, facts, files, verdict)


def _verify(
    source: Source,
    conversion: Conversion,
    candidate: Path,
    *,
    batches: Sequence[int],
    provider: Provider,
    threads: int | None,
    seed: int,
    quick: bool,
    share: Callable[[float], None] | None,
    reproduction: Path | None,
) -> Verdict:
    from bnfold.verification import reference_for, verify_file

    verdict = verify_file(
        candidate,
        reference_for(source, conversion.plain),
        inputs=source.inputs,
        samples=source.samples,
        batches=tuple(batches),
        provider=provider,
        threads=threads,
        seed=seed,
        reproduction=reproduction,
        certificate=conversion.ledger.certificate,
        extent="one" if quick else "few",
        share=share,
    )
    if verdict.departure is None or verdict.departure.reproduction is None:
        return verdict
    return replace(verdict, departure=replace(verdict.departure, reproduction=REPRODUCTION_NAME))
