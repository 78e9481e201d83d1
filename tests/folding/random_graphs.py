"""Random networks with BatchNorms strewn in: operators of every kind, branches, joins, several outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from fold_models import Net, Parameters
from onnx import TensorProto, helper, numpy_helper

from bnfold.graph.float64 import evaluate

__all__ = ["calibrate", "random_graph"]


@dataclass(frozen=True)
class Image:
    """A value of shape (N, c, h, w)."""

    name: str
    c: int
    h: int
    w: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.c, self.h, self.w


class _Builder:
    def __init__(self, parameters: Parameters) -> None:
        self.rng = parameters.rng
        batch: int | str = "N" if self.rng.random() < 0.5 else 2
        self.net = Net(parameters, {"x": (batch, 4, 6, 6)})
        self.pool = [Image("x", 4, 6, 6)]
        self.read: set[str] = set()

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self) -> Image:
        """Recent values are likelier; what is picked counts as read."""
        back = min(int(self.rng.geometric(0.45)), len(self.pool))
        return self.take(self.pool[-back])

    def take(self, image: Image) -> Image:
        self.read.add(image.name)
        return image

    def put(self, name: str, c: int, h: int, w: int) -> None:
        self.pool.append(Image(name, c, h, w))

    def same(self, name: str, like: Image) -> None:
        self.put(name, *like.shape)

    def partner(self, matches: Callable[[Image], bool]) -> Image | None:
        others = [v for v in self.pool if matches(v)]
        return self.take(others[self.rng.integers(len(others))]) if others else None


def _batchnorm(b: _Builder, x: Image) -> None:
    b.same(b.net.batchnorm(x.name, x.c), x)


def _conv(b: _Builder, x: Image) -> None:
    group = int(b.rng.choice([g for g in (1, 2, x.c) if x.c % g == 0]))
    c = group * int(b.rng.integers(1, 4)) if group < x.c else x.c
    kernel = int(b.rng.choice([1, 1, 3])) if min(x.h, x.w) >= 3 else 1
    pad = int(b.rng.integers(0, 2)) if kernel == 3 else 0
    name = b.net.conv(x.name, x.c, c, (kernel,) * 2, group=group, bias=b.chance(0.6), pads=[pad] * 4)
    b.put(name, c, x.h + 2 * pad - kernel + 1, x.w + 2 * pad - kernel + 1)


def _conv_transpose(b: _Builder, x: Image) -> None:
    if x.h * x.w > 60:
        return
    name = b.net.conv_transpose(x.name, x.c, 2 * x.c, (2, 2), group=2 if x.c % 2 == 0 else 1, strides=[2, 2])
    b.put(name, 2 * x.c, 2 * x.h, 2 * x.w)


def _activation(b: _Builder, x: Image) -> None:
    op_type = b.rng.choice(["Relu", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Gelu", "Identity", "Dropout"])
    extra = []
    if op_type == "PRelu":
        extra = [b.net.constant(b.net.parameters.factor(x.c, 1, 1))]
    elif op_type == "Clip":
        extra = [b.net.constant(0.0)]
    b.same(b.net.node(str(op_type), [x.name, *extra]), x)


def _pool(b: _Builder, x: Image) -> None:
    if min(x.h, x.w) < 2:
        return
    kind = b.rng.integers(3)
    padded = bool(b.chance(0.4)) and kind != 0
    pads, size = ([1, 1, 1, 1], 3) if padded else ([0] * 4, 2)
    if padded and min(x.h, x.w) < 2:
        return
    counted = {} if kind == 0 else {"count_include_pad": int(kind - 1)}
    op_type = "MaxPool" if kind == 0 else "AveragePool"
    name = b.net.node(op_type, [x.name], kernel_shape=[size] * 2, pads=pads, **counted)
    b.put(name, x.c, x.h + 2 * pads[0] - size + 1, x.w + 2 * pads[0] - size + 1)


def _global_pool(b: _Builder, x: Image) -> None:
    op_type = str(b.rng.choice(["GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "ReduceMax"]))
    extra = [b.net.integers([2, 3])] if op_type.startswith("Reduce") else []
    b.put(b.net.node(op_type, [x.name, *extra]), x.c, 1, 1)


def _sum(b: _Builder, x: Image) -> None:
    y = b.partner(lambda v: v.c == x.c and (v.shape == x.shape or v.h == v.w == 1))
    if y is not None and y.name != x.name:
        b.same(b.net.node(str(b.rng.choice(["Add", "Add", "Sub", "Sum"])), [x.name, y.name]), x)


def _gate(b: _Builder, x: Image) -> None:
    y = b.partner(lambda v: v.c == x.c and (v.shape == x.shape or v.h == v.w == 1))
    if y is not None:
        if b.chance(0.7):
            y = Image(b.net.node("Sigmoid", [y.name]), *y.shape)
        names = [x.name, y.name]
        b.same(b.net.node("Mul", names[::-1] if b.chance(0.5) else names), x)


def _concat(b: _Builder, x: Image) -> None:
    if b.chance(0.7):
        y = b.partner(lambda v: (v.h, v.w) == (x.h, x.w) and v.c + x.c <= 16)
        if y is not None:
            b.put(b.net.node("Concat", [x.name, y.name], axis=1), x.c + y.c, x.h, x.w)
    else:
        y = b.partner(lambda v: (v.c, v.h) == (x.c, x.h) and v.w + x.w <= 14)
        if y is not None:
            b.put(b.net.node("Concat", [x.name, y.name], axis=-1), x.c, x.h, x.w + y.w)


def _split(b: _Builder, x: Image) -> None:
    if x.c < 2:
        return
    left = int(b.rng.integers(1, x.c))
    first, second = b.net.node("Split", [x.name, b.net.integers([left, x.c - left])], outputs=2, axis=1)
    b.put(first, left, x.h, x.w)
    b.put(second, x.c - left, x.h, x.w)


def _slice(b: _Builder, x: Image) -> None:
    axis = int(b.rng.integers(1, 4))
    length = x.shape[axis - 1]
    if length < 2:
        return
    start, step = int(b.rng.integers(0, 2)), int(b.rng.choice([1, 2, -1]))
    bounds = [length - 1, -length - 1] if step < 0 else [start, length]
    new = length if step < 0 else len(range(start, length, step))
    name = b.net.node("Slice", [x.name, *(b.net.integers([v]) for v in (bounds[0], bounds[1], axis, step))])
    shape = list(x.shape)
    shape[axis - 1] = new
    b.put(name, *shape)


def _gather(b: _Builder, x: Image) -> None:
    c = int(b.rng.integers(1, x.c + 2))
    positions = b.rng.integers(-x.c, x.c, c)
    b.put(b.net.node("Gather", [x.name, b.net.integers(positions)], axis=1), c, x.h, x.w)


def _constant(b: _Builder, x: Image) -> None:
    op_type = str(b.rng.choice(["Mul", "Add", "Sub", "Div"]))
    shapes = [(x.c, 1, 1), (1, x.c, 1, 1), (), (1,), (x.h, x.w), (1, x.c, x.h, x.w)]
    shape = shapes[int(b.rng.choice(len(shapes), p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]))]
    p = b.net.parameters
    constant = b.net.constant(p.factor(*shape) if op_type in ("Mul", "Div") else p.array(*shape))
    swap = b.chance(0.3) and op_type in ("Mul", "Add", "Sub")
    b.same(b.net.node(op_type, [constant, x.name] if swap else [x.name, constant]), x)


def _pad(b: _Builder, x: Image) -> None:
    mode = str(b.rng.choice(["edge", "reflect", "constant"]))
    if min(x.h, x.w) < 2 or max(x.h, x.w) > 10:
        return
    extra = [b.net.constant(b.rng.choice([0.0, 1.0]))] if mode == "constant" and b.chance(0.5) else []
    name = b.net.node("Pad", [x.name, b.net.integers([0, 0, 1, 0, 0, 0, 1, 1]), *extra], mode=mode)
    b.put(name, x.c, x.h + 2, x.w + 1)


def _resize(b: _Builder, x: Image) -> None:
    if x.h * x.w > 60:
        return
    scales = b.net.tensor(np.array([1, 1, 2, 1], np.float32))
    mode = str(b.rng.choice(["nearest", "linear"]))
    b.put(b.net.node("Resize", [x.name, "", scales], mode=mode), x.c, 2 * x.h, x.w)


def _depth_to_space(b: _Builder, x: Image) -> None:
    if x.c % 4 == 0:
        mode = str(b.rng.choice(["DCR", "CRD"]))
        b.put(b.net.node("DepthToSpace", [x.name], blocksize=2, mode=mode), x.c // 4, 2 * x.h, 2 * x.w)
    elif x.h % 2 == 0 and x.w % 2 == 0 and x.c < 5:
        b.put(b.net.node("SpaceToDepth", [x.name], blocksize=2), 4 * x.c, x.h // 2, x.w // 2)


def _shuffle(b: _Builder, x: Image) -> None:
    """The channel shuffle of ShuffleNet, by Reshape, Transpose, Reshape."""
    if x.c % 2:
        return
    grouped = b.net.node("Reshape", [x.name, b.net.integers([-1, 2, x.c // 2, x.h, x.w])])
    turned = b.net.node("Transpose", [grouped], perm=[0, 2, 1, 3, 4])
    b.same(b.net.node("Reshape", [turned, b.net.integers([-1, x.c, x.h, x.w])]), x)


def _channels_last(b: _Builder, x: Image) -> None:
    """A linear layer over the last axis, and perhaps its bias, a LayerNorm, a BatchNorm over the wrong axis."""
    y = b.net.node("Transpose", [x.name], perm=[0, 2, 3, 1])
    c = int(b.rng.integers(1, 6))
    y = b.net.matmul(y, x.c, c)
    if b.chance(0.6):
        bias = b.net.constant(b.net.parameters.array(c))
        y = b.net.node("Add", [bias, y] if b.chance(0.5) else [y, bias])
    if b.chance(0.2):
        p = b.net.parameters
        y = b.net.node("LayerNormalization", [y, b.net.constant(p.factor(c)), b.net.constant(p.array(c))])
    if b.chance(0.15):
        y = b.net.batchnorm(y, x.h)
    b.put(b.net.node("Transpose", [y], perm=[0, 3, 1, 2]), c, x.h, x.w)


def _norm(b: _Builder, x: Image) -> None:
    p = b.net.parameters
    if x.h * x.w > 1:
        parameters = [b.net.constant(p.factor(x.c)), b.net.constant(p.array(x.c))]
        b.same(b.net.node("InstanceNormalization", [x.name, *parameters]), x)


def _head(b: _Builder, x: Image) -> None:
    """Flatten, perhaps BatchNorm, Gemm or MatMul; the result is a 1x1 image again."""
    size = x.c * x.h * x.w
    if size > 200:
        return
    y = b.net.node("Flatten", [x.name])
    if b.chance(0.5):
        y = b.net.batchnorm(y, size)
    c = int(b.rng.integers(1, 6))
    if b.chance(0.5):
        y = b.net.matmul(y, size, c)
    else:
        shape = [None, (c,), (1, c), (), (1,)][b.rng.integers(5)]
        options = {"transB": int(b.rng.integers(2)), "alpha": float(b.rng.choice([1.0, 0.5]))}
        y = b.net.gemm(y, size, c, bias=shape, beta=float(b.rng.choice([1.0, 2.0])), **options)
    if b.chance(0.5):
        y = b.net.batchnorm(y, c)
    b.put(b.net.node("Unsqueeze", [y, b.net.integers([2, 3])]), c, 1, 1)


_OPERATORS: dict[Callable[[_Builder, Image], None], float] = {
    _batchnorm: 9,
    _conv: 7,
    _activation: 5,
    _sum: 4,
    _concat: 2.5,
    _constant: 2.5,
    _split: 1,
    _slice: 1,
    _gather: 0.7,
    _gate: 1.2,
    _pool: 1.2,
    _global_pool: 0.7,
    _pad: 0.8,
    _resize: 0.6,
    _depth_to_space: 0.8,
    _shuffle: 0.8,
    _channels_last: 1,
    _norm: 0.5,
    _head: 0.7,
    _conv_transpose: 0.6,
}


def random_graph(parameters: Parameters, n_operators: int) -> tuple[onnx.ModelProto, Net]:
    """A model whose outputs are all values that nothing reads, and perhaps one that something reads too."""
    b = _Builder(parameters)
    weights = list(_OPERATORS.values())
    chances = [w / sum(weights) for w in weights]
    operators = list(_OPERATORS)
    while len(b.net.nodes) < n_operators:
        operators[b.rng.choice(len(operators), p=chances)](b, b.pick())
    unread = [image for image in b.pool if image.name not in b.read]
    # Half of them end in a linear layer, which leaves their units free.
    leaves = [b.net.conv(v.name, v.c, 2) if b.chance(0.5) else v.name for v in unread]
    inner = [image.name for image in b.pool[1:] if image.name in b.read]
    if inner and b.chance(0.3):
        leaves.append(inner[b.rng.integers(len(inner))])
    return b.net.model(*(leaves or [b.pool[-1].name])), b.net


def calibrate(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The model with the statistics of its own BatchNorm inputs, as training would leave them, one after the other.

    The fold trusts running statistics to know how large a tensor is. Behind a gamma of 1e-12 a variance of 1 would be
    a lie, and offsets that look small against it are not.
    """
    work = onnx.ModelProto()
    work.CopyFrom(model)
    outputs = list(work.graph.output)
    stored = {tensor.name: tensor for tensor in work.graph.initializer}
    for node in work.graph.node:
        if node.op_type == "BatchNormalization" and node.input[0] not in feed:
            del work.graph.output[:]
            work.graph.output.append(helper.make_tensor_value_info(node.input[0], TensorProto.DOUBLE, None))
            x = evaluate(work, feed)[node.input[0]]
            axes = tuple(k for k in range(x.ndim) if k != 1)
            for index, statistic in ((3, x.mean(axis=axes)), (4, x.var(axis=axes))):
                stored[node.input[index]].CopyFrom(numpy_helper.from_array(statistic, node.input[index]))
    del work.graph.output[:]
    work.graph.output.extend(outputs)
    return work
