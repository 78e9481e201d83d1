"""Change an int8 file in one place at a time, and print by which check of its proof the change is caught, and where.

    python scripts/int8/mutants.py MODEL.onnx SAMPLES.npz

MODEL is a folded float file, SAMPLES has an array for each input. All that can be is in integers; the layer that is
changed lies in the middle.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from bnfold.derivation.integers import Derivation
from bnfold.quantisation.kernels import executed_nodes, wrong_kernels
from bnfold.quantisation.prove import compare_with_simulation
from bnfold.quantisation.quantise import quantise
from bnfold.quantisation.samples import batches, split_samples
from bnfold.quantisation.simulate import Simulation
from bnfold.quantisation.stored import bias_name, weight_name
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.quantisation.quantise import Quantised

__all__ = ["MUTANTS", "caught_by", "middle_layer"]


def _copy(made: Quantised) -> ModelProto:
    model = ModelProto()
    model.CopyFrom(made.model)
    return model


def _change(model: ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelProto:
    """Replace an initializer."""
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(change(array.copy()), array.dtype), name))
    return model


def scale_doubled(made: Quantised, layer: str) -> ModelProto:
    """The scale of what the layer writes."""
    return _change(_copy(made), f"{_output(made, layer)}/scale", lambda scale: 2 * scale)


def zero_point_off_by_one(made: Quantised, layer: str) -> ModelProto:
    """The zero point of what the layer writes."""
    return _change(_copy(made), f"{_output(made, layer)}/zero_point", lambda zero: zero + np.where(zero < 255, 1, -1))


def bias_not_corrected(made: Quantised, layer: str) -> ModelProto:
    """The bias of the layer without its correction."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    step = constants[f"{layer}/bias/scale"].astype(np.float64)
    lost = np.rint(made.recipe.corrections[layer] / step).astype(np.int32)
    return _change(_copy(made), bias_name(layer), lambda bias: bias - lost)


def scales_swapped(made: Quantised, layer: str) -> ModelProto:
    """The scales of two channels of the layer's weight."""
    return _change(_copy(made), f"{layer}/weight/scale", lambda scale: scale[[1, 0, *range(2, len(scale))]])


def weights_rounded_down(made: Quantised, layer: str) -> ModelProto:
    """The integers below the weights in place of the nearest."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.reference.graph.initializer}
    node = next(node for node in made.reference.graph.node if node.name == layer)
    w = constants[node.input[1]].astype(np.float64)

    def floor(integers: np.ndarray) -> np.ndarray:
        scale = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
        steps = scale[f"{layer}/weight/scale"].astype(np.float64).reshape(-1, *(1,) * (w.ndim - 1))
        return np.asarray(np.clip(np.floor(w / steps), -127, integers.max()))

    return _change(_copy(made), weight_name(layer), floor)


def quantize_dropped(made: Quantised, layer: str) -> ModelProto:
    """What the layer writes goes on in float: QuantizeLinear and its DequantizeLinears are gone."""
    model = _copy(made)
    quantize = next(node for node in model.graph.node if node.output[0] == f"{_output(made, layer)}/q8")
    real = {node.output[0] for node in model.graph.node if node.input[:1] == [quantize.output[0]]}
    kept = [node for node in model.graph.node if node is not quantize and node.input[:1] != [quantize.output[0]]]
    for node in kept:
        node.input[:] = [quantize.input[0] if name in real else name for name in node.input]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model


def quantised_again(made: Quantised, layer: str) -> ModelProto:
    """Scales per axis in front of the float layer become one: ONNX Runtime quantises the layer's weight again."""
    model = _copy(made)
    node = next(node for node in model.graph.node if node.name == layer)
    before = next(each for each in model.graph.node if node.input[0] in each.output)
    value = before.input[0].removesuffix("/q8")
    before.input[1:] = [f"{value}/scale", f"{value}/zero_point"]
    del before.attribute[:]
    return model


MUTANTS: Mapping[str, Callable[[Quantised, str], ModelProto]] = {
    "a scale doubled": scale_doubled,
    "a zero point off by one": zero_point_off_by_one,
    "a bias not corrected": bias_not_corrected,
    "scales of two channels swapped": scales_swapped,
    "weights rounded down": weights_rounded_down,
    "a QuantizeLinear dropped": quantize_dropped,
    "a float layer quantised again": quantised_again,
}


def caught_by(
    model: ModelProto, made: Quantised, feeds: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, tuple[str, ...]]:
    """What each check says of a file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mutant.onnx"
        onnx.save(model, file)
        return {
            "derivation": tuple(Derivation(made.source, model, made.recipe).differences),
            "optimized graph": wrong_kernels(executed_nodes(file, threads=1), made.recipe),
            "simulation": tuple(compare_with_simulation(file, Simulation(model), feeds, threads=1).failures),
        }


def middle_layer(made: Quantised) -> str:
    """A convolution in integers in the middle that another one reads in integers.

    Left in float, one whose output is not stored in integers, as in front of an addition, is never quantised again.
    """
    layers = [plan.name for plan in made.recipe.nodes if plan.op == "Conv" and _is_read(made, plan.output)]
    return layers[len(layers) // 2]


def _is_read(made: Quantised, value: str) -> bool:
    """Whether a convolution in integers reads a value."""
    integers = {plan.name for plan in made.recipe.nodes if plan.op == "Conv"}
    return any(value in node.input for node in made.reference.graph.node if node.name in integers)


def _output(made: Quantised, layer: str) -> str:
    return next(plan.output for plan in made.recipe.nodes if plan.name == layer)


def main(show: Callable[[str], None] = print) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    arguments = parser.parse_args()
    folded = onnx.load(arguments.model)
    inputs = tuple(
        InputSpec(value.name, tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim), "float32")
        for value in folded.graph.input
    )
    with np.load(arguments.samples) as stored:
        samples = split_samples(
            {name: stored[name][:32] for name in stored.files}, seed=0, where=str(arguments.samples)
        )
    feeds = list(batches({name: array[:1] for name, array in samples.held_out.items()}, inputs, 1))
    made = quantise(folded, samples, inputs, kept={}, threads=1)
    layer = middle_layer(made)
    mixed = quantise(folded, samples, inputs, kept={}, keep_float=[layer], threads=1)
    right = [texts for own in (made, mixed) for texts in caught_by(own.model, own, feeds).values()]
    show(f"as written: {sum(map(len, right))} differences; the layer that is changed: {layer}")
    for name, mutate in MUTANTS.items():
        subject = mixed if mutate is quantised_again else made
        found = caught_by(mutate(subject, layer), subject, feeds)
        by = [check for check, sentences in found.items() if sentences]
        named = any(layer in text or _names(made, layer, text) for texts in found.values() for text in texts)
        show(f"{name:32} {'caught' if by else 'MISSED':7} by {', '.join(by) or '-':40} layer named: {named}")


def _names(made: Quantised, layer: str, text: str) -> bool:
    """Whether a sentence names the layer by what it writes."""
    return text.startswith(_output(made, layer))


if __name__ == "__main__":
    main()
