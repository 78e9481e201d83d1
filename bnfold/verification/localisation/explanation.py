"""Why a file is not equal, or a source cannot be compared: the layer where they diverge, in a sentence and as facts."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.verification.checks.interface import Difference, matched_inputs
from bnfold.verification.data.feeds import Feed, make_feeds
from bnfold.verification.execution.roundings import SMALL_FEED
from bnfold.verification.localisation.diverging_layer import localise
from bnfold.verification.localisation.imprecise_node import localise_execution
from bnfold.verification.localisation.reproduction import write_reproduction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import onnx

    from bnfold.records import Departure, InputSpec
    from bnfold.verification.execution.candidate import Candidate
    from bnfold.verification.execution.reference import Reference

__all__ = ["explain", "first_disagreeing_node"]


def explain(
    candidate: Candidate,
    reference: Reference,
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    seed: int,
    reproduction: Path | None,
) -> tuple[Departure | None, str]:
    """Localise the failure of a file.

    Args:
        candidate: the file.
        reference: its source.
        inputs: that it was compared on.
        samples: real inputs by name, samples first; None takes random ones.
        seed: of the random inputs and of the roundings.
        reproduction: the folder to write the diverging layer to; None for none.

    Returns:
        Where it diverges, None where nothing is to be named, and a clause for the verdict's sentence.
    """
    plain = reference.plain
    if plain is None:
        return None, "the layer is not known: the source has no unfolded graph"
    sessions = candidate.sessions
    shaped = matched_inputs(sessions.inputs, inputs, reference)
    if isinstance(shaped, Difference):
        return None, "the layer is not known: the inputs are not the source's"
    try:
        feeds = _feeds(shaped, reference, samples=samples, seed=seed)
        file = candidate.model()
        located = localise(file, plain, feeds, seed=seed) or localise_execution(
            file, plain, feeds, u=candidate.precision.u, seed=seed, provider=sessions.provider,
            threads=sessions.threads,
        )  # fmt: skip
    except InputRefused as refused:
        return None, f"the layer could not be localised: {refused}"
    if located is None:
        return None, "no layer diverges in float64 from the unfolded graph of the source, nor as it is executed"
    departure, clause = located.departure, located.departure.sentence()
    if reproduction is None:
        return departure, clause
    try:
        write_reproduction(located, reproduction, provider=sessions.provider)
    except InputRefused as refused:
        return departure, f"{clause}; no reproduction: {refused}"
    return dataclasses.replace(departure, reproduction=str(reproduction)), clause


def _feeds(
    inputs: Sequence[InputSpec], reference: Reference, *, samples: Mapping[str, np.ndarray] | None, seed: int
) -> list[Feed]:
    """One batch of real or random inputs, and the border inputs: of two rows where rows are small, else of one."""
    fixed = [spec.fixed_batch for spec in inputs if spec.fixed_batch is not None]
    n_values = sum(math.prod(size for size in spec.row if size is not None) for spec in inputs)
    if not any(spec.has_batch for spec in inputs):
        fixed = [1]
    batch = max(fixed) if fixed else (2 if n_values <= SMALL_FEED else 1)
    facts = reference.input_facts
    made = list(make_feeds(inputs, samples=samples, facts=facts, batches=[batch], seed=seed))
    return [made[0], *(feed for feed in made if feed.kind == "border")]


def first_disagreeing_node(plain: onnx.ModelProto, feeds: Sequence[Feed], *, u: float, seed: int) -> str:
    """The first node whose execution its own float64 evaluation does not account for, as a clause; else nothing.

    Args:
        plain: the unfolded graph of a source.
        feeds: on which ONNX Runtime and the float64 evaluation disagree about it.
        u: unit roundoff of its format.
        seed: of the roundings.
    """
    try:
        located = localise_execution(plain, plain, feeds, u=u, seed=seed)
    except InputRefused:  # not every graph can be taken apart; the output is known all the same
        return ""
    if located is None:
        return ""
    departure = located.departure
    return f", first at {departure.operator} {located.node.name or departure.layer or located.node.output[0]}"
