"""Cases of the linear operators, recurrent cells, embeddings and data-dependent norms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rule_case import Case, Data, Tokens, cases, grid, ints

SIZES = (5, 4, 3)


@cases("Conv")
def conv(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for rank in (1, 2, 3):
        for group, bias in ((1, True), (1, False), (2, True), (4, False)):
            c, m, kernel = 4, 2 * group, (3, 2, 2)[:rank]
            weight = rng.standard_normal((m, c // group, *kernel))
            inputs = (Data(("N", c, *SIZES[:rank])), weight, *((rng.standard_normal(m),) if bias else ()))
            yield Case(op_type, inputs, {"group": group} if group > 1 else {})
    weight, x = rng.standard_normal((3, 2, 3, 2)), Data(("N", 2, 6, 5))
    for attributes in (
        {"pads": [1, 0, 0, 0]},
        {"pads": [0, 0, 0, 1], "strides": [3, 1]},
        {"dilations": [2, 1], "kernel_shape": [3, 2]},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID"},
        {"auto_pad": "NOTSET", "pads": [0, 0, 0, 0]},
    ):
        yield Case(op_type, (x, weight, rng.standard_normal(3)), attributes)
        yield Case(op_type, (x, weight), attributes)
    yield Case(op_type, (x, weight, None), {}, name="no bias given")


@cases("ConvTranspose")
def conv_transpose(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    """Where nothing but one tap meets each output pixel any offset would do; the rule asks for 0 in some such cases."""
    for rank, group, bias, kernel in (
        (1, 1, True, 1), (2, 1, False, 1), (2, 2, True, 1), (3, 2, False, 1), (2, 2, True, 2), (1, 4, True, 3),
    ):  # fmt: skip
        c, m = 4, 2 * group
        weight = rng.standard_normal((c, m // group, *[kernel] * rank))
        inputs = (Data(("N", c, *SIZES[:rank])), weight, *((rng.standard_normal(m),) if bias else ()))
        yield Case(op_type, inputs, {"group": group} if group > 1 else {})
    x = Data(("N", 2, 4, 3))
    lax = frozenset({"scale", "offset"})
    for kernel, attributes, needs_less in (
        (1, {"strides": [2, 1]}, False),
        (1, {"strides": [1, 1], "pads": [0, 0, 0, 0], "output_padding": [0, 0], "auto_pad": "NOTSET"}, False),
        (1, {"pads": [1, 0, 0, 0]}, True),
        (1, {"auto_pad": "VALID"}, True),
        (1, {"output_shape": [4, 3]}, True),
        (2, {"strides": [2, 2]}, False),
        (3, {"strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 1, 1]}, False),
        (2, {"strides": [3, 3], "output_padding": [2, 0]}, False),
        (1, {"strides": [2, 2], "output_padding": [1, 1]}, False),
        (2, {"auto_pad": "SAME_UPPER"}, False),
    ):
        weight = rng.standard_normal((2, 3, kernel, kernel))
        for bias in ((), (rng.standard_normal(3),)):
            yield Case(op_type, (x, weight, *bias), attributes, lax=lax if needs_less else frozenset())


@cases("Gemm")
def gemm(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    x = Data((4, 5))
    for k, attributes in enumerate(grid(alpha=[1.0, 0.5, -2.0], beta=[1.0, -0.25], transB=[0, 1])):
        weight = rng.standard_normal((3, 5) if attributes["transB"] else (5, 3))
        shape = [(3,), (1, 3), (4, 3), (4, 1), (), (1,)][k % 6]
        yield Case(op_type, (x, weight, np.asarray(rng.standard_normal(shape))), attributes)
        yield Case(op_type, (x, weight), attributes, opsets=(11, 25))
    yield Case(op_type, (x, rng.standard_normal((5, 3)), rng.standard_normal(3)), {})
    yield Case(op_type, (Data(("N", 5)), rng.standard_normal((5, 3))), {"transA": 0}, opsets=(11, 25))


@cases("MatMul")
def matmul(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for shape in (("N", 5), ("N", 4, 5), (2, 3, 4, 5)):
        yield Case(op_type, (Data(shape), rng.standard_normal((5, 3))), {})
    means = (13, 25)
    for through in (None, "Transpose", "Identity", "Dropout"):
        yield Case(
            op_type, (Data((2, 3, 4), softmax=-1, through=through), Data((2, 4, 5))), opsets=means, name=f"{through}"
        )
        yield Case(
            op_type, (Data((2, 5, 4)), Data((2, 4, 3), softmax=-2, through=through)), opsets=means, name=f"{through}"
        )
    yield Case(op_type, (Data((2, 1, 3, 4), softmax=-1), Data((2, 4, 5))), opsets=means, name="more axes")
    yield Case(op_type, (Data((5, 4)), Data((2, 4, 3), softmax=-2)), opsets=means, name="fewer axes")
    yield Case(op_type, (Data((3, 4), softmax=1), Data((4, 5))), opsets=means, name="counted from the first")


@cases("LSTM", "GRU", "RNN")
def recurrent(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    gates, hidden, features = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type], 2, 3
    for direction in ("forward", "reverse", "bidirectional"):
        n = 2 if direction == "bidirectional" else 1
        weights = [rng.standard_normal((n, gates * hidden, k)) for k in (features, hidden)]
        bias = rng.standard_normal((n, 2 * gates * hidden))
        attributes = {"hidden_size": hidden, "direction": direction}
        x = Data((4, 2, features))
        for more in ((), (bias,), (None, None, Data((n, 2, hidden)))):
            yield Case(op_type, (x, *weights, *more), attributes, pinned_output=True, n_outputs=2, name=f"{len(more)}")
    if op_type == "GRU":
        attributes = {**attributes, "linear_before_reset": 1}
        yield Case(op_type, (x, *weights, bias), attributes, pinned_output=True, n_outputs=2)


@cases("Gather")
def gather(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    table = rng.standard_normal((7, 3))
    for shape in ((4,), (2, 5), ()):
        yield Case(op_type, (table, Tokens(shape, 7)))
    yield Case(op_type, (table, ints(1, 2, 0)), {"axis": 0})
    x = Data((2, 4, 3))
    for axis in (0, 1, 2, -1, -2):
        n = x.shape[axis]
        yield Case(op_type, (x, Tokens((2, 2), n)), {"axis": axis}, refused=frozenset({axis % 3}))
    yield Case(op_type, (x, ints(3, 0, 0)), {"axis": 1})
    yield Case(op_type, (x, np.array(-1)), {"axis": 1})
    yield Case(op_type, (x, ints(1, 0)), {})
    yield Case(op_type, (Data(("N", 4)), np.array([[2, 1], [0, 3]])), {"axis": -1})


@cases("LayerNormalization", "InstanceNormalization", "GroupNormalization")
def norm(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    """They take an offset off again that is the same for all that they normalise, of which the rule makes no use."""
    lax = frozenset({"offset"})
    weight, bias = rng.standard_normal(4), rng.standard_normal(4)
    if op_type == "LayerNormalization":
        for shape in (("N", 4), (2, 3, 4), (2, 2, 3, 4)):
            for more, axis in (((), -1), ((bias,), len(shape) - 1), ((bias,), None), ((None,), -1)):
                inputs = (Data(shape), weight, *more)
                attributes = {} if axis is None else {"axis": axis}
                yield Case(op_type, inputs, attributes, name=f"{len(more)}", lax=lax)
        return
    for shape in ((2, 4, 5), ("N", 4, 3, 5)):
        inputs = (Data(shape), weight, bias)
        if op_type == "InstanceNormalization":
            yield Case(op_type, inputs, {"epsilon": 0.5}, lax=lax)
        else:
            yield Case(op_type, inputs, {"num_groups": 2}, opsets=(21, 25), lax=lax)
            yield Case(op_type, inputs, {"num_groups": 4}, opsets=(18, 25), lax=lax)
