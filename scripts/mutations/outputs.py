"""Wrong outputs: values, names and types of what leaves the file.

See `mutations.folds` for what a mutation takes and returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from mutations.files import behind, constant, layer
from mutations.networks import copied
from mutations.norms import Mutant

if TYPE_CHECKING:
    from collections.abc import Callable

    from mutations.networks import Subject

__all__ = ["OUTPUTS"]


def output_doubled(subject: Subject) -> Mutant:
    """The first output times 2."""
    model = copied(subject.right)
    name = model.graph.output[0].name
    node = next(node for node in model.graph.node if name in node.output)
    constant(model, "two", np.array(2.0, dtype=np.float32))
    behind(model, node, lambda x, y: [helper.make_node("Mul", [x, "two"], [y], f"{layer(node)}/Mul_two")])
    return Mutant(model, frozenset({layer(node)}))


def outputs_swapped(subject: Subject) -> Mutant | None:
    """Each of two outputs under the other's name."""
    model = copied(subject.right)
    names = [value.name for value in model.graph.output]
    if len(names) != 2:
        return None
    for node in model.graph.node:
        for position, name in enumerate(node.output):
            if name in names:
                node.output[position] = names[1 - names.index(name)]
    return Mutant(model, None)


def output_dropped(subject: Subject) -> Mutant | None:
    """The last of several outputs is missing."""
    model = copied(subject.right)
    if len(model.graph.output) < 2:
        return None
    del model.graph.output[-1]
    return Mutant(model, None)


def output_added(subject: Subject) -> Mutant:
    """The first output comes twice."""
    model = copied(subject.right)
    again = model.graph.output.add()
    again.CopyFrom(model.graph.output[0])
    again.name = f"{again.name}_again"
    model.graph.node.append(helper.make_node("Identity", [model.graph.output[0].name], [again.name], "again"))
    return Mutant(model, None)


def output_renamed(subject: Subject) -> Mutant:
    """The first output under another name."""
    model = copied(subject.right)
    old = model.graph.output[0].name
    model.graph.output[0].name = "renamed"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = "renamed" if name == old else name
    return Mutant(model, None)


def output_in_float64(subject: Subject) -> Mutant:
    """The first output in another format."""
    model = copied(subject.right)
    output = model.graph.output[0]
    output.type.tensor_type.elem_type = TensorProto.DOUBLE
    node = next(node for node in model.graph.node if output.name in node.output)
    behind(model, node, lambda x, y: [helper.make_node("Cast", [x], [y], "to_double", to=TensorProto.DOUBLE)])
    return Mutant(model, None)


OUTPUTS: dict[str, Callable[[Subject], Mutant | None]] = {
    "output doubled": output_doubled,
    "outputs swapped": outputs_swapped,
    "output dropped": output_dropped,
    "output added": output_added,
    "output renamed": output_renamed,
    "output of another dtype": output_in_float64,
}
