"""The file of lower precision, and the candidate that it is judged as."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from bnfold.quantisation.half.convert import Half, to_half
from bnfold.quantisation.quantise import quantise
from bnfold.workflows.half_candidate import HalfCandidate
from bnfold.workflows.int8_candidate import Candidate
from bnfold.workflows.int8_plans import fastest_plan, share_in_integers, what_stays_float

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np

    from bnfold.quantisation.quantise import Quantised
    from bnfold.quantisation.samples import Samples
    from bnfold.records.certificate import Exact
    from bnfold.records.quantisation import QuantizedTiming, TriedPlan
    from bnfold.runtime import Provider
    from bnfold.sources.types import Source
    from bnfold.workflows.conversion import Conversion
    from bnfold.workflows.int8_plans import Search
    from bnfold.workflows.quantize_options import Asked

__all__ = ["candidate_of", "digits_of", "lowered", "plans_where_slower", "sensitivities_of", "share_of_int8"]

log = logging.getLogger("bnfold.workflows")


def lowered(
    search: Search,
    precision: Asked,
    plan: Path | None,
    *,
    measure: bool,
    keep_float: Sequence[str],
    budget_s: float,
) -> tuple[Quantised | Half, tuple[str, ...], tuple[TriedPlan, ...]]:
    """The file, the nodes that its plan keeps float, and the plans that were tried.

    Args:
        search: the float graph, samples, and what for.
        precision: of the file.
        plan: a file that says what stays float, or None.
        measure: whether to time several plans.
        keep_float: layers that stay float.
        budget_s: seconds for each plan.

    Raises:
        InputRefused: see `to_half`, `quantise` and `what_stays_float`.
    """
    if precision == "fp16":
        half = to_half(
            search.folded, search.samples, search.specs, keep_float=keep_float, threads=search.threads,
            where=search.where,
        )  # fmt: skip
        return half, (), ()
    left, tried = what_stays_float(search, plan, measure=measure, keep_float=keep_float, budget_s=budget_s)
    made = quantise(
        search.folded, search.samples, search.specs, weights=search.weights, target=search.target, kept=left,
        keep_float=keep_float, sensitivities=search.sensitivities, digits=search.digits, threads=search.threads,
        where=search.where,
    )  # fmt: skip
    return made, tuple(left or ()), tried


def sensitivities_of(
    conversion: Conversion, source: Source, samples: Samples, precision: Asked
) -> dict[str, np.ndarray]:
    """How much the outputs change with the values of the folded graph, from gradients; empty where there are none.

    Args:
        conversion: of a source that PyTorch's exporter has written, or of an `.onnx` file.
        source: that it was made from.
        samples: to take gradients at.
        precision: of the file; float16 does not ask for any.
    """
    certificate = conversion.ledger.certificate
    if precision == "fp16" or conversion.program is None or certificate is None or source.form is not None:
        return {}
    from bnfold.quantisation.choose_units import N_STATISTICS
    from bnfold.quantisation.gradients import in_folded_units, squared_gradients

    first = {name: array[:N_STATISTICS] for name, array in samples.calibration.items()}
    try:
        found = squared_gradients(conversion.program, first, source.inputs)
    except RuntimeError as error:
        log.info("no gradients, propagated norms in their place: %s", error)
        return {}
    return in_folded_units(found, certificate)


def digits_of(conversion: Conversion) -> Mapping[str, Exact]:
    """Float64 digits of the folded graph's parameters by name, as the fold's certificate has them."""
    certificate = conversion.ledger.certificate
    return {} if certificate is None else certificate.parameters.get("", {})


def candidate_of(made: Quantised | Half, file: Path, search: Search, provider: Provider | None) -> Candidate:
    """The file beside the float one, timed on a provider; None where it cannot be timed here."""
    kind: Any = HalfCandidate if isinstance(made, Half) else Candidate
    found: Candidate = kind(
        file, search.float_file, made, search.samples, search.specs, search.threads, provider or "cpu"
    )
    return found


def plans_where_slower(
    search: Search, timing: QuantizedTiming | None, tried: tuple[TriedPlan, ...], *, keep_float: Sequence[str],
    budget_s: float,
) -> tuple[TriedPlan, ...]:  # fmt: skip
    """The plans that were tried; where a file is slower and none was, all are now, so that the report has them.

    Args:
        search: what for.
        timing: of the file.
        tried: what was tried.
        keep_float: layers that stay float in all plans.
        budget_s: seconds for each.
    """
    if tried or timing is None or timing.verdict != "slower":
        return tried
    return fastest_plan(search, keep_float, budget_s)[1]


def share_of_int8(made: Quantised | Half) -> float | None:
    """The share of the multiply-adds that are computed in integers; None for float16, or where no size is known."""
    if isinstance(made, Half):
        return None
    return share_in_integers(made.reference, [node.name for node in made.recipe.nodes])
