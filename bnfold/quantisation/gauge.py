"""Units of the channels that make least quantisation noise: the same function, with weights W' = a_y W / a_x.

The fold core says which channels share their units (`bnfold.folding.classes`): a residual stream, what is concatenated
or gated, what a Clip's bounds hold fast. Each class is free to be stored a times as large, a > 0, and the noise of the
file depends on it (`noise.py`). The result does not depend on the units that a network happened to be trained in.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.folding.apply import apply_choice, plan_parameters
from bnfold.folding.choose import Choice
from bnfold.folding.classes import classify
from bnfold.folding.gauge import Gauge
from bnfold.folding.relate import relate_graph
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure
from bnfold.graph.constants import attribute, parameter, round_constants
from bnfold.graph.operators import kind_of
from bnfold.quantisation.digits import digits_to_units
from bnfold.quantisation.noise import ActivationNoise, WeightNoise, least_noise, noise
from bnfold.quantisation.operators import WEIGHTED, channel_axis
from bnfold.quantisation.sensitivity import channels_of, sensitivities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.folding.units import Units
    from bnfold.quantisation.calibrate import ChannelStatistics
    from bnfold.quantisation.noise import Term
    from bnfold.quantisation.noise_by_layer import NoiseByLayer
    from bnfold.records.recipes import Recipe

__all__ = ["Chosen", "choose_gauge", "free_classes", "in_units", "unit_classes", "with_statistics"]

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The graph in other units.

    Attributes:
        model: the same function.
        scales: a of what layers read and write, by the value's name, one number for each channel; 1 where absent.
        gain_db: how much less noise that makes, as far as the model of it says.
        n_classes: of channels whose units are free.
        by_class: a of every class of `free_classes`.
    """

    model: ir.Model
    scales: Mapping[str, Array]
    gain_db: float
    n_classes: int
    by_class: Array


def choose_gauge(
    model: ir.Model,
    recipe: Recipe,
    statistics: Mapping[str, ChannelStatistics],
    measured: Mapping[str, Array] | None = None,
    noise_of: NoiseByLayer | None = None,
) -> Chosen:
    """The units of least noise, and the graph in them.

    What the model of noise leaves out (a wrong weight is wrong at all positions alike, which a mean over space does not
    take away) is measured: each term is scaled to the noise that its place was seen to make.

    Args:
        model: the prepared float graph; unchanged.
        recipe: what is in integers.
        statistics: of every value that has a scale of its own or that a layer reads, by name.
        measured: sensitivities of values by name, see `sensitivities`.
        noise_of: each place, as the network is; None takes the model's.
    """
    model = model.clone()
    units, classes = unit_classes(model.graph)
    named = _terms(model.graph, recipe, statistics, _Ids(units, classes), measured)
    terms = _as_measured(named, noise_of, len(classes)) if noise_of is not None else [term for _, term in named]
    known = np.unique(np.concatenate([np.zeros(1, np.int64), *(_classes_of(term) for term in terms)]))
    number = np.zeros(int(classes.max()) + 1, np.int64)
    number[known] = np.arange(len(known))  # classes that no term knows keep their units
    terms = [_renumbered(term, number) for term in terms]
    u = least_noise(terms, len(known))
    before, after = noise(terms, np.zeros(len(known))), noise(terms, u)
    gain = 10 * math.log10(before / after) if after > 0 else 0.0
    by_class = np.exp(u)[number]
    return Chosen(model, in_units(model, by_class), gain, len(known) - 1, by_class)


def in_units(model: ir.Model, scale: Array) -> dict[str, Array]:
    """Store every class of channels `scale` times as large, in place; a of what layers read and write, by name.

    Args:
        model: a prepared float graph.
        scale: above 0, by class of `free_classes`; that of class 0 counts as 1.
    """
    failed: dict[ir.Node, Failure] = {}
    while True:
        units, classes = unit_classes(model.graph, failed)
        wide = np.concatenate([[1.0], scale[1:]])[classes] if int(classes.max()) < len(scale) else np.ones(len(classes))
        nothing = np.zeros_like(wide)
        choice = Choice(Gauge(units, wide, nothing, nothing, 1 / wide), (), ())
        plan, news = plan_parameters(model.graph, choice)
        if not news:
            break
        failed |= news
        scale = np.ones(units.n_ids)  # what is pinned now changes the numbers of the classes: nothing is changed
    scales = {}
    for node in model.graph:
        if kind_of(node) in WEIGHTED:
            for value in (node.inputs[0], node.outputs[0]):
                if value is not None and value in units.ids and not choice.gauge.trivial(value):
                    axis = kind_of(node).channels or 1
                    length = channels_of(value) if axis == 1 else int(value.shape[-1])  # type: ignore[index,arg-type]
                    scales[str(value.name)] = choice.gauge.write(value, axis, length)[0].copy()
    apply_choice(model.graph, choice, plan)
    round_constants(model.graph)
    digits_to_units(model.graph, scales)
    return scales


def free_classes(model: ir.Model) -> int:
    """How many classes of channels there are, the pinned class 0 included."""
    return int(unit_classes(model.graph)[1].max()) + 1


def unit_classes(graph: ir.Graph, failed: Mapping[ir.Node, Failure] | None = None) -> tuple[Units, Array]:
    """The units of a graph, and the class of each id; what a BatchNorm that stayed relates is free on both sides."""
    units = relate_graph(graph, failed)
    return units, classify(units).scale


def _terms(
    graph: ir.Graph,
    recipe: Recipe,
    statistics: Mapping[str, ChannelStatistics],
    ids: _Ids,
    measured: Mapping[str, Array] | None,
) -> list[tuple[str, Term]]:
    """What makes noise, by the name of the value or of the layer."""
    positions = {name: own.positions for name, own in statistics.items()}
    s = sensitivities(graph, positions, measured)
    values = {str(value.name): value for node in graph for value in node.outputs}
    values |= {str(value.name): value for value in graph.inputs}
    terms: list[tuple[str, Term]] = []
    for name in recipe.ranges:
        own = statistics.get(name)
        if own is None or name not in s or len(s[name]) != len(own.high):
            continue
        classes = ids.of_channels(values[name], len(own.high))
        if classes is not None:
            terms.append((name, ActivationNoise(classes, -own.low, own.high, s[name] * own.positions)))
    integer = {plan.name for plan in recipe.nodes}
    for node in graph:
        if str(node.name) in integer and kind_of(node) in WEIGHTED:
            term = _weight_term(node, recipe, statistics, ids, s)
            terms += [] if term is None else [(str(node.name), term)]
    return terms


def _as_measured(named: Sequence[tuple[str, Term]], seen: NoiseByLayer, n_classes: int) -> list[Term]:
    """The terms with the noise that was measured; one without takes the typical factor of the others."""
    start = np.zeros(n_classes)
    predicted = [noise([term], start) for _, term in named]
    found = [{**seen.values, **seen.weights}.get(name, 0.0) for name, _ in named]
    factors = [own / own_model for own, own_model in zip(found, predicted, strict=True) if own > 0 and own_model > 0]
    typical = float(np.exp(np.mean(np.log(factors)))) if factors else 1.0
    return [
        dataclasses.replace(
            term, sensitivity=term.sensitivity * (own / own_model if own > 0 and own_model > 0 else typical)
        )
        for (_, term), own, own_model in zip(named, found, predicted, strict=True)
    ]


@dataclasses.dataclass(frozen=True)
class _Ids:
    """The class of each id of a graph's units."""

    units: Units
    classes: Array

    def of_channels(self, value: ir.Value, n: int) -> Array | None:
        """The classes of a value's n channels; None where they do not lie on axis 1."""
        ids = self.units.of(value)
        if ids.ndim < 2:
            return None
        first = self.classes[ids.reshape(ids.shape[0], ids.shape[1], -1)[0, :, 0]]
        return np.broadcast_to(first, (n,)) if first.size in (1, n) else None


def _weight_term(
    node: ir.Node, recipe: Recipe, statistics: Mapping[str, ChannelStatistics], ids: _Ids, s: Mapping[str, Array]
) -> WeightNoise | None:
    x, y = node.inputs[0], node.outputs[0]
    own = None if x is None else statistics.get(str(x.name))
    if x is None or own is None or kind_of(node) == op.MatMul or str(y.name) not in s:
        return None
    w = np.moveaxis(np.abs(parameter(node, 1)), channel_axis(node), 0)
    m, per_group, groups = w.shape[0], w.shape[1], int(attribute(node, "group", 1))
    read, written = ids.of_channels(x, per_group * groups), ids.of_channels(y, m)
    if read is None or written is None or len(own.square) != per_group * groups or len(s[str(y.name)]) != m:
        return None
    taps = math.prod(w.shape[2:])
    out = statistics.get(str(y.name), own)
    return WeightNoise(
        inputs=read.reshape(groups, per_group),
        outputs=written.reshape(groups, -1),
        largest=w.reshape(groups, m // groups, per_group, -1).max(axis=3),
        power=own.square.reshape(groups, per_group) * taps,
        sensitivity=s[str(y.name)].reshape(groups, -1) * out.positions,
        limit=recipe.weight_limit,
        per_tensor=recipe.weights == "per-tensor",
    )


def _classes_of(term: Term) -> Array:
    if isinstance(term, ActivationNoise):
        return term.classes
    return np.concatenate([term.inputs.ravel(), term.outputs.ravel()])


def _renumbered(term: Term, number: Array) -> Term:
    if isinstance(term, ActivationNoise):
        return dataclasses.replace(term, classes=number[term.classes])
    return dataclasses.replace(term, inputs=number[term.inputs], outputs=number[term.outputs])


def with_statistics(recipe: Recipe, graph: ir.Graph) -> Sequence[str]:
    """The values whose statistics `choose_gauge` wants."""
    nodes = {str(node.name): node for node in graph}
    layers = [nodes[plan.name] for plan in recipe.nodes if plan.op in WEIGHTED]
    read = [str(node.inputs[0].name) for node in layers if node.inputs[0] is not None]
    written = [str(node.outputs[0].name) for node in layers]
    return list(dict.fromkeys([*recipe.ranges, *read, *written]))
