"""What a node with one constant operand computes per channel, against its evaluation."""

from __future__ import annotations

import cases_pointwise  # noqa: F401 - registers cases
import numpy as np
import onnx.parser
import pytest
from commutes import model_with
from rule_case import Data, all_cases, feed_of, graph_of

from bnfold.folding.relations.affine import channel_affine
from bnfold.folding.relations.operands import per_channel
from bnfold.graph.float64 import evaluate
from bnfold.graph.reading import read_model

CASES = [
    case
    for op_type in ("Add", "Sub", "Mul", "Div", "BatchNormalization")
    for case in all_cases(op_type)
    if case.name not in ("unknown channels",) and sum(isinstance(x, Data) for x in case.inputs) == 1
]


def _is_per_channel(case, rank: int, channels: int) -> bool:
    """Read from the shape alone: along axis 1 and no other, as long as the channels or of one element."""
    if case.op_type == "BatchNormalization":
        return True
    (constant,) = (x for x in case.inputs if isinstance(x, np.ndarray))
    shape = (1,) * (rank - constant.ndim) + constant.shape
    long = {axis for axis, length in enumerate(shape) if length > 1}
    return len(shape) == rank and (not long or (long == {1} and shape[1] == channels))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_affine_of_a_node_is_what_it_computes(case):
    _, node = graph_of(case)
    (x,) = (x for x in case.inputs if isinstance(x, Data))
    channels, rank = x.lengths[1], len(x.shape)
    found = channel_affine(node, channels)
    assert (found is not None) == _is_per_channel(case, rank, channels)
    if found is not None:
        feed = feed_of(case, np.random.default_rng(0))
        value, scale, shift = found
        assert value in node.inputs
        assert scale.shape == shift.shape == (channels,)
        column = (1, channels, *[1] * (rank - 2))
        ours = scale.reshape(column) * next(iter(feed.values())) + shift.reshape(column)
        (y,) = evaluate(model_with(case, {}), feed).values()
        # Both sides round a few times, 2^-53 each of what they add.
        terms = np.abs(scale.reshape(column) * next(iter(feed.values()))) + np.abs(shift.reshape(column))
        assert (np.abs(ours - y) <= 8 * 2.0**-53 * terms).all()


@pytest.mark.parametrize(
    ("inputs", "body", "constants"),
    [
        ("float[N,4] x", "y = Sub (k, x)", "float[4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = Div (k, x)", "float[4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = Div (x, k)", "float[4] k = {1,0,3,4}"),
        ("float[N,4] x, float[N,4] z", "y = Add (x, z)", "float[4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = Add (k, k)", "float[4] k = {1,2,3,4}"),
        ("float[] x", "y = Add (x, k)", "float[4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = Max (x, k)", "float[4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = Add (x, k)", "int64[4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = Add (x, k)", "float[1,1,4] k = {1,2,3,4}"),
        ("float[N,4] x", "y = BatchNormalization <training_mode=1> (x, k, k, k, k)", "float[4] k = {1,2,3,4}"),
    ],
)
def test_other_nodes_are_no_affine_map_of_channels(inputs, body, constants):
    text = f'<ir_version: 10, opset_import: ["": 20]> g ({inputs}) => (float[] y) <{constants}> {{ {body} }}'
    (node,) = read_model(onnx.parser.parse_model(text)).graph
    assert channel_affine(node, 4) is None


def test_a_constant_of_one_element_is_one_of_every_channel():
    assert per_channel(np.array([[2.0]]), 4, 3).tolist() == [2.0] * 3
    assert per_channel(np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), 4, 3).tolist() == [1.0, 2.0, 3.0]
    assert per_channel(np.array([1.0, 2.0]).reshape(2, 1, 1), 4, 3) is None
    assert per_channel(np.ones((1, 1, 1, 1, 3)), 4, 3) is None
    assert per_channel(np.array([1.0, 2.0, 3.0]), 4, 3) is None
