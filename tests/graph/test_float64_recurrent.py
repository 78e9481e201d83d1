"""Recurrent operators with what ONNX's evaluator leaves out, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from one_node import assert_close, one_node

T, N, C, H = 5, 3, 4, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Each of 5 steps rounds sums of 10 products and three activations, and carries the error of the one before.
ROUNDINGS = 5 * 20


def _inputs(op_type: str, n_directions: int, *, lengths=None, states: bool = False, peephole: bool = False):
    generator = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (0.5 * generator.standard_normal(shape)).astype(np.float32)

    rows = GATES[op_type] * H
    x, w, r, b = normal(T, N, C), normal(n_directions, rows, C), normal(n_directions, rows, H), None
    b = normal(n_directions, 2 * rows)
    extra = [normal(n_directions, N, H) if states else None for _ in range(2 if op_type == "LSTM" else 1)]
    if op_type == "LSTM":
        extra.append(normal(n_directions, 3 * H) if peephole else None)
    inputs = [x, w, r, b, None if lengths is None else np.array(lengths, np.int32), *extra]
    while inputs[-1] is None:
        inputs.pop()
    return inputs


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, (5, 2, 3)])
@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
def test_sequences_of_any_length_and_direction(op_type, lengths, direction):
    inputs = _inputs(op_type, 2 if direction == "bidirectional" else 1, lengths=lengths, states=True)
    n_outputs = 3 if op_type == "LSTM" else 2
    model = one_node(op_type, inputs, n_outputs=n_outputs, direction=direction, hidden_size=H)
    assert_close(model, inputs[0], ROUNDINGS)


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {"clip": 0.4}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"activations": ["HardSigmoid", "Relu", "Softsign"]}),
        ("GRU", {"linear_before_reset": 1}),
        ("GRU", {"clip": 0.3, "activations": ["HardSigmoid", "Affine"], "activation_alpha": [0.3, 0.5],
                 "activation_beta": [0.4, 0.1]}),
        ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
        ("RNN", {"activations": ["Relu"], "clip": 0.5}),
    ],
)  # fmt: skip
def test_attributes(op_type, attributes):
    inputs = _inputs(op_type, 1)
    assert_close(one_node(op_type, inputs, hidden_size=H, **attributes), inputs[0], ROUNDINGS)


def test_peepholes_of_an_lstm():
    inputs = _inputs("LSTM", 1, states=True, peephole=True)
    assert_close(one_node("LSTM", inputs, n_outputs=3, hidden_size=H), inputs[0], ROUNDINGS)
