"""Plans of `bnfold quantize --measure`: each written, timed side by side with the float file, and the fastest taken."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.records.quantisation import TriedPlan
from bnfold.workflows.int8_candidate import timed_shapes
from bnfold.workflows.stages import BUDGET_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnx

    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec
    from bnfold.records.certificate import Exact
    from bnfold.records.recipes import PrecisionReason, Target, WeightScales

__all__ = ["Search", "fastest_plan", "share_in_integers", "what_stays_float"]

N_RANGES = 8  # samples for the ranges of a plan that is only timed
log = logging.getLogger("bnfold.workflows")


@dataclasses.dataclass(frozen=True)
class Search:
    """What a plan is searched for.

    Attributes:
        folded: the float graph.
        float_file: the same as a file.
        samples: for ranges, and for what a plan loses.
        specs: inputs of both.
        weights: see `quantise`.
        target: likewise.
        threads: of one operator.
        seed: of the measurement.
        where: the source, for messages.
        sensitivities: see `quantise`.
        digits: likewise.
    """

    folded: onnx.ModelProto
    float_file: Path
    samples: Samples
    specs: Sequence[InputSpec]
    weights: WeightScales
    target: Target
    threads: int | None
    seed: int
    where: str
    sensitivities: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    digits: Mapping[str, Exact] = dataclasses.field(default_factory=dict)


def what_stays_float(
    search: Search, plan: Path | None, *, measure: bool, keep_float: Sequence[str], budget_s: float
) -> tuple[dict[str, PrecisionReason] | None, tuple[TriedPlan, ...]]:
    """The nodes that stay float, and why, None where costs decide; and the plans that were tried.

    Args:
        search: what for.
        plan: a file that says so, or None.
        measure: whether to time several plans.
        keep_float: layers that stay float in all of them.
        budget_s: seconds for each.

    Raises:
        InputRefused: the plan cannot be read, or is one of another network.
    """
    from bnfold.quantisation.plans import read_plan
    from bnfold.quantisation.prepare import prepared

    if plan is not None:
        return dict.fromkeys(read_plan(plan, prepared(search.folded, where=search.where).graph), "plan"), ()
    if not measure:
        return None, ()
    fastest, tried = fastest_plan(search, keep_float, budget_s or BUDGET_S)
    return dict.fromkeys(fastest, "cost"), tried


def fastest_plan(
    search: Search, keep_float: Sequence[str], budget_s: float
) -> tuple[tuple[str, ...], tuple[TriedPlan, ...]]:
    """The nodes that stay float in the fastest plan, and all plans, in the order they were tried."""
    from bnfold.benchmarking import Axes, bench_files
    from bnfold.quantisation.plans import candidate_plans
    from bnfold.quantisation.prepare import prepared

    plans = candidate_plans(prepared(search.folded, where=search.where).graph, search.target)
    shapes = timed_shapes(search.specs, search.samples)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as place:
        written = {name: _written(search, [*keep_float, *own], Path(place) / f"{k}.onnx")
                   for k, (name, own) in enumerate(plans.items())}  # fmt: skip
        facts = {name: fact for name, fact in written.items() if fact is not None}
        report = bench_files(
            [search.float_file, *(fact[0] for fact in facts.values())],
            Axes(threads=search.threads, batch=(shapes[0][0][0],), input_shapes=shapes),
            names=["float", *facts],
            cold_starts=False,
            budget_s=budget_s * len(facts),
            seed=search.seed,
        )
    tried = tuple(
        TriedPlan(ratio.b, len(plans[ratio.b]), 1 / ratio.ratio, 1 / ratio.high, 1 / ratio.low, *facts[ratio.b][1:])
        for ratio in report.ratios
    )
    return plans[min(tried, key=lambda own: own.ratio).name], tried


def _written(search: Search, kept: Sequence[str], path: Path) -> tuple[Path, float, float | None] | None:
    """The file of a plan, its signal over noise without corrections, and its share of multiply-adds in integers."""
    from bnfold.export import save
    from bnfold.quantisation.measure_error import output_errors
    from bnfold.quantisation.quantise import quantise

    calibration = {name: array[:N_RANGES] for name, array in search.samples.calibration.items()}
    few = dataclasses.replace(search.samples, calibration=calibration)
    try:
        made = quantise(
            search.folded, few, search.specs, weights=search.weights, target=search.target, keep_float=kept, kept={},
            correct_biases=False, choose_units=False, threads=search.threads, where=search.where,
        )  # fmt: skip
    except InputRefused as refused:
        log.info("a plan is left out: %s", refused)
        return None
    save(made.model, path)
    errors = output_errors(path, search.float_file, few.held_out, search.specs, threads=search.threads)
    share = share_in_integers(made.reference, [node.name for node in made.recipe.nodes])
    return path, min(error.sqnr_db for error in errors), share


def share_in_integers(reference: onnx.ModelProto, nodes: Sequence[str]) -> float | None:
    """The share of the multiply-adds that are computed in integers; None where no size is known.

    Args:
        reference: the prepared float graph.
        nodes: the names of those in integers.
    """
    import onnx.shape_inference
    import onnx_ir as ir

    from bnfold.quantisation.plans import multiply_adds

    counts = multiply_adds(ir.from_proto(onnx.shape_inference.infer_shapes(reference, data_prop=True)).graph)
    total = sum(counts.values())
    return sum(counts.get(name, 0) for name in set(nodes)) / total if total else None
