"""From a folded float graph and samples to the quantised graph and its recipe."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.quantisation.calibrate import observe, observe_channels
from bnfold.quantisation.cheapest import float_by_cost, float_by_error
from bnfold.quantisation.correct import bias_corrections, corrected_inputs, samples_that_fit
from bnfold.quantisation.digits import attach_digits
from bnfold.quantisation.first_recipe import recipe_of
from bnfold.quantisation.gauge import choose_gauge, with_statistics
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.noise_by_layer import noise_by_layer
from bnfold.quantisation.operators import WEIGHTED
from bnfold.quantisation.pixels import BYTES, with_pixels
from bnfold.quantisation.placement import place
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.write import write
from bnfold.records.quantisation import GaugeFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec
    from bnfold.records.certificate import Exact
    from bnfold.records.recipes import PrecisionReason, Recipe, Target, WeightScales

__all__ = ["Quantised", "kept_layers", "layer_of_node", "quantise"]

LEAST_GAIN_DB = 1.0
N_STATISTICS = 32  # samples that the units are chosen by
N_NOISE = 4  # samples that noise is measured on, layer by layer

log = logging.getLogger("bnfold.quantisation")


@dataclasses.dataclass(frozen=True)
class Quantised:
    """The quantised model, and what it was made with.

    Attributes:
        model: the file.
        recipe: all that it was made with, besides
        source: the folded graph, prepared, in the units that it came in.
        reference: the same in the units of the file.
        gauge: whether these are others.
        digits: float64 digits of the parameters of `source`, by name, that the integers were rounded from.
    """

    model: onnx.ModelProto
    recipe: Recipe
    reference: onnx.ModelProto
    source: onnx.ModelProto
    gauge: GaugeFacts
    digits: Mapping[str, Exact] = dataclasses.field(default_factory=dict)


def quantise(
    folded: onnx.ModelProto,
    samples: Samples,
    inputs: Sequence[InputSpec],
    *,
    weights: WeightScales = "per-channel",
    target: Target = "x86-vnni",
    keep_float: Sequence[str] = (),
    kept: Mapping[str, PrecisionReason] | None = None,
    correct_biases: bool = True,
    choose_units: bool = True,
    sensitivities: Mapping[str, np.ndarray] | None = None,
    digits: Mapping[str, Exact] | None = None,
    threads: int | None = None,
    where: str = "the network",
) -> Quantised:
    """Quantise a folded graph.

    Args:
        folded: the float graph, opset 13 or newer; unchanged.
        samples: that give ranges and corrections.
        inputs: of the graph.
        weights: one scale for each output channel of a weight, or one for all.
        target: the processor that the file is for.
        keep_float: layers that stay float, as `kept_layers` reads them.
        kept: nodes that stay float for other reasons; None for those where integers are slower, or make more noise
            than the time that they save is worth.
        correct_biases: whether what layers are off by on average goes into their biases.
        choose_units: whether channels may be stored in other units, where that makes less noise.
        sensitivities: of the outputs to values of the graph, by name, from gradients; the others are propagated.
        digits: float64 digits of the graph's parameters, by name, see `Certificate.parameters`.
        threads: of one operator of ONNX Runtime.
        where: the source, for messages.

    Raises:
        InputRefused: the graph is quantised already, has nothing to quantise, or a layer that is to stay float is
            unknown; or a value is not finite on the samples.
    """
    model = prepared(folded, where=where)
    attach_digits(model.graph, digits or {})
    asked: dict[str, PrecisionReason] = dict.fromkeys(kept_layers(model.graph, keep_float, where), "asked")
    fastest = float_by_cost(model.graph, target, asked) if kept is None else ()
    placement = place(model.graph, {**(kept or {}), **dict.fromkeys(fastest, "cost"), **asked})
    if not any(plan.op in WEIGHTED for plan in placement.nodes.values()):
        raise InputRefused(
            "no layer can be computed in integers", where=where,
            found="; ".join(sorted({f"{reason}" for reason in placement.reasons.values()})) or "no layer with weights",
            expected="at least one Conv, Gemm or MatMul with constant weights in float32",
            remedy="keep the float file",
        )  # fmt: skip
    recipe = with_pixels(recipe_of(model.graph, placement, weights=weights, target=target), model.graph)
    work = _Work(samples, inputs, threads)
    chosen = (
        _gauge_worth_taking(model, recipe, work, sensitivities, correct_biases=correct_biases) if choose_units else None
    )
    gauge = GaugeFacts(taken=False, predicted_gain_db=None, n_classes=0)
    if chosen is not None:
        gauge = chosen.facts
        if gauge.taken:
            model, recipe = chosen.model, dataclasses.replace(recipe, gauge=chosen.scales)
    if kept is None:
        recipe = _without_the_noisiest(model, recipe, work, target, asked)
    recipe = _calibrated(model, recipe, work, correct_biases=correct_biases)
    reference = ir.to_proto(model)
    del reference.graph.value_info[:]
    source = ir.to_proto(prepared(folded, where=where)) if gauge.taken or recipe.pixels else reference
    return Quantised(_finished(write(model, recipe).model), recipe, reference, source, gauge, digits or {})


@dataclasses.dataclass(frozen=True)
class _Work:
    samples: Samples
    inputs: Sequence[InputSpec]
    threads: int | None


@dataclasses.dataclass(frozen=True)
class _Units:
    """Other units of the channels, and whether they are worth taking."""

    model: ir.Model
    scales: Mapping[str, np.ndarray]
    facts: GaugeFacts


def _gauge_worth_taking(
    model: ir.Model, recipe: Recipe, work: _Work, known: Mapping[str, np.ndarray] | None, *, correct_biases: bool
) -> _Units:
    """The units of least noise; they are taken where they gain more than a decibel on the samples held out."""
    first = {name: array[:N_STATISTICS] for name, array in work.samples.calibration.items()}
    wanted = with_statistics(recipe, model.graph)
    statistics = observe_channels(model, wanted, first, work.inputs, threads=work.threads)
    chosen = choose_gauge(model, recipe, statistics, known)
    gain = min(chosen.gain_db, LEAST_GAIN_DB)
    if chosen.gain_db > LEAST_GAIN_DB:
        few = dataclasses.replace(work, samples=dataclasses.replace(work.samples, calibration=first))
        exact = ir.to_proto(model).SerializeToString()
        found = []
        for own in (model, chosen.model):
            ranged = _calibrated(own, recipe, few, correct_biases=correct_biases)
            file = _finished(write(own.clone(), ranged).model).SerializeToString(deterministic=True)
            errors = output_errors(file, exact, work.samples.held_out, work.inputs, threads=work.threads)
            found.append(min(error.sqnr_db for error in errors))
        gain = found[1] - found[0]
    facts = GaugeFacts(taken=gain > LEAST_GAIN_DB, predicted_gain_db=round(gain, 3), n_classes=chosen.n_classes)
    return _Units(chosen.model, chosen.scales, facts)


def _without_the_noisiest(
    model: ir.Model, recipe: Recipe, work: _Work, target: Target, asked: Mapping[str, PrecisionReason]
) -> Recipe:
    """The recipe, the layers left float too whose noise outweighs the time that integers save."""
    everything = recipe_of(model.graph, place(model.graph, asked), weights=recipe.weights, target=target)
    few = {name: array[:N_NOISE] for name, array in work.samples.calibration.items()}
    observed = observe(model, list(everything.ranges), few, work.inputs, threads=work.threads)
    everything = dataclasses.replace(everything, ranges={name: observed[name].range for name in everything.ranges})
    noise = noise_by_layer(model, everything, few, work.inputs, threads=work.threads)
    fastest = [name for name, reason in recipe.reasons.items() if reason == "cost"]
    left = float_by_error(model.graph, target, noise, fastest, asked)
    reasons: dict[str, PrecisionReason] = {name: "cost" if name in fastest else "error" for name in left}
    placement = place(model.graph, {**reasons, **asked})
    found = recipe_of(model.graph, placement, weights=recipe.weights, target=target)
    return dataclasses.replace(found, gauge=recipe.gauge)


def _calibrated(model: ir.Model, recipe: Recipe, work: _Work, *, correct_biases: bool) -> Recipe:
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
    ranges = {name: observed[name].range for name in names}
    for name, scale in recipe.pixels.items():
        ranges[name] = (min(ranges[name][0], BYTES[0]), max(ranges[name][1], BYTES[1], float(scale.max())))
    recipe = dataclasses.replace(recipe, ranges=ranges)
    if not read:
        return recipe
    first = {name: array[:n] for name, array in samples.items()}
    corrections = bias_corrections(model, recipe, first, inputs, observed, threads=threads)
    return dataclasses.replace(recipe, corrections=corrections)


def layer_of_node(name: str) -> str:
    """The layer of a node that is called LAYER/OPERATOR, else the node's name."""
    return name.rpartition("/")[0] or name


def kept_layers(graph: ir.Graph, layers: Sequence[str], where: str) -> list[str]:
    """The nodes of layers: a layer, all that a module holds (`layer4`), or a node by its name.

    Raises:
        InputRefused: there is no such layer.
    """
    names = [str(node.name) for node in graph]
    found = []
    for layer in layers:
        own = [name for name in names if name == layer or f"{layer_of_node(name)}.".startswith(f"{layer}.")]
        if not own:
            some = list(dict.fromkeys(layer_of_node(name) for name in names))
            raise InputRefused(
                "no such layer", where=where, found=layer, expected=", ".join(some[:8]) + ", ...",
                remedy="name one of the report's layers with --keep-float",
            )  # fmt: skip
        found += own
    return found


def _finished(model: ir.Model) -> onnx.ModelProto:
    """The file: checked, without shapes that may be stale."""
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    return proto
