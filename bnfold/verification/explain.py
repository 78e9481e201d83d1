"""Why a file is not equal: the layer where it departs from its source, in a sentence and as facts."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.verification.inputs import Feed, make_feeds
from bnfold.verification.kinds import Unequal
from bnfold.verification.localisation.execution import localise_execution
from bnfold.verification.localisation.locate import localise
from bnfold.verification.parameters import SMALL_FEED
from bnfold.verification.reproduce import write_reproduction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from bnfold.records import Departure, InputSpec
    from bnfold.verification.comparison import Comparison

__all__ = ["explain"]


def explain(
    comparison: Comparison,
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    seed: int,
    reproduction: Path | None,
) -> tuple[Departure | None, str]:
    """Localise a failure that `comparison` has found.

    Returns:
        The departure, None where there is none to be named, and a clause for the verdict's sentence.
    """
    from bnfold.sources.external_data import load_with_data

    plain = comparison.reference.plain
    if plain is None:
        return None, "the layer is not known: the source has no unfolded graph"
    try:
        feeds = _feeds(comparison, inputs, samples=samples, seed=seed)
        candidate = load_with_data(comparison.candidate)
        located = localise(candidate, plain, feeds, seed=seed) or localise_execution(
            candidate, plain, feeds, u=comparison.u, seed=seed, provider=comparison.provider, threads=comparison.threads
        )
    except Unequal:
        return None, "the layer is not known: the inputs are not the source's"
    except InputRefused as refused:
        return None, f"the layer could not be localised: {refused}"
    if located is None:
        return None, "no layer departs in float64 from the unfolded graph of the source, nor as it is executed"
    departure, clause = located.departure, located.departure.sentence()
    if reproduction is None:
        return departure, clause
    try:
        write_reproduction(located, reproduction, provider=comparison.provider)
    except InputRefused as refused:
        return departure, f"{clause}; no reproduction: {refused}"
    return dataclasses.replace(departure, reproduction=str(reproduction)), clause


def _feeds(
    comparison: Comparison, inputs: Sequence[InputSpec], *, samples: Mapping[str, np.ndarray] | None, seed: int
) -> list[Feed]:
    """One batch of real or random inputs, and the border inputs: of two rows where rows are small, else of one."""
    shaped = comparison.match_inputs(inputs)
    fixed = [spec.fixed_batch for spec in shaped if spec.fixed_batch is not None]
    n_values = sum(math.prod(size for size in spec.row if size is not None) for spec in shaped)
    if not any(spec.has_batch for spec in shaped):
        fixed = [1]
    batch = max(fixed) if fixed else (2 if n_values <= SMALL_FEED else 1)
    facts = comparison.reference.input_facts
    made = list(make_feeds(shaped, samples=samples, facts=facts, batches=[batch], seed=seed))
    return [made[0], *(feed for feed in made if feed.kind == "border")]
