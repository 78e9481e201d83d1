"""From a folded float graph and samples to the float16 graph and its recipe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.quantisation.half.islands import islands
from bnfold.quantisation.half.units import choose_powers
from bnfold.quantisation.half.write import write_half
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.quantise import kept_layers
from bnfold.records.quantisation import GaugeFacts
from bnfold.records.recipes import HalfRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.quantisation.samples import Samples
    from bnfold.records import InputSpec

__all__ = ["Half", "to_half"]


@dataclasses.dataclass(frozen=True)
class Half:
    """The float16 model, and what it was made with.

    Attributes:
        model: the file.
        recipe: all that it was made with, besides
        source: the folded graph, prepared, in the units that it came in.
        reference: the same in the units of the file, in float32.
        gauge: whether these are others.
    """

    model: onnx.ModelProto
    recipe: HalfRecipe
    reference: onnx.ModelProto
    source: onnx.ModelProto
    gauge: GaugeFacts


def to_half(
    folded: onnx.ModelProto,
    samples: Samples,
    inputs: Sequence[InputSpec],
    *,
    keep_float: Sequence[str] = (),
    choose_units: bool = True,
    threads: int | None = None,
    where: str = "the network",
) -> Half:
    """Write a folded graph in float16, with float32 where values or parameters leave its range.

    Args:
        folded: the float32 graph, opset 13 or newer; unchanged.
        samples: whose ranges are judged.
        inputs: of the graph.
        keep_float: layers that stay in float32, see `bnfold.quantisation.quantise.kept_layers`.
        choose_units: whether channels may be stored in units of powers of two.
        threads: of one operator of ONNX Runtime.
        where: the source, for messages.

    Raises:
        InputRefused: the graph is quantised already, has nothing in float32, or a layer that is to stay is unknown; or
            a value is not finite in float32 on the samples.
    """
    model = prepared(folded, where=where)
    opset = model.opset_imports.get("", 0)
    asked = kept_layers(model.graph, keep_float, where)
    units = choose_powers(model, samples.calibration, inputs, change=choose_units, threads=threads)
    reasons = islands(model.graph, opset, units.peaks, asked)
    reference = _proto(model)
    write_half(model, opset, reasons)
    made = _proto(model)
    if not any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in made.graph.initializer):
        raise InputRefused(
            "no parameter can be stored in float16", where=where,
            found="; ".join(sorted({str(reason) for reason in reasons.values()})) or "no parameter in float32",
            expected="at least one operator in float32 with parameters", remedy="keep the float file",
        )  # fmt: skip
    onnx.checker.check_model(made, full_check=True)
    gauge = GaugeFacts(taken=units.n_moved > 0, predicted_gain_db=None, n_classes=units.n_classes)
    recipe = HalfRecipe(units.scales, reasons, units.peaks)
    return Half(made, recipe, reference, _proto(prepared(folded, where=where)), gauge)


def _proto(model: ir.Model) -> onnx.ModelProto:
    """The file, without shapes that may be stale."""
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto
