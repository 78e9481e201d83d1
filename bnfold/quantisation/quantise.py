"""From a folded float graph and samples to the quantised graph and its recipe."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.quantisation.calibrated import Work, calibrated, finished, measured_noise
from bnfold.quantisation.cheapest import float_by_cost, float_by_error
from bnfold.quantisation.choose_units import units_worth_taking
from bnfold.quantisation.digits import attach_digits
from bnfold.quantisation.first_recipe import recipe_of
from bnfold.quantisation.operators import WEIGHTED
from bnfold.quantisation.pixels import with_pixels
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
    _refuse_labels(model.graph, where)
    recipe = with_pixels(recipe_of(model.graph, placement, weights=weights, target=target), model.graph)
    work = Work(samples, inputs, threads)
    chosen = (
        units_worth_taking(model, recipe, work, sensitivities, correct_biases=correct_biases) if choose_units else None
    )
    gauge = GaugeFacts(taken=False, predicted_gain_db=None, n_classes=0)
    if chosen is not None:
        gauge = chosen.facts
        if gauge.taken:
            model, recipe = chosen.model, dataclasses.replace(recipe, gauge=chosen.scales)
    if kept is None:
        recipe = _without_the_noisiest(model, recipe, work, target, asked)
    recipe = calibrated(model, recipe, work, correct_biases=correct_biases).recipe
    reference = ir.to_proto(model)
    del reference.graph.value_info[:]
    source = ir.to_proto(prepared(folded, where=where)) if gauge.taken or recipe.pixels else reference
    return Quantised(finished(write(model, recipe).model), recipe, reference, source, gauge, digits or {})


def _refuse_labels(graph: ir.Graph, where: str) -> None:
    """Refuse a network of which no output is a float: by labels alone nothing tells what the file loses.

    Raises:
        InputRefused: as said.
    """
    if not any(value.dtype is None or value.dtype.is_floating_point() for value in graph.outputs):
        raise InputRefused(
            "no output of the network is a float, so that nothing tells what integers lose", where=where,
            found=", ".join(f"{value.name} {value.dtype}" for value in graph.outputs), expected="scores",
            remedy="give the network without the ArgMax or Cast at its end, or keep the float file",
        )  # fmt: skip


def _without_the_noisiest(
    model: ir.Model, recipe: Recipe, work: Work, target: Target, asked: Mapping[str, PrecisionReason]
) -> Recipe:
    """The recipe, the layers left float too whose noise outweighs the time that integers save."""
    tried = model.clone()  # whose pixels are read in integers, also where those of the file are not
    everything = recipe_of(tried.graph, place(tried.graph, asked), weights=recipe.weights, target=target)
    noise = measured_noise(tried, with_pixels(everything, tried.graph), work)
    fastest = [name for name, reason in recipe.reasons.items() if reason == "cost"]
    left = float_by_error(model.graph, target, noise, fastest, asked)
    reasons: dict[str, PrecisionReason] = {name: "cost" if name in fastest else "error" for name in left}
    placement = place(model.graph, {**reasons, **asked})
    found = with_pixels(recipe_of(model.graph, placement, weights=recipe.weights, target=target), model.graph)
    return dataclasses.replace(found, gauge=recipe.gauge)


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
