"""From a folded float graph and samples to the quantised graph and its recipe."""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.quantisation.calibrate import observe
from bnfold.quantisation.correct import bias_corrections, corrected_inputs, samples_that_fit
from bnfold.quantisation.placement import integer_inputs, place
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.write import write
from bnfold.records.quantisation import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec
    from bnfold.records.quantisation import IntegerNode, PrecisionReason, Target, WeightScales

__all__ = ["WEIGHT_LIMITS", "Quantised", "kept_layers", "layer_of_node", "quantise"]

WEIGHT_LIMITS: Mapping[str, int] = {"x86-vnni": 127, "arm": 127, "x86": 63}
"""Without VNNI an x86 processor adds two products u8 s8 in 16 bits: 2 * 255 * 63 < 2^15 < 2 * 255 * 127."""

log = logging.getLogger("bnfold.quantisation")


@dataclasses.dataclass(frozen=True)
class Quantised:
    """The quantised model, what it was made with, and the float graph that its names are those of."""

    model: onnx.ModelProto
    recipe: Recipe
    reference: onnx.ModelProto


def quantise(
    folded: onnx.ModelProto,
    samples: Samples,
    inputs: Sequence[InputSpec],
    *,
    weights: WeightScales = "per-channel",
    target: Target = "x86-vnni",
    keep_float: Sequence[str] = (),
    correct_biases: bool = True,
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
        correct_biases: whether what layers are off by on average goes into their biases.
        threads: of one operator of ONNX Runtime.
        where: the source, for messages.

    Raises:
        InputRefused: the graph is quantised already, has nothing to quantise, or a layer that is to stay float is
            unknown; or a value is not finite on the samples.
    """
    model = prepared(folded, where=where)
    kept: dict[str, PrecisionReason] = dict.fromkeys(kept_layers(model.graph, keep_float, where), "asked")
    placement = place(model.graph, kept)
    if not any(plan.op in ("Conv", "Gemm", "MatMul") for plan in placement.nodes.values()):
        raise InputRefused(
            "no layer can be computed in integers", where=where,
            found="; ".join(sorted({f"{reason}" for reason in placement.reasons.values()})) or "no layer with weights",
            expected="at least one Conv, Gemm or MatMul with constant weights in float32",
            remedy="keep the float file",
        )  # fmt: skip
    names = _own_ranges(model.graph, placement.nodes)
    recipe = Recipe(
        tuple(placement.nodes.values()),
        dict.fromkeys(names, (-1.0, 1.0)),  # until they are observed
        weights=weights,
        weight_limit=WEIGHT_LIMITS[target],
        reasons=placement.reasons,
    )
    calibration = samples.calibration
    rows_first = all(spec.batch_axis in (0, None) for spec in inputs)
    read = sorted(set(corrected_inputs(model, recipe).values())) if correct_biases and rows_first else []
    n = samples_that_fit(model, recipe, calibration, inputs, threads) if read else 0
    fixed = next((spec.fixed_batch for spec in inputs if spec.fixed_batch), 1)
    n -= n % fixed if n > fixed else 0
    if read and n < samples.n:
        log.info("biases are corrected on %d of %d samples, which memory holds at once", n, samples.n)
    observed = observe(
        model, [*names, *(set(read) - set(names))], calibration, inputs, means=read, n_means=n, threads=threads
    )
    recipe = dataclasses.replace(recipe, ranges={name: observed[name].range for name in names})
    if read:
        first = {name: array[:n] for name, array in calibration.items()}
        corrections = bias_corrections(model, recipe, first, inputs, observed, threads=threads)
        recipe = dataclasses.replace(recipe, corrections=corrections)
    reference = ir.to_proto(model)
    del reference.graph.value_info[:]
    return Quantised(_finished(write(model, recipe).model), recipe, reference)


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
                "there is no such layer", where=where, found=layer, expected=", ".join(some[:8]) + ", ...",
                remedy="name one of the report's layers with --keep-float",
            )  # fmt: skip
        found += own
    return found


def _own_ranges(graph: ir.Graph, nodes: Mapping[str, IntegerNode]) -> list[str]:
    """The values that have a scale of their own, in graph order: outputs of integer kernels, and inputs from float."""
    own = {plan.output for plan in nodes.values() if plan.grid == "own"}
    written = {plan.output for plan in nodes.values() if plan.grid != "none"}
    read = [str(value.name) for node in graph if str(node.name) in nodes for value in integer_inputs(node)]
    ordered = [str(value.name) for value in graph.inputs]
    ordered += [str(value.name) for node in graph for value in node.outputs]
    wanted = own | {name for name in read if name not in written}
    return [name for name in ordered if name in wanted]


def _finished(model: ir.Model) -> onnx.ModelProto:
    """The file: checked, without shapes that may be stale."""
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
    return proto
