"""A recipe with what samples give: ranges, corrections of biases, the noise of each place; and the finished file."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.quantisation.calibrate import observe
from bnfold.quantisation.correct import bias_corrections, corrected_inputs, samples_that_fit
from bnfold.quantisation.noise_by_layer import noise_by_layer
from bnfold.quantisation.pixels import BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.quantisation.calibrate import Observed
    from bnfold.quantisation.noise_by_layer import NoiseByLayer
    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec
    from bnfold.records.recipes import Recipe

__all__ = ["Work", "calibrated", "finished", "measured_noise"]

N_NOISE = 4  # samples that noise is measured on, layer by layer
log = logging.getLogger("bnfold.quantisation")


@dataclasses.dataclass(frozen=True)
class Work:
    """What a graph is calibrated with: samples, the inputs that they are for, threads of one operator."""

    samples: Samples
    inputs: Sequence[InputSpec]
    threads: int | None


def calibrated(model: ir.Model, recipe: Recipe, work: Work, *, correct_biases: bool) -> Recipe:
    """The recipe with the ranges that the samples give, and with corrections."""
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
    recipe = _ranged(recipe, observed)
    if not read:
        return recipe
    first = {name: array[:n] for name, array in samples.items()}
    corrections = bias_corrections(model, recipe, first, inputs, observed, threads=threads)
    return dataclasses.replace(recipe, corrections=corrections)


def measured_noise(model: ir.Model, recipe: Recipe, work: Work) -> NoiseByLayer:
    """What each place in integers makes of noise, on a few samples."""
    few = {name: array[:N_NOISE] for name, array in work.samples.calibration.items()}
    observed = observe(model, list(recipe.ranges), few, work.inputs, threads=work.threads)
    return noise_by_layer(model, _ranged(recipe, observed), few, work.inputs, threads=work.threads)


def _ranged(recipe: Recipe, observed: Mapping[str, Observed]) -> Recipe:
    """The recipe with the ranges that were seen; those of pixels hold every byte."""
    ranges = {name: observed[name].range for name in recipe.ranges}
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
