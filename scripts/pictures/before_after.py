"""docs/before_after.svg: a network and what bnfold makes of it, drawn from the two graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

import bnfold
from pictures.drawing import Arrow, Box, Kind, Words, svg

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["before_after", "network"]

C, COLUMN, ROW, WIDTH, HEIGHT, LEFT = 8, 104.0, 50.0, 82.0, 32.0, 58.0
SHORT = {"BatchNormalization": "BatchNorm", "GlobalAveragePool": "Pool", "Gemm": "Linear"}
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
block (float[N,8,H,W] x) => (float[N,10] y)
{
    [branch3x3] a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w3)
    [branch3x3_bn] an = BatchNormalization (a, s0, b0, m0, v0)
    [branch1x1] b = Conv <kernel_shape = [1, 1]> (x, w1)
    [branch1x1_bn] bn = BatchNormalization (b, s1, b1, m1, v1)
    [identity_bn] xn = BatchNormalization (x, s2, b2, m2, v2)
    [add] ab = Add (an, bn)
    [add2] sum = Add (ab, xn)
    [relu] r = Relu (sum)
    [pool] p = GlobalAveragePool (r)
    [flatten] f = Flatten (p)
    [head_bn] fn = BatchNormalization (f, s3, b3, m3, v3)
    [head_fc] y = Gemm <transB = 1> (fn, wf, bf)
}
"""


def network() -> onnx.ModelProto:
    """A block of RepVGG and a head of BatchNorm and Linear, with random parameters."""
    model = onnx.parser.parse_model(GRAPH)
    random = np.random.default_rng(0)
    arrays = {"w3": random.normal(size=(C, C, 3, 3)), "w1": random.normal(size=(C, C, 1, 1))}
    arrays |= {"wf": random.normal(size=(10, C)), "bf": random.normal(size=10)}
    for k in range(4):
        arrays |= {f"{name}{k}": random.uniform(0.5, 1.5, C) for name in "sv"}
        arrays |= {f"{name}{k}": random.normal(size=C) for name in "bm"}
    model.graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items())
    return model


def _columns(graph: onnx.GraphProto) -> dict[str, int]:
    """The column of each value: one more than the last of those that its operator reads; 0 for inputs."""
    found = {value.name: 0 for value in graph.input}
    for node in graph.node:
        last = 1 + max(found[name] for name in node.input if name in found)
        found |= dict.fromkeys(node.output, last)
    return found


def _draw(graph: onnx.GraphProto, columns: Mapping[str, int], top: float, *, after: bool) -> list[Box | Arrow]:
    """The operators of a graph, each in its column; one that took others' work is as wide as what it stands for."""
    ends = {value.name: (LEFT - 22, top + ROW) for value in graph.input}
    rows: dict[int, int] = {}
    boxes: list[Box | Arrow] = []
    arrows: list[Box | Arrow] = []
    for node in graph.node:
        last = columns[node.output[0]]
        read = [name for name in node.input if name in ends]
        first = 1 + max(columns[name] for name in read) if after else last
        row = rows.get(last, 0)
        rows[last] = row + 1
        alone = sum(columns[other.output[0]] == last for other in graph.node) == 1
        y = top + ROW * (1 if alone else row)
        left, right = LEFT + COLUMN * (first - 1), LEFT + COLUMN * (last - 1) + WIDTH
        kind: Kind = "norm" if node.op_type == "BatchNormalization" else "takes" if first < last else "plain"
        boxes.append(Box((left + right) / 2, y, right - left, HEIGHT, SHORT.get(node.op_type, node.op_type), kind))
        arrows += [Arrow(ends[name], (left, y)) for name in read]
        ends[node.output[0]] = (right, y)
    x, y = ends[graph.output[0].name]
    return [*arrows, Arrow((x, y), (x + 28, y)), *boxes]


def before_after() -> str:
    """The picture, as SVG."""
    model = network()
    folded, ledger = bnfold.fold(model)
    columns = _columns(model.graph)
    if ledger.certificate is None:
        raise ValueError("the fold of a graph has a certificate")
    stands_for = {name: columns[of[0].source] for name, of in ledger.certificate.values[""].items()}
    norms = [sum(n.op_type == "BatchNormalization" for n in graph.node) for graph in (model.graph, folded.graph)]
    before = f"before: {len(model.graph.node)} operators, {norms[0]} of them BatchNorms"
    after = f"after: {len(folded.graph.node)} operators, {norms[1] or 'no'} BatchNorm, the same function"
    fates = ", ".join(f"{n} {what}" for what, n in (("merged", ledger.merged), ("absorbed", ledger.absorbed)) if n)
    lower = 3 * ROW + 72
    parts = [
        Words(12, 22, before, "head"),
        Words(22, ROW + 64, "x"),
        *_draw(model.graph, columns, 60, after=False),
        Words(12, lower - 12, after, "head"),
        Words(22, lower + 44, "x"),
        *_draw(folded.graph, stands_for, lower - 10, after=True),
        Words(LEFT, lower + 82, f"BatchNorms: {fates}. Green: took them, as wide as what it stands for.", "small"),
    ]  # fmt: skip
    size = (LEFT + COLUMN * max(columns.values()) + 36, lower + 96)
    return svg(parts, size, title="A network before and after bnfold", says=f"{before}; {after}")
