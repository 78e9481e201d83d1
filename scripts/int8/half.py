"""float16 of a network that was trained, its channels stored 2^U(6,14) times as large: with and without other units.

    python scripts/int8/half.py RUN SAMPLES.npz [--n 200]

RUN is a run folder of a classifier of convolutions (`bnfold train models/resnet.py`), SAMPLES.npz holds `x_test`,
images of 0 to 255. The files are run in PyTorch's half precision, operator by operator, so that overflow shows.
Printed: the samples whose logits are not finite, signal over noise of the others, and whether the float32 graph gives
the same bits before and after its units were changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch.nn import functional

from bnfold.quantisation.gauge import free_classes, in_units
from bnfold.quantisation.half.convert import to_half
from bnfold.quantisation.measure_error import sqnr_db
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.samples import split_samples
from bnfold.runtime import open_session
from bnfold.sources import load_source
from bnfold.workflows.conversion import convert
from bnfold.workflows.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable


def run_half(model: ModelProto, x: np.ndarray) -> np.ndarray:
    """The output of a graph in PyTorch, every tensor of floats in half precision."""
    values = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in model.graph.initializer}
    values = {name: value.half() if value.is_floating_point() else value for name, value in values.items()}
    values[model.graph.input[0].name] = torch.from_numpy(x).half()
    for node in model.graph.node:
        values[node.output[0]] = _apply(node, [values[name] for name in node.input if name])
    return np.asarray(values[model.graph.output[0].name].float().numpy())


def _apply(node: NodeProto, inputs: list[torch.Tensor]) -> torch.Tensor:
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    first = inputs[0]
    if node.op_type == "Conv":
        pads = attributes.get("pads", [0, 0, 0, 0])
        if pads[:2] != pads[2:]:
            raise ValueError(f"{node.name} is padded by {pads}, which this script does not know")
        bias = inputs[2] if len(inputs) > 2 else None
        stride, groups = attributes.get("strides", [1, 1]), attributes.get("group", 1)
        return functional.conv2d(first, inputs[1], bias, stride=stride, padding=pads[:2], groups=groups)
    if node.op_type == "Gemm":
        weight = inputs[1] if attributes.get("transB", 0) else inputs[1].T
        return functional.linear(first, weight, inputs[2] if len(inputs) > 2 else None)
    simple = {
        "Relu": lambda: torch.relu(first),
        "Add": lambda: first + inputs[1],
        "GlobalAveragePool": lambda: first.mean(dim=(2, 3), keepdim=True),
        "Flatten": lambda: first.flatten(1),
        "Reshape": lambda: first.flatten(1),
        "Cast": lambda: first,  # all is half here
    }
    return simple[node.op_type]()


def main(show: Callable[[str], None] = print) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--n", type=int, default=200)
    arguments = parser.parse_args()
    source = load_source(str(arguments.run))
    folded = convert(source, Stopwatch(lambda _: None), opset=None, static_batch=None, provider="cuda").folded
    with np.load(arguments.samples) as data:
        images = data["x_test"][: 2 * arguments.n].astype(np.float32) / 255
    images = (images - images.mean()) / images.std()
    name = folded.graph.input[0].name
    samples = split_samples({name: images[arguments.n :]}, seed=0, where=str(arguments.samples))
    judged = images[: arguments.n]
    model = prepared(folded, where=str(arguments.run))
    in_units(model, 2.0 ** np.random.default_rng(0).uniform(6, 14, free_classes(model)))
    large = ir.to_proto(model)
    del large.graph.value_info[:]
    exact = open_session(folded.SerializeToString(), threads=1).run(None, {name: judged})[0].astype(np.float64)
    made = to_half(large, samples, source.inputs, threads=1)
    bits = [
        open_session(graph.SerializeToString(), threads=1, optimized=optimized).run(None, {name: judged})[0]
        for graph in (made.source, made.reference)
        for optimized in (False, True)
    ]
    show(f"float32 bits the same: {np.array_equal(bits[0], bits[2])}, optimized: {np.array_equal(bits[1], bits[3])}")
    for called, graph in (("as it is", large), ("in other units", made.model)):
        found = run_half(graph, judged)
        finite = np.isfinite(found).all(axis=1)
        errors = exact[finite] - found[finite]
        line = f"{called:15} {int((~finite).sum())} of {len(found)} samples not finite"
        if finite.any():
            line += f", the others {sqnr_db(float((exact[finite] ** 2).sum()), float((errors**2).sum())):.1f} dB"
        show(line)
    show(f"in float32: {dict(made.recipe.reasons) or None}")


if __name__ == "__main__":
    main()
