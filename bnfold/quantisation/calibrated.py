"""A recipe with what samples give: ranges, corrections of biases, the noise of each place; and the finished file."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.quantisation.calibrate import observe
from bnfold.quantisation.correct import bias_corrections, corrected_inputs, samples_that_fit
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.moments import input_moments
from bnfold.quantisation.noise_by_layer import noise_by_layer
from bnfold.quantisation.operators import WEIGHTED
from bnfold.quantisation.pixels import BYTES
from bnfold.quantisation.ranges import ranges_of_least_error
from bnfold.quantisation.write import write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from bnfold.quantisation.noise_by_layer import NoiseByLayer
    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec
    from bnfold.records.recipes import Recipe

__all__ = ["Calibrated", "Work", "calibrated", "finished", "measured_noise"]

N_NOISE = 4  # samples that noise is measured on, layer by layer
log = logging.getLogger("bnfold.quantisation")


@dataclasses.dataclass(frozen=True)
class Work:
    """What a graph is calibrated with: samples, the inputs that they are for, threads of one operator."""

    samples: Samples
    inputs: Sequence[InputSpec]
    threads: int | None


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A recipe with all that samples give, and the least signal over noise of an output on those held out, in dB."""

    recipe: Recipe
    sqnr_db: float


def calibrated(model: ir.Model, recipe: Recipe, work: Work, *, correct_biases: bool) -> Calibrated:
    """The recipe with ranges, moments and corrections.

    Whether ranges that cut rare numbers off are worth it, only the outputs tell: they may be what a network goes by, or
    may not. Both files are measured on the samples held out.
    """
    samples, inputs, threads = work.samples.calibration, work.inputs, work.threads
    names = list(recipe.ranges)
    rows_first = all(spec.batch_axis in (0, None) for spec in inputs)
    read = sorted(set(corrected_inputs(model, recipe).values())) if correct_biases and rows_first else []
    n = samples_that_fit(model, recipe, samples, inputs, threads) if read else 0
    fixed = next((spec.fixed_batch for spec in inputs if spec.fixed_batch), 1)
    n -= n % fixed if n > fixed else 0
    if read and n < work.samples.n:
        log.info("biases are corrected on %d of %d samples, which memory holds at once", n, work.samples.n)
    wanted = [*names, *(set(read) - set(names))]
    observed = observe(model, wanted, samples, inputs, means=read, n_means=n, threads=threads)
    recipe = _with_moments(model, recipe, samples, work, corrected=bool(read))
    first = {name: array[:n] for name, array in samples.items()}
    seen = {name: observed[name].range for name in names}
    exact = ir.to_proto(model).SerializeToString()
    found = []
    for ranges in (seen, _cut(model, seen, samples, work)):
        own = _ranged(recipe, ranges)
        if read:
            corrections = bias_corrections(model, own, first, inputs, observed, threads=threads)
            own = dataclasses.replace(own, corrections=corrections)
        file = finished(write(model.clone(), own).model).SerializeToString(deterministic=True)
        errors = output_errors(file, exact, work.samples.held_out, inputs, threads=threads)
        found.append(Calibrated(own, min(error.sqnr_db for error in errors)))
    return max(found, key=lambda each: each.sqnr_db)


def measured_noise(model: ir.Model, recipe: Recipe, work: Work) -> NoiseByLayer:
    """What each place in integers makes of noise, on a few samples."""
    samples = work.samples.calibration
    few = {name: array[:N_NOISE] for name, array in samples.items()}
    observed = observe(model, list(recipe.ranges), few, work.inputs, threads=work.threads)
    others = {name: array[N_NOISE:] if len(array) > 4 * N_NOISE else array for name, array in samples.items()}
    ranges = _cut(model, {name: observed[name].range for name in recipe.ranges}, few, work)
    recipe = _with_moments(model, _ranged(recipe, ranges), others, work, corrected=True)
    return noise_by_layer(model, recipe, few, work.inputs, threads=work.threads)


def _with_moments(
    model: ir.Model, recipe: Recipe, samples: Mapping[str, np.ndarray], work: Work, *, corrected: bool
) -> Recipe:
    """The recipe with what the weights of layers are multiplied with; about means where biases are corrected."""
    layers = [plan.name for plan in recipe.nodes if plan.op in WEIGHTED]
    about_mean = corrected_inputs(model, recipe) if corrected else ()
    found = input_moments(model, layers, samples, work.inputs, about_mean=about_mean, threads=work.threads)
    return dataclasses.replace(recipe, moments=found)


def _cut(
    model: ir.Model, seen: Mapping[str, tuple[float, float]], samples: Mapping[str, np.ndarray], work: Work
) -> dict[str, tuple[float, float]]:
    """The ranges of least error; inputs of the network keep what was seen, which the report tells samples by."""
    given = {spec.name for spec in work.inputs}
    inner = {name: ends for name, ends in seen.items() if name not in given}
    return {**seen, **ranges_of_least_error(model, inner, samples, work.inputs, threads=work.threads)}


def _ranged(recipe: Recipe, ranges: Mapping[str, tuple[float, float]]) -> Recipe:
    """The recipe with ranges; those of pixels hold every byte."""
    ranges = dict(ranges)
    for name, scale in recipe.pixels.items():
        low, high = ranges.get(name, BYTES)  # none was seen where no integer kernel reads them
        ranges[name] = (min(low, BYTES[0]), max(high, BYTES[1], float(scale.max())))
    return dataclasses.replace(recipe, ranges=ranges)


def finished(model: ir.Model) -> onnx.ModelProto:
    """The file: checked, without shapes that may be stale."""
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    return proto
