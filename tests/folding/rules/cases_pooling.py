"""Cases of the operators that pool, reduce and resample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rule_case import Case, Data, cases, grid, ints

X = Data((2, 3, 4, 5))


@cases("GlobalAveragePool", "GlobalMaxPool")
def global_pool(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for x in (X, Data(("N", 3, 4)), Data((2, 2, 2, 3, 2)), Data((1, 4, "H", "W"))):
        yield Case(op_type, (x,))


@cases("AveragePool")
def average_pool(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    pads: list[dict[str, Any]] = [
        {}, {"pads": [1, 0, 1, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"auto_pad": "VALID"},
        {"auto_pad": "NOTSET", "pads": [0, 0, 0, 0]}, {"pads": [0, 0, 0, 1]},
    ]  # fmt: skip
    for padding in pads:
        yield Case(op_type, (X,), {"kernel_shape": [3, 2], **padding})
        for counted in (0, 1):
            # With automatic padding the evaluator's own default stands: padded cells are counted as ONNX says.
            yield Case(op_type, (X,), {"kernel_shape": [2, 3], "count_include_pad": counted, **padding})
    yield Case(op_type, (X,), {"kernel_shape": [2, 2], "strides": [2, 2]}, lax=frozenset({"scale", "offset"}))
    for counted in (0, 1):
        ceil = {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": counted}
        yield Case(op_type, (X,), ceil, opsets=(10, 25), lax=frozenset({"offset"}) if counted else frozenset())
        padded = {**ceil, "pads": [1, 0, 1, 1]}
        yield Case(op_type, (X,), padded, opsets=(10, 25))
    yield Case(op_type, (Data(("N", 3, 5)),), {"kernel_shape": [2]})


@cases("MaxPool")
def max_pool(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    unread = frozenset({"scale", "offset"})
    for padding in ({}, {"pads": [1, 0, 1, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "VALID"}):
        yield Case(op_type, (X,), {"kernel_shape": [2, 2], **padding})
    yield Case(op_type, (X,), {"kernel_shape": [2, 2], "strides": [2, 2]}, lax=unread)
    yield Case(op_type, (X,), {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1}, opsets=(10, 25), lax=unread)
    yield Case(op_type, (X,), {"kernel_shape": [2, 2], "dilations": [2, 1]}, opsets=(10, 25))
    yield Case(op_type, (Data(("N", 3, 5)),), {"kernel_shape": [2]})


@cases("ReduceMean", "ReduceMax")
def reduce(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    x = Data((2, 4, 3, 2))
    for choice in grid(axes=[(2, 3), (1,), (0, 3), (3,)], keepdims=[None, 0, 1]):
        axes, keepdims = choice["axes"], choice["keepdims"]
        kept = {} if keepdims is None else {"keepdims": keepdims}
        yield Case(op_type, (x,), {"axes": list(axes), **kept}, opsets=(7, 17))
        yield Case(op_type, (x, ints(*axes)), kept, opsets=(18, 25), name=f"{axes}")
    yield Case(op_type, (x,), {"axes": [-1, -2]}, opsets=(11, 17))
    yield Case(op_type, (x, ints(-3)), {"keepdims": 0}, opsets=(18, 25))


@cases("Resize")
def resize(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    scales = np.array([1, 1, 2, 2], np.float32)
    half = np.array([1, 1, 0.5, 1.0], np.float32)
    roi = np.zeros(0, np.float32)
    for mode in ("nearest", "linear"):
        yield Case(op_type, (X, scales), {"mode": mode}, opsets=(10, 10))
        for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
            attributes = {"mode": mode, "coordinate_transformation_mode": transformation}
            yield Case(op_type, (X, roi, scales), attributes, opsets=(11, 25))
    yield Case(op_type, (X, roi, np.array([1, 1, 1.5, 2], np.float32)), {"mode": "cubic"}, opsets=(11, 25))
    unread = frozenset({"scale", "offset"})
    yield Case(op_type, (X, None, half), {"mode": "nearest"}, opsets=(13, 25), lax=unread)
    yield Case(op_type, (X, None, None, ints(2, 3, 6, 5)), {"mode": "linear"}, opsets=(13, 25))
    yield Case(op_type, (X, None, np.array([2, 2], np.float32)), {"axes": [2, 3]}, opsets=(18, 25))
    batch = Data(("N", 3, 4, 5))
    yield Case(op_type, (batch, None, scales), {}, opsets=(13, 25))


@cases("Upsample")
def upsample(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for mode in ("nearest", "linear"):
        yield Case(op_type, (X, np.array([1, 1, 2, 2], np.float32)), {"mode": mode}, opsets=(9, 9))
        yield Case(op_type, (X,), {"mode": mode, "scales": [1.0, 1.0, 2.0, 2.0]}, opsets=(7, 8))
