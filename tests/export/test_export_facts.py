"""Counts of nodes and multiply-adds, against counts by hand."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from bnfold.export import count_batchnorms, count_macs, count_nodes, finish, graph_facts

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        # out (1, 6, 3, 3), weight (6, 4/2, 3, 3)
        (
            "net (float[N, 4, 5, 5] x) => (float[N, 6, 3, 3] y) <float[6, 2, 3, 3] w = {0}>"
            " { y = Conv <group = 2> (x, w) }",
            6 * 9 * 2 * 9,
        ),
        # in (1, 4, 5, 5), weight (4, 6/2, 2, 2)
        (
            "net (float[N, 4, 5, 5] x) => (float[N, 6, A, B] y) <float[4, 3, 2, 2] w = {0}>"
            " { y = ConvTranspose <group = 2, strides = [2, 2]> (x, w) }",
            4 * 25 * 3 * 4,
        ),
        ("net (float[N, 7] x) => (float[N, 3] y) <float[3, 7] w = {0}> { y = Gemm <transB = 1> (x, w) }", 21),
        ("net (float[7, 2] x) => (float[2, 3] y) <float[7, 3] w = {0}> { y = Gemm <transA = 1> (x, w) }", 42),
        ("net (float[N, 5, 7] x) => (float[N, 5, 3] y) <float[7, 3] w = {0}> { y = MatMul (x, w) }", 5 * 7 * 3),
        ("net (float[N, M, 7] x) => (float[N, M, 3] y) <float[7, 3] w = {0}> { y = MatMul (x, w) }", None),
        ("net (float[N, 7] x) => (float[N, 7] y) { y = Relu (x) }", 0),
    ],
)
def test_multiply_adds_at_batch_1(text: str, macs: int | None) -> None:
    proto = onnx.parser.parse_model(HEAD + text)
    for tensor in proto.graph.initializer:  # the parser reads one element where the rest is wanted too
        tensor.CopyFrom(
            onnx.helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, bytes(4 * size(tensor)), raw=True)
        )

    assert count_macs(proto) == macs


def size(tensor: onnx.TensorProto) -> int:
    total = 1
    for dim in tensor.dims:
        total *= dim
    return total


BRANCHES = """
net (bool c, float[N, 3] x) => (float[N, 3] y) <float[3] s = {1, 1, 1}>
{
    y = If (c) <
        then_branch = then () => (float[N, 3] a) { a = BatchNormalization (x, s, s, s, s) },
        else_branch = else () => (float[N, 3] b) { b = Identity (x) }
    >
}
"""


def test_subgraphs_are_counted() -> None:
    proto = onnx.parser.parse_model(HEAD + BRANCHES)

    assert count_nodes(proto) == 3
    assert count_batchnorms(proto) == 1
    assert count_macs(proto) == 0


def test_multiply_adds_in_a_subgraph_are_unknown() -> None:
    proto = onnx.parser.parse_model(HEAD + BRANCHES.replace("BatchNormalization (x, s, s, s, s)", "MatMul (x, x)"))

    assert count_macs(proto) is None


def test_the_facts_of_a_conversion(plain: ir.Model) -> None:
    before = ir.to_proto(plain)
    facts = graph_facts(before, finish(plain))

    assert facts.macs_before == facts.macs_after == 4 * 36 * 27 + 144 * 2
    assert facts.nodes_before == len(before.graph.node) > facts.nodes_after
    assert facts.batchnorm_after == 1
