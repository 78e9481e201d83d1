"""Cases of the operators that move elements."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto
from rule_case import Case, Data, Lengths, cases, ints

X = Data((2, 4, 3, 2))


@cases("Identity", "Shape", "Size")
def identity(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X,))
    yield Case(op_type, (Data(("N", 5)),))


@cases("Dropout")
def dropout(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X,))
    yield Case(op_type, (X,), {"ratio": 0.25}, opsets=(7, 11))
    yield Case(op_type, (X, np.array(0.25)), opsets=(12, 25))
    yield Case(op_type, (X, np.array(0.25), np.array(False)), opsets=(12, 25))
    yield Case(op_type, (X, None, np.array(False)), opsets=(12, 25))


@cases("Cast")
def cast(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X,), {"to": TensorProto.DOUBLE})
    yield Case(op_type, (Data(("N", 5)),), {"to": TensorProto.FLOAT})


@cases("CastLike")
def cast_like(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X, np.zeros(1)))


@cases("Transpose")
def transpose(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X,))
    yield Case(op_type, (X,), {"perm": [0, 2, 3, 1]})
    yield Case(op_type, (Data(("N", 3, 4)),), {"perm": [2, 0, 1]})


@cases("Reshape")
def reshape(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for shape, refused in (
        ((2, 24), ()),
        ((2, 2, 2, 3, 2), ()),
        ((0, 0, -1), ()),
        ((8, 6), ()),
        ((2, 3, 4, 2), ()),
        ((-1,), ()),
        ((2, 4, 3, 2), ()),
        ((2, 4, 1, 6), ()),
    ):
        yield Case(op_type, (X, ints(*shape)), refused=frozenset(refused), name=f"{shape}".replace(" ", ""))
    batch = Data(("N", 4, 6), size=2)
    yield Case(op_type, (batch, ints(0, 2, 2, 6)), name="of a batch")
    yield Case(op_type, (batch, ints(-1, 24)), name="of a batch")
    yield Case(op_type, (batch, ints(-1, 4, 2, 3)), name="of a batch")
    yield Case(op_type, (batch, ints(-1, 6)), refused=frozenset({1}), name="into the batch")
    every = frozenset(range(4))
    yield Case(op_type, (X, Lengths((6, 8))), refused=every, name="into unknown lengths")
    yield Case(op_type, (X, ints(0, 2, -1)), {"allowzero": 0}, opsets=(14, 25))


@cases("Flatten")
def flatten(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    yield Case(op_type, (X,))
    yield Case(op_type, (Data(("N", 4, 3)),))
    for axis in (0, 1, 2, 4):
        yield Case(op_type, (X,), {"axis": axis})
    yield Case(op_type, (X,), {"axis": -1}, opsets=(11, 25))


@cases("Squeeze")
def squeeze(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    x = Data((1, 4, 1, 3))
    for axes in ((0,), (2,), (0, 2)):
        yield Case(op_type, (x,), {"axes": list(axes)}, opsets=(7, 12))
        yield Case(op_type, (x, ints(*axes)), opsets=(13, 25), name=f"{axes}")
    yield Case(op_type, (x,), {"axes": [-2]}, opsets=(11, 12))
    yield Case(op_type, (x, ints(-4)), opsets=(13, 25))
    yield Case(op_type, (x,))
    yield Case(op_type, (Data((2, 3)),))


@cases("Unsqueeze")
def unsqueeze(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    x = Data((2, 4))
    for axes in ((0,), (1,), (2,), (1, 3), (0, 1)):
        yield Case(op_type, (x,), {"axes": list(axes)}, opsets=(7, 12))
        yield Case(op_type, (x, ints(*axes)), opsets=(13, 25), name=f"{axes}")
    yield Case(op_type, (x,), {"axes": [-1]}, opsets=(11, 12))
    yield Case(op_type, (x, ints(-2)), opsets=(13, 25))


@cases("Expand")
def expand(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for x, shape in ((Data((4, 1)), (2, 4, 3)), (Data((2, 4, 3)), (1, 1, 1)), (Data((1, 4, 1)), (2, 1, 5))):
        yield Case(op_type, (x, ints(*shape)), opsets=(8, 25))
    yield Case(op_type, (Data((4, 1)), Lengths((2, 4, 3))), opsets=(8, 25))


@cases("Slice")
def cut(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for starts, ends, axes in (
        ((1,), (3,), (1,)),
        ((0, 1), (2, 9), (0, 2)),
        ((-3,), (-1,), (1,)),
        ((0, 1), (1, 3), None),
    ):
        attributes = {"starts": list(starts), "ends": list(ends), **({} if axes is None else {"axes": list(axes)})}
        yield Case(op_type, (X,), attributes, opsets=(7, 9))
        inputs = (X, ints(*starts), ints(*ends), *(() if axes is None else (ints(*axes),)))
        yield Case(op_type, inputs, opsets=(10, 25), name=f"{starts}{ends}{axes}".replace(" ", ""))
    for start, end, axis, step in (
        (-1, -9, 1, -1), (3, 0, 1, -2), (0, 4, 1, 2), (-1, -5, 1, -1), (1, 4, -3, 2), (-1, -(2**63), 2, -1),
        (2, 2**63 - 1, 1, 1), (-2, -5, 1, -1), (3, -4, 1, -1),
    ):  # fmt: skip
        inputs = (X, ints(start), ints(end), ints(axis), ints(step))
        yield Case(op_type, inputs, opsets=(10, 25), name=f"{start},{end},{axis},{step}")
    yield Case(op_type, (X, ints(0), ints(-9), ints(1), ints(1)), opsets=(10, 25), name="nothing")
    yield Case(op_type, (X, ints(0, 1), ints(2, 4), None, ints(1, 2)), opsets=(10, 25), name="steps without axes")
    batch = Data(("N", 4, 3))
    yield Case(op_type, (batch, ints(1), ints(2), ints(0)), opsets=(10, 25), name="of the batch")


@cases("Split")
def split(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for axis, parts in ((1, (1, 3)), (1, (2, 2)), (2, (1, 1, 1)), (0, (1, 1))):
        yield Case(op_type, (X,), {"axis": axis, "split": list(parts)}, opsets=(7, 12), n_outputs=len(parts))
        yield Case(op_type, (X, ints(*parts)), {"axis": axis}, opsets=(13, 25), n_outputs=len(parts), name=f"{parts}")
    yield Case(op_type, (X,), {"axis": -3, "split": [1, 3]}, opsets=(11, 12), n_outputs=2)
    yield Case(op_type, (X, ints(3, 1)), {"axis": -3}, opsets=(13, 25), n_outputs=2)
    yield Case(op_type, (X,), {}, opsets=(7, 17), n_outputs=2)
    yield Case(op_type, (X,), {"axis": 1, "num_outputs": 2}, opsets=(18, 25), n_outputs=2)
    yield Case(op_type, (Data((2, 5, 3)),), {"axis": 1, "num_outputs": 2}, opsets=(18, 25), n_outputs=2, name="uneven")


@cases("Concat")
def concat(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    for axis, others in ((1, (Data((2, 3, 3, 2)),)), (0, (X,)), (3, (Data((2, 4, 3, 1)), X)), (2, (X, X))):
        yield Case(op_type, (X, *others), {"axis": axis})
    yield Case(op_type, (X, X), {"axis": -1}, opsets=(11, 25))
    yield Case(op_type, (X,), {"axis": 1})
    yield Case(op_type, (Data(("N", 2, 3)), Data(("N", 1, 3))), {"axis": 1})


@cases("DepthToSpace")
def depth_to_space(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    x = Data((2, 8, 3, 2))
    yield Case(op_type, (x,), {"blocksize": 2})
    yield Case(op_type, (Data((1, 18, 1, 2)),), {"blocksize": 3})
    for mode in ("DCR", "CRD"):
        yield Case(op_type, (x,), {"blocksize": 2, "mode": mode}, opsets=(11, 25))
        yield Case(op_type, (Data((1, 4, 2, 2)),), {"blocksize": 2, "mode": mode}, opsets=(11, 25))


@cases("Pad")
def pad(op_type: str, rng: np.random.Generator) -> Iterator[Case]:
    widths, padded = (0, 0, 1, 2, 0, 0, 0, 1), frozenset({2, 3})
    x = Data((2, 3, 4, 5))
    for mode in (None, "constant", "edge", "reflect"):
        attributes = {} if mode is None else {"mode": mode}
        yield Case(op_type, (x,), {**attributes, "pads": list(widths)}, opsets=(7, 10), refused=padded)
        yield Case(op_type, (x, ints(*widths)), attributes, opsets=(11, 25), refused=padded, name=f"{mode}")
    zero = np.array(0.0)
    yield Case(op_type, (x,), {"pads": list(widths), "value": 0.0}, opsets=(7, 10), refused=padded)
    yield Case(op_type, (x, ints(*widths), zero), opsets=(11, 25), refused=padded, name="zero given")
    yield Case(op_type, (x, ints(*widths)), {"mode": "wrap"}, opsets=(19, 25), refused=padded)
    for axes, first in (((3, 2), 2), ((-1, -2), 2), ((1,), 1)):
        ends = [k + 1 for k in range(2 * len(axes))]
        inputs = (x, ints(*ends), zero, ints(*axes))
        refused = frozenset({1}) if first == 1 else padded
        yield Case(op_type, inputs, opsets=(18, 25), refused=refused, name=f"axes {axes}")
    yield Case(op_type, (x, ints(0, 2), None, ints(-2)), {"mode": "edge"}, opsets=(18, 25), refused=frozenset({2}))
    yield Case(op_type, (x, ints(*[0] * 8)), opsets=(11, 25), name="none")
    yield Case(op_type, (x, ints(*[0] * 8), np.array(5.0)), opsets=(11, 25), name="none, by 5")
    yield Case(op_type, (x,), {"pads": [0] * 8, "value": 5.0}, opsets=(7, 10), name="none, by 5")
    fives = (x, ints(*widths), np.array(5.0))
    yield Case(op_type, fives, {"mode": "edge"}, opsets=(11, 25), refused=padded, name="edge, 5 unused")
