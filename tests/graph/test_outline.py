"""The nodes of a graph as records: whose module they are of, what they read, which are BatchNorms of a ledger."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from bnfold.folding import fold_model
from bnfold.graph.outline import outline
from bnfold.records.network import module_path

HEAD = '<ir_version: 10, opset_import: ["" : 18]>'


def parsed(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(f"{HEAD} {text}"))


def edges(model: ir.Model) -> dict[str, tuple[str, ...]]:
    return {node.name: node.reads for node in outline(model, is_source=True).nodes}


@pytest.mark.parametrize(
    ("scope", "path"),
    [
        ("", ""),
        ("layer1.0.conv1", "layer1.0.conv1"),
        ("/layer1/layer1.0/conv1", "layer1.0.conv1"),
        ("/features/features.0/features.0.0", "features.0.0"),
        ("/model/model/head", "model.head"),
        ("/layer1/layer10/conv", "layer1.layer10.conv"),
        ("model/dense", "model.dense"),
    ],
)
def test_a_path_of_scopes(scope: str, path: str) -> None:
    assert module_path(scope) == path


def test_modules_by_scopes_names_and_parameters() -> None:
    model = parsed("""
    g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    <float[2, 2, 1, 1] "stem.conv.weight" = {1, 2, 3, 4}, float[2, 2, 1, 1] w = {1, 2, 3, 4}> {
      [Conv_0] a = Conv (x, "stem.conv.weight")
      [node_relu] b = Relu (a)
      ["/layer1/layer1.0/act/Relu_1"] c = Relu (b)
      [Conv_1] d = Conv (c, w)
      ["model/dense/BiasAdd"] y = Relu (d)
    }""")
    scoped = next(node for node in model.graph if node.name == "node_relu")
    scoped.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'stem.act', 'relu']"
    found = outline(model, is_source=True)
    assert [node.layer for node in found.nodes] == ["stem.conv", "stem.act", "layer1.0.act", "", "model.dense.BiasAdd"]
    assert [node.op for node in found.nodes] == ["Conv", "Relu", "Relu", "Conv", "Relu"]
    assert {node.parameters for node in found.nodes} == {None}  # those of the layer itself
    assert (found.inputs, dict(found.outputs)) == (("x",), {"y": "model/dense/BiasAdd"})


def test_parameters_of_another_module_are_told() -> None:
    """As of a file whose exporter folded a BatchNorm: the convolution has the name of that."""
    model = parsed("""
    g (float[N, 1, 4, 4] x) => (float[N, 1, 4, 4] y) <float[1, 1, 1, 1] "stem.conv.weight" = {1}> {
      ["stem.bn/Conv"] y = Conv (x, "stem.conv.weight")
    }""")
    (node,) = outline(model, is_source=True).nodes
    assert (node.layer, node.parameters) == ("stem.bn", "stem.conv")


def test_names_are_given_once_and_edges_follow_them() -> None:
    model = parsed("""
    g (float[N] x, float[N] twin) => (float[N] y, float[N] x2) {
      [same] a = Relu (x)
      [same] b = Relu (twin)
      [x] c = Add (a, b)
      [product] y = Mul (c, c)
      [through] x2 = Identity (x)
    }""")
    assert edges(model) == {
        "same": ("x",), "same#2": ("twin",), "x#2": ("same", "same#2"), "product": ("x#2",), "through": ("x",),
    }  # fmt: skip


def test_arithmetic_on_constants_and_shapes_is_left_out() -> None:
    model = parsed("""
    g (float[N, 4] x) => (float[A, B] y) <int64[1] two = {2}, float[4] k = {1, 2, 3, 4}> {
      [shape] s = Shape (x)
      [half] h = Div (s, two)
      [negative] n = Neg (k)
      [kept] a = Add (x, n)
      [unread] u = Relu (a)
      [back] y = Reshape (a, h)
    }""")
    assert edges(model) == {"kept": ("x",), "back": ("kept",)}


def test_subgraphs_stand_in_front_of_what_holds_them() -> None:
    model = parsed("""
    g (float[N] x, bool c) => (float[N] y) {
      [first] a = Relu (x)
      [choice] y = If (c) <
        then_branch = t () => (float[N] p) { [inside] p = Neg (a) },
        else_branch = e () => (float[N] q) { [other] q = Abs (a) }
      >
    }""")
    assert edges(model) == {
        "first": ("x",),
        "inside": ("first",),
        "other": ("first",),
        "choice": ("c", "inside", "other"),
    }


def test_functions_are_inlined_and_the_model_stays_as_it_is() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 18, "own" : 1]>
        g (float[N] x) => (float[N] y) { [call] y = own.twice (x) }
        <domain: "own", opset_import: ["" : 18]> twice (a) => (b) { c = Relu (a) b = Neg (c) }
        """)
    )
    assert [node.op for node in outline(model, is_source=True).nodes] == ["Relu", "Neg"]
    assert [node.op_type for node in model.graph] == ["twice"]


def test_batchnorms_have_the_names_of_the_ledger() -> None:
    text = """
    g (float[N, 2, 4] x) => (float[N, 2, 4] y) <float[2] "bn.weight" = {1, 2}, float[2] p = {1, 2}> {
      a = BatchNormalization (x, "bn.weight", p, p, p)
      b = Sigmoid (a)
      c = BatchNormalization (b, "bn.weight", p, p, p)
      unread = BatchNormalization (c, p, p, p, p)
      y = Sigmoid (c)
    }"""
    found = outline(parsed(text), is_source=True)
    ledger = fold_model(parsed(text))
    assert [node.batchnorm for node in found.nodes if node.op == "BatchNormalization"] == [
        e.name for e in ledger.entries
    ]
    assert [e.name for e in ledger.entries][:2] == ["bn", "bn#2"]
    assert {node.batchnorm for node in outline(parsed(text), is_source=False).nodes} == {None}
