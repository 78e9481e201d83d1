"""Other units of the channels, taken where they were measured to make less noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.quantisation.calibrate import observe_channels
from bnfold.quantisation.calibrated import Work, calibrated, finished, measured_noise
from bnfold.quantisation.gauge import choose_gauge, with_statistics
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.write import write
from bnfold.records.quantisation import GaugeFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records.recipes import Recipe

__all__ = ["N_STATISTICS", "Units", "units_worth_taking"]

LEAST_GAIN_DB = 1.0
N_STATISTICS = 32  # samples that the units are chosen by
ROUNDS = 2  # what noise is made of is seen better in units that are near the best


@dataclasses.dataclass(frozen=True)
class Units:
    """Other units of the channels, and whether they are worth taking."""

    model: ir.Model
    scales: Mapping[str, np.ndarray]
    facts: GaugeFacts


def units_worth_taking(
    model: ir.Model, recipe: Recipe, work: Work, known: Mapping[str, np.ndarray] | None, *, correct_biases: bool
) -> Units:
    """The units of least noise; they are taken where they gain more than a decibel on the samples held out.

    Units that gained so much are a better place to look from: they are searched again from there, and the best that was
    measured is taken.

    Args:
        model: the prepared float graph; unchanged.
        recipe: what is in integers.
        work: samples and inputs.
        known: sensitivities of values by name, from gradients.
        correct_biases: as in the file.
    """
    first = {name: array[:N_STATISTICS] for name, array in work.samples.calibration.items()}
    exact = ir.to_proto(model).SerializeToString()

    def measured(own: ir.Model) -> float:
        ranged = calibrated(own, recipe, work, correct_biases=correct_biases)
        file = finished(write(own.clone(), ranged).model).SerializeToString(deterministic=True)
        errors = output_errors(file, exact, work.samples.held_out, work.inputs, threads=work.threads)
        return min(error.sqnr_db for error in errors)

    best, before, n_classes = Units(model, {}, _facts(0.0, 0)), None, 0
    start, scales = model, dict[str, np.ndarray]()
    for _ in range(ROUNDS):
        statistics = observe_channels(
            start, with_statistics(recipe, start.graph), first, work.inputs, threads=work.threads
        )
        chosen = choose_gauge(start, recipe, statistics, _in_units(known, scales), measured_noise(start, recipe, work))
        n_classes = chosen.n_classes
        if before is None and chosen.gain_db <= LEAST_GAIN_DB:
            return Units(model, {}, _facts(chosen.gain_db, n_classes))
        before = measured(model) if before is None else before
        scales = {name: scales.get(name, 1.0) * chosen.scales.get(name, 1.0) for name in {**scales, **chosen.scales}}
        start, gain = chosen.model, measured(chosen.model) - before
        if gain <= LEAST_GAIN_DB:
            break
        if gain > (best.facts.predicted_gain_db or 0.0):
            best = Units(start, scales, _facts(gain, n_classes))
    return best if best.facts.taken else Units(model, {}, _facts(gain, n_classes))


def _facts(gain: float, n_classes: int) -> GaugeFacts:
    return GaugeFacts(taken=gain > LEAST_GAIN_DB, predicted_gain_db=round(gain, 3), n_classes=n_classes)


def _in_units(
    known: Mapping[str, np.ndarray] | None, scales: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray] | None:
    """Sensitivities of values that are stored in other units, s / a^2; where a is unknown they are left out."""
    if known is None or not scales:
        return known
    return {name: s / scales[name] ** 2 for name, s in known.items() if name in scales}
