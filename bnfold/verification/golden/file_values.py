"""Golden values of a file by itself: what it computes in float64, and how far ONNX Runtime lies from that here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import GateFailed
from bnfold.verification.checks.comparison import Compared, compare
from bnfold.verification.checks.pooled_errors import NotFinite
from bnfold.verification.checks.source_agreement import Disagreement
from bnfold.verification.data.feeds import make_feeds
from bnfold.verification.data.value_ranges import in_ranges
from bnfold.verification.execution.candidate import Candidate
from bnfold.verification.execution.source_reference import reference_for
from bnfold.verification.golden.bundle_writer import write_values

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfold.records import FileFacts, InputSpec, OutputFacts
    from bnfold.sources.types import OnnxSource
    from bnfold.verification.execution.reference import Reference

__all__ = ["write_file_values"]


def write_file_values(
    folder: Path,
    file: Path,
    source: OnnxSource,
    *,
    model: OutputFacts,
    facts: FileFacts,
    batches: Sequence[int] = (),
    threads: int | None = None,
    seed: int = 0,
) -> None:
    """Write golden values of which the file itself is the source.

    They tell whether a file is executed elsewhere as it is here, not whether it is the network that somebody meant.
    So few inputs do: row 0 alone, and in a batch of each size with others, of which one excites the borders.

    Args:
        folder: does not exist yet.
        file: the `.onnx` file.
        source: the same, loaded, every size but the batch settled.
        model: what is said of the file, and
        facts: of its metadata.
        batches: sizes besides 1, 2 and 3.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the random inputs.

    Raises:
        InputRefused: the file does not load, a batch is asked for that it has not, or it has no finite answer.
        GateFailed: ONNX Runtime does not compute here what the file says.
    """
    reference = reference_for(source, None)
    candidate = Candidate.opened(file, provider="cpu", threads=threads)
    inputs, compared = _compared(candidate, reference, source, batches=batches, seed=seed)
    failure = compared.failure()
    if failure is not None:
        raise GateFailed(
            "ONNX Runtime does not compute what the file says", where=str(file), found=failure,
            remedy="see `bnfold verify FILE FILE`",
        )  # fmt: skip
    feeds = make_feeds(
        inputs, samples=source.samples, facts=dict(reference.input_facts), batches=compared.batches, seed=seed,
        extent="few",
    )  # fmt: skip
    judged = [errors.verdict(compared.errors.precision.u) for errors in compared.errors.outputs.values()]
    write_values(folder, reference, feeds, inputs=inputs, source=source.facts, model=model, facts=facts, judged=judged)


def _compared(
    candidate: Candidate, reference: Reference, source: OnnxSource, *, batches: Sequence[int], seed: int
) -> tuple[tuple[InputSpec, ...], Compared]:
    """The comparison on few inputs of the first range that the file has a finite answer to; and these inputs."""
    first: NotFinite | None = None
    for tried in in_ranges(source.inputs) if source.samples is None else [source.inputs]:
        found = compare(
            candidate, reference, tried, samples=source.samples, batches=batches, seed=seed, extent="few"
        )  # fmt: skip
        if isinstance(found, Disagreement):
            raise found.refusal("")
        if isinstance(found, Compared):
            return tried, found
        first = first or found
    raise RuntimeError("no inputs were tried") if first is None else first.refusal()
