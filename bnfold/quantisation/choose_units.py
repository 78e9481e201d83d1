"""Other units of the channels, taken where they were measured to make less noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.quantisation.calibrate import observe_channels
from bnfold.quantisation.calibrated import Work, calibrated, measured_noise
from bnfold.quantisation.gauge import choose_gauge, in_units, with_statistics
from bnfold.records.quantisation import GaugeFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records.recipes import Recipe

__all__ = ["N_STATISTICS", "Units", "units_worth_taking"]

LEAST_GAIN_DB = 0.9
"""Below the decibel that a file may depend on the units it came in: of a ResNet 0.99 dB were predicted here, and
1.04 dB came after its units had been changed."""
N_STATISTICS = 32  # samples that the units are chosen by
ROUNDS = 2  # by the model of noise, and from there again by the noise that is measured


@dataclasses.dataclass(frozen=True)
class Units:
    """Other units of the channels, and whether they are worth taking."""

    model: ir.Model
    scales: Mapping[str, np.ndarray]
    facts: GaugeFacts


def units_worth_taking(
    model: ir.Model, recipe: Recipe, work: Work, known: Mapping[str, np.ndarray] | None, *, correct_biases: bool
) -> Units:
    """The units of least noise; they are taken where they gain more than 0.9 dB on the samples held out.

    First those of the model of noise; near these, the noise of each place says where the model is wrong, and units are
    searched once more. Both files are measured, and the better one is taken.

    Args:
        model: the prepared float graph; unchanged.
        recipe: what is in integers.
        work: samples and inputs.
        known: sensitivities of values by name, from gradients.
        correct_biases: as in the file.
    """
    first = {name: array[:N_STATISTICS] for name, array in work.samples.calibration.items()}
    best, before, gain = Units(model, {}, _facts(0.0, 0)), 0.0, 0.0
    start, scales, total = model, dict[str, np.ndarray](), np.ones(1)
    for k in range(ROUNDS):
        wanted = with_statistics(recipe, start.graph)
        statistics = observe_channels(start, wanted, first, work.inputs, threads=work.threads)
        seen = measured_noise(start, recipe, work) if k else None
        chosen = choose_gauge(start, recipe, statistics, _in_units(known, scales), seen)
        if not chosen.n_classes:
            break
        if not k:
            before = calibrated(model, recipe, work, correct_biases=correct_biases).sqnr_db
        start, total = model.clone(), total * chosen.by_class
        scales = in_units(start, total)  # from the first graph: its parameters are rounded once
        gain = calibrated(start, recipe, work, correct_biases=correct_biases).sqnr_db - before
        if not best.facts.taken or gain > (best.facts.predicted_gain_db or 0.0):
            facts = _facts(gain, chosen.n_classes)
            best = Units(start, scales, facts) if facts.taken else Units(model, {}, facts)
    return best


def _facts(gain: float, n_classes: int) -> GaugeFacts:
    return GaugeFacts(taken=gain > LEAST_GAIN_DB, predicted_gain_db=round(gain, 3), n_classes=n_classes)


def _in_units(
    known: Mapping[str, np.ndarray] | None, scales: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray] | None:
    """Sensitivities of values that are stored in other units, s / a^2; where a is unknown they are left out."""
    if known is None or not scales:
        return known
    return {name: s / scales[name] ** 2 for name, s in known.items() if name in scales}
