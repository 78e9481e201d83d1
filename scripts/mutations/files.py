"""Wrong files: a right fold, spoilt on its way to the file or in it.

See `mutations.folds` for what a mutation takes and returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ml_dtypes import bfloat16
from onnx import TensorProto, helper, numpy_helper

from mutations.networks import copied, parameter, set_parameter
from mutations.norms import Mutant, attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto, NodeProto

    from mutations.networks import Subject

__all__ = ["FILES", "behind", "constant", "layer"]

_LINEAR = {"Conv", "ConvTranspose", "Gemm"}


def layer(node: NodeProto) -> str:
    """`finish` names nodes `layer/Operator`."""
    return node.name.rpartition("/")[0] or node.name


def _in_one(
    edit: Callable[[ModelProto, NodeProto], bool | None], *operators: str
) -> Callable[[Subject], Mutant | None]:
    """A fault in one node, the first from the middle on that `edit` does not answer with False."""

    def mutate(subject: Subject) -> Mutant | None:
        nodes = [i for i, node in enumerate(subject.right.graph.node) if node.op_type in (operators or _LINEAR)]
        for index in (*nodes[len(nodes) // 2 :], *nodes[: len(nodes) // 2]):
            model = copied(subject.right)
            node = model.graph.node[index]
            name = layer(node)
            layers = frozenset({name, *(entry.name for entry in subject.ledger.entries if name in entry.into)})
            if edit(model, node) is not False:
                return Mutant(model, layers)
        return None

    return mutate


def _rounded_everywhere(dtype: type) -> Callable[[Subject], Mutant]:
    """Every stored number in another format, written back: the first layer diverges first."""

    def mutate(subject: Subject) -> Mutant:
        model = copied(subject.right)
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                set_parameter(model, tensor.name, numpy_helper.to_array(tensor).astype(dtype).astype(np.float32))
        return Mutant(model, subject.norms()[0][1])

    return mutate


def rounded(model: ModelProto, node: NodeProto) -> None:
    """float16 in one layer."""
    weight = parameter(model, node.input[1])
    set_parameter(model, node.input[1], weight.astype(np.float16))


def rounded_to_ten_bits(model: ModelProto, node: NodeProto) -> None:
    """The weight as a tensor core reads it: 10 bits of mantissa (TF32)."""
    mantissa, exponent = np.frexp(parameter(model, node.input[1]))
    set_parameter(model, node.input[1], np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent))


def read_with_ten_bits(model: ModelProto, node: NodeProto) -> None:
    """The layer's input with 10 bits of mantissa, by casts to float16 and back."""
    half, back = f"{node.output[0]}_half", f"{node.output[0]}_back"
    casts = [
        helper.make_node("Cast", [node.input[0]], [half], f"{layer(node)}/Cast", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [back], f"{layer(node)}/Cast_1", to=TensorProto.FLOAT),
    ]
    _insert(model, node, casts)
    node.input[0] = back


def bias_larger(model: ModelProto, node: NodeProto) -> None:
    """The largest number of a bias + 1 %."""
    bias = parameter(model, node.input[2])
    bias[np.argmax(np.abs(bias))] *= 1.01
    set_parameter(model, node.input[2], bias)


def channel_larger(model: ModelProto, node: NodeProto) -> None:
    """The weights of one output channel + 1 %."""
    weight = parameter(model, node.input[1])
    axis = 1 if node.op_type == "ConvTranspose" else 0
    np.moveaxis(weight, axis, 0)[weight.shape[axis] // 2] *= 1.01
    set_parameter(model, node.input[1], weight)


def groups_permuted(model: ModelProto, node: NodeProto) -> bool:
    """Each group has its neighbour's weights."""
    groups = attribute(node, "group").i
    if groups < 2:
        return False
    weight = parameter(model, node.input[1])
    set_parameter(model, node.input[1], np.roll(weight, len(weight) // groups, axis=0))
    return True


def transposed(model: ModelProto, node: NodeProto) -> bool:
    """Inputs for outputs in a square weight."""
    weight = parameter(model, node.input[1])
    if weight.shape[0] != weight.shape[1]:
        return False
    set_parameter(model, node.input[1], np.swapaxes(weight, 0, 1))
    return True


def not_a_number(model: ModelProto, node: NodeProto) -> None:
    """One weight is NaN."""
    weight = parameter(model, node.input[1])
    weight.flat[weight.size // 2] = np.nan
    set_parameter(model, node.input[1], weight)


def padding_shifted(_: ModelProto, node: NodeProto) -> bool:
    """One more zero at the start of an axis, one less at its end."""
    pads = attribute(node, "pads").ints
    if not any(pads):
        return False
    pads[0], pads[len(pads) // 2] = pads[0] + 1, pads[len(pads) // 2] - 1
    return True


def gates_reordered(model: ModelProto, node: NodeProto) -> None:
    """The LSTM's gates as PyTorch has them, i f c o, where ONNX wants i o f c."""
    for name in node.input[1:4]:
        array = parameter(model, name)
        if array.ndim == 2:  # biases of input and state, one behind the other
            halves = array.reshape(len(array), 2, 4, -1)
            set_parameter(model, name, halves[:, :, [0, 2, 3, 1]].reshape(array.shape))
        else:
            gates = array.reshape(len(array), 4, -1, array.shape[2])
            set_parameter(model, name, gates[:, [0, 2, 3, 1]].reshape(array.shape))


def activation_dropped(subject: Subject) -> Mutant | None:
    """One ReLU or Clip is taken out. Right are its own layer and those on either side of the gap."""
    nodes = [node.output[0] for node in subject.right.graph.node if node.op_type in {"Relu", "Clip"}]
    model = copied(subject.right)
    gone = next(node for node in model.graph.node if node.output[0] == nodes[len(nodes) // 2])
    around = [n for n in model.graph.node if gone.input[0] in n.output or gone.output[0] in n.input]
    readers = [
        n for n in subject.plain.graph.node if n.op_type == "BatchNormalization" and n.input[0] == gone.output[0]
    ]
    norms = [str(node.input[1]).removesuffix(".weight") for node in readers]  # in the source, on that side of the gap
    layers = frozenset([*(layer(node) for node in (gone, *around)), *norms])
    for node in around:
        for position, name in enumerate(node.input):
            if name == gone.output[0]:
                node.input[position] = gone.input[0]
    model.graph.node.remove(gone)
    return Mutant(model, layers)


def behind(model: ModelProto, node: NodeProto, make: Callable[[str, str], list[NodeProto]]) -> None:
    """Put nodes between a node and its readers: `make` gets the value and the name that the readers read."""
    name = node.output[0]
    node.output[0] = f"{name}_before"
    _insert(model, node, make(node.output[0], name), after=True)


def _insert(model: ModelProto, node: NodeProto, new: list[NodeProto], *, after: bool = False) -> None:
    position = next(i for i, other in enumerate(model.graph.node) if other.name == node.name) + after
    for offset, one in enumerate(new):
        model.graph.node.insert(position + offset, one)


def constant(model: ModelProto, name: str, value: np.ndarray) -> None:
    """Store a tensor."""
    model.graph.initializer.append(numpy_helper.from_array(value, name))


def batch_fixed(model: ModelProto, node: NodeProto) -> None:
    """A Reshape to the shape that was traced, batch 1 and all."""
    rank = parameter(model, node.input[1]).ndim
    shape = np.array([1, *[0] * (rank - 2), -1], dtype=np.int64)
    constant(model, "traced_shape", shape)
    name = f"{layer(node)}/Reshape_traced"
    behind(model, node, lambda x, y: [helper.make_node("Reshape", [x, "traced_shape"], [y], name)])


def rows_mixed(model: ModelProto, node: NodeProto) -> None:
    """A thousandth of the batch's mean is taken off each row, as with statistics of the batch."""
    constant(model, "batch_axis", np.array([0], dtype=np.int64))
    constant(model, "thousandth", np.array(1e-3, dtype=np.float32))
    name = f"{layer(node)}/mixed"

    def nodes(x: str, y: str) -> list[NodeProto]:
        return [
            helper.make_node("ReduceMean", [x, "batch_axis"], [f"{x}_mean"], f"{name}_1"),
            helper.make_node("Mul", [f"{x}_mean", "thousandth"], [f"{x}_part"], f"{name}_2"),
            helper.make_node("Sub", [x, f"{x}_part"], [y], f"{name}_3"),
        ]

    behind(model, node, nodes)


FILES: dict[str, Callable[[Subject], Mutant | None]] = {
    "one bias + 1 %": _in_one(bias_larger),
    "one weight channel + 1 %": _in_one(channel_larger),
    "groups permuted": _in_one(groups_permuted, "Conv"),
    "square weight transposed": _in_one(transposed),
    "float16 weights, one layer": _in_one(rounded),
    "float16 weights, all": _rounded_everywhere(np.float16),
    "bfloat16 weights, all": _rounded_everywhere(bfloat16),
    "TF32 weights, one layer": _in_one(rounded_to_ten_bits),
    "TF32 input, one layer": _in_one(read_with_ten_bits),
    "NaN in one weight": _in_one(not_a_number),
    "activation dropped": activation_dropped,
    "padding shifted": _in_one(padding_shifted, "Conv"),
    "LSTM gates reordered": _in_one(gates_reordered, "LSTM"),
    "batch of the trace fixed": _in_one(batch_fixed, "Gemm", "Conv"),
    "rows mixed": _in_one(rows_mixed),
}
