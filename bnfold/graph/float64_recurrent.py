"""LSTM, GRU and RNN in float64, with what ONNX's own evaluator leaves out: activations, clip, lengths, coupled gates.

Equations are those of https://onnx.ai/onnx/operators/ (LSTM, GRU, RNN), weights per direction:

    LSTM  i, o, f = f1(x W' + h R' + b + p c),  c' = f c + i f2(...),  h' = o f3(c')     (f = 1 - i with input_forget)
    GRU   z, r = f1(...),  n = f2(x W' + (r h) R' + b) or, linear_before_reset, f2(x W' + b + r (h R' + b')),
          h' = (1 - z) n + z h
    RNN   h' = f1(x W' + h R' + b)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RECURRENT", "activations", "directions", "lstm_step", "run_directions"]

Array = np.ndarray


def _sigmoid(x: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _activation(name: str, alpha: float | None, beta: float | None) -> Callable[[Array], Array]:
    """An activation by its name in ONNX, with the defaults of its attributes there."""

    def given(value: float | None, default: float) -> float:
        return default if value is None else float(value)

    known: dict[str, Callable[[Array], Array]] = {
        "relu": lambda x: np.maximum(x, 0.0),
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "affine": lambda x: given(alpha, 1.0) * x + given(beta, 0.0),
        "leakyrelu": lambda x: np.where(x >= 0, x, given(alpha, 0.01) * x),
        "thresholdedrelu": lambda x: np.where(x > given(alpha, 1.0), x, 0.0),
        "scaledtanh": lambda x: given(alpha, 1.0) * np.tanh(given(beta, 1.0) * x),
        "hardsigmoid": lambda x: np.clip(given(alpha, 0.2) * x + given(beta, 0.5), 0.0, 1.0),
        "elu": lambda x: np.where(x >= 0, x, given(alpha, 1.0) * np.expm1(np.minimum(x, 0.0))),
        "softsign": lambda x: x / (1.0 + np.abs(x)),
        "softplus": lambda x: np.logaddexp(x, 0.0),
    }
    if name.lower() not in known:
        raise ValueError(f"activation {name}")
    return known[name.lower()]


def activations(attributes: dict[str, Any], n_directions: int, default: tuple[str, ...]) -> list[list[Any]]:
    """The activations of each direction; alpha and beta go to those that take them, in their order."""
    names = list(attributes.get("activations") or default * n_directions)
    n_functions = n_directions * len(default)
    if len(names) < n_functions:
        raise ValueError(f"{len(names)} activations for {n_directions} directions")
    takes = {
        "alpha": {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"},
        "beta": {"affine", "scaledtanh", "hardsigmoid"},
    }
    values = {which: list(attributes.get(f"activation_{which}") or ()) for which in takes}
    functions = []
    for name in names[:n_functions]:  # the default of RNN names two for one direction, too
        numbers = [
            values[which].pop(0) if values[which] and name.lower() in takes[which] else None
            for which in ("alpha", "beta")
        ]
        functions.append(_activation(name, *numbers))
    return [functions[k * len(default) : (k + 1) * len(default)] for k in range(n_directions)]


def directions(direction: str | None) -> list[bool]:
    """For each direction whether it runs backwards."""
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction or "forward"]


def run_directions(
    x: Array, states: list[list[Array]], steps: list[Any], backwards: list[bool], lengths: Array | None
) -> tuple[Array, list[Array]]:
    """Y (T, directions, N, H) and the last state of each kind (directions, N, H).

    Args:
        x: (T, N, I).
        states: by kind (h, c), by direction: (N, H).
        steps: by direction, (x_t, state) -> new state.
        backwards: by direction.
        lengths: of each sequence, or None.
    """
    n_steps, n = x.shape[:2]
    ends = np.full(n, n_steps) if lengths is None else np.asarray(lengths)
    y = np.zeros((n_steps, len(steps), n, states[0][0].shape[-1]))
    last: list[list[Array]] = [[] for _ in states]
    for d, (step, is_backward) in enumerate(zip(steps, backwards, strict=True)):
        state = tuple(kind[d] for kind in states)
        for t in range(n_steps):
            alive = (t < ends)[:, None]
            rows = np.maximum(ends - 1 - t, 0) if is_backward else np.full(n, t)
            new = step(x[rows, np.arange(n)], state)
            state = tuple(np.where(alive, ours, old) for ours, old in zip(new, state, strict=True))
            y[rows[alive[:, 0]], d, np.flatnonzero(alive[:, 0])] = state[0][alive[:, 0]]
        for kind, value in zip(last, state, strict=True):
            kind.append(value)
    return y, [np.stack(kind) for kind in last]


class _Recurrent(OpRun):
    """What the three share."""

    n_gates: int
    n_states: int
    functions: tuple[str, ...]

    def _run(
        self,
        x: Array,
        w: Array,
        r: Array,
        b: Array | None = None,
        lengths: Array | None = None,
        *rest: Array | None,
        **attributes: Any,
    ) -> tuple[Array, ...]:
        backwards = directions(attributes.get("direction"))
        layout = attributes.get("layout")
        given: list[Array | None] = [*rest, None, None, None]
        if layout:
            x = x.transpose(1, 0, 2)
            given = [None if value is None else value.transpose(1, 0, 2) for value in given[:2]] + given[2:]
        hidden = r.shape[-1]
        zeros = np.zeros((len(backwards), x.shape[1], hidden))
        states = [list(zeros if value is None else value) for value in given[: self.n_states]]
        bias = np.zeros((len(backwards), 2 * self.n_gates * hidden)) if b is None else b
        peephole = given[2] if self.n_states > 1 and given[2] is not None else np.zeros((len(backwards), 3 * hidden))
        functions = activations(attributes, len(backwards), self.functions)
        steps = [self.step((w[d], r[d], bias[d], peephole[d]), functions[d], attributes) for d in range(len(backwards))]
        y, finals = run_directions(x, states, steps, backwards, lengths)
        if layout:
            y, finals = y.transpose(2, 0, 1, 3), [final.transpose(1, 0, 2) for final in finals]
        return (y, *finals)[: len(self.onnx_node.output)]

    def step(self, parameters: tuple[Array, ...], functions: Any, attributes: dict[str, Any]) -> Any:
        """The step of one direction, of its W, R, B and P."""
        raise NotImplementedError


def clipped(attributes: dict[str, Any]) -> Callable[[Array], Array]:
    """What stands before an activation."""
    bound = float(attributes.get("clip") or 0.0)
    return (lambda x: np.clip(x, -bound, bound)) if bound > 0 else (lambda x: x)


class LSTM(_Recurrent):
    """Gates in the order i, o, f, c."""

    n_gates, n_states, functions = 4, 2, ("Sigmoid", "Tanh", "Tanh")

    def step(self, parameters: tuple[Array, ...], functions: Any, attributes: dict[str, Any]) -> Any:
        """The step of one direction."""
        w, r, b, p = parameters
        bias = b[: len(b) // 2] + b[len(b) // 2 :]
        return lstm_step(lambda x, h: x @ w.T + h @ r.T + bias, p, functions, attributes)


def lstm_step(gates: Any, p: Array, functions: Any, attributes: dict[str, Any]) -> Any:
    """The step of an LSTM whose gates are computed by `gates(x, h)`, peepholes and activations aside."""
    f, g, h_ = functions
    clip = clipped(attributes)
    p_i, p_o, p_f = np.split(p, 3)

    def step(x: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        h, c = state
        i, o, forget, new = np.split(gates(x, h), 4, axis=-1)
        i = f(clip(i + p_i * c))
        forget = 1 - i if attributes.get("input_forget") else f(clip(forget + p_f * c))
        c = forget * c + i * g(clip(new))
        return f(clip(o + p_o * c)) * h_(c), c

    return step


class GRU(_Recurrent):
    """Gates in the order z, r, h."""

    n_gates, n_states, functions = 3, 1, ("Sigmoid", "Tanh")

    def step(self, parameters: tuple[Array, ...], functions: Any, attributes: dict[str, Any]) -> Any:
        """The step of one direction."""
        w, r, b, _ = parameters
        f, g = functions
        clip = clipped(attributes)
        n = r.shape[-1]
        b_w, b_r = b[: 3 * n], b[3 * n :]

        def step(x: Array, state: tuple[Array]) -> tuple[Array]:
            (h,) = state
            from_x = x @ w.T + b_w
            zr = f(clip(from_x[:, : 2 * n] + h @ r[: 2 * n].T + b_r[: 2 * n]))
            z, reset = zr[:, :n], zr[:, n:]
            if attributes.get("linear_before_reset"):
                from_h = reset * (h @ r[2 * n :].T + b_r[2 * n :])
            else:
                from_h = (reset * h) @ r[2 * n :].T + b_r[2 * n :]
            new = g(clip(from_x[:, 2 * n :] + from_h))
            return ((1 - z) * new + z * h,)

        return step


class RNN(_Recurrent):
    """One gate."""

    n_gates, n_states, functions = 1, 1, ("Tanh",)

    def step(self, parameters: tuple[Array, ...], functions: Any, attributes: dict[str, Any]) -> Any:
        """The step of one direction."""
        w, r, b, _ = parameters
        clip = clipped(attributes)
        bias = b[: len(b) // 2] + b[len(b) // 2 :]
        return lambda x, state: (functions[0](clip(x @ w.T + state[0] @ r.T + bias)),)


RECURRENT: tuple[type[OpRun], ...] = (GRU, LSTM, RNN)
