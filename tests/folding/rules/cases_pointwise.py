"""Cases of the elementwise operators: activations, sums, products, constants, BatchNormalization."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rule_case import Case, Data, cases

X = Data((2, 4, 3, 2))


@cases("Relu", "LeakyRelu")
def relu(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X,))
    yield Case(op_type, (Data(("N", 5)),), {"alpha": 0.25} if op_type == "LeakyRelu" else {})


@cases("PRelu")
def prelu(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for shape in ((4, 1, 1), (1,), (2,)):
        yield Case(op_type, (X, rng.uniform(-0.5, 0.5, shape)))


@cases("Clip")
def clip(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X, np.array(0.0)), opsets=(11, 25))
    yield Case(op_type, (Data(("N", 5)), np.array(0.0), None), opsets=(11, 25))
    yield Case(op_type, (X,), {"min": 0.0}, opsets=(7, 10))


@cases("Sum")
def plain_sum(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X, X))
    yield Case(op_type, (X, X, X))
    yield Case(op_type, (X,))
    yield Case(op_type, (X, Data((4, 1, 1))), opsets=(8, 25))


def _data_pairs() -> Iterator[tuple[Data, Data]]:
    for other in (X, Data((4, 1, 1)), Data((1, 4, 3, 1)), Data((2,)), Data((1, 1, 1, 1))):
        yield X, other
        yield other, X


@cases("Add", "Sub")
def add(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for pair in _data_pairs():
        yield Case(op_type, pair)
    for shape in ((4, 1, 1), (1, 4, 1, 1), (1,), (), (2,), (4, 3, 1), (3, 2), (2, 4, 3, 2)):
        constant = np.asarray(rng.standard_normal(shape))
        yield Case(op_type, (X, constant), name=f"{shape}")
        if op_type == "Add":
            yield Case(op_type, (constant, X), name=f"{shape} first")
    yield Case(op_type, (Data(("N", 1, 3)), rng.standard_normal((4, 1))), name="wider than the data")
    yield Case(op_type, (Data(("N", 4)), rng.standard_normal(4)))


@cases("Mul", "Div")
def mul(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for first, second in _data_pairs():
        yield Case(op_type, (first, second), name="gate")
    for shape in ((4, 1, 1), (1, 4, 1, 1), (1,), (), (2,), (4, 3, 1), (2, 4, 3, 2)):
        constant = np.asarray(rng.uniform(0.5, 2, shape) * rng.choice([-1.0, 1.0], shape))
        yield Case(op_type, (X, constant), name=f"{shape}")
        if op_type == "Mul":
            yield Case(op_type, (constant, X), name=f"{shape} first")
    yield Case(op_type, (Data(("N", 1, 3)), rng.uniform(0.5, 2, (4, 1))), name="wider than the data")


@cases("Max")
def maximum(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    """A constant that varies along another axis than the units do has no one axis, and is refused."""
    for shape, axis in (((4, 1, 1), 1), ((1, 4, 1, 1), 1), ((2,), 3)):
        constant = rng.standard_normal(shape)
        refused = frozenset(range(4)) - {axis}
        yield Case(op_type, (X, constant), refused=refused, opsets=(8, 25), name=f"{shape}")
        yield Case(op_type, (constant, X), refused=refused, opsets=(8, 25), name=f"{shape} first")
    yield Case(op_type, (Data(("N", 4)), rng.standard_normal(1)), opsets=(8, 25))
    yield Case(op_type, (Data((2, 4)), np.array([[0.3, -0.2, 0.1, 1.0]] * 1)), refused=frozenset({0}), opsets=(8, 25))
    yield Case(op_type, (Data((1, 4)), rng.standard_normal((1, 4))))


@cases("BatchNormalization")
def batchnorm(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for shape in (("N", 4), (2, 4, 3), (2, 4, 3, 2), ("N", 4, "H", "W")):
        gamma, beta, mean = rng.uniform(0.3, 2, 4) * rng.choice([-1, 1], 4), *rng.standard_normal((2, 4))
        for attributes in ({}, {"epsilon": 0.25, "momentum": 0.5}):
            yield Case(op_type, (Data(shape), gamma, beta, mean, rng.uniform(0.2, 3, 4)), attributes)
    gamma, beta, mean, variance = rng.uniform(0.3, 2, (4, 4))
    yield Case(op_type, (Data(("N", "C", 5), size=4), gamma, beta, mean, variance), name="unknown channels")
    one = [rng.uniform(0.3, 2, 1) for _ in range(4)]
    yield Case(op_type, (Data((2, 1, 3)), *one), {"epsilon": 1e-3})
