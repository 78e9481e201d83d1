"""The operator table: its facts agree with ONNX's own schemas, and a name means something in its own domain only."""

import copy
import pickle

import onnx
import onnx.defs
import onnx_ir as ir
import pytest
from onnx import helper

from bnfold.graph import operators as op
from bnfold.graph.operators import Operator, Trait, having, in_integers, kind_of

TABLE = {name: known for name, known in vars(op).items() if isinstance(known, Operator)}
ONNX = {name: known for name, known in TABLE.items() if known == name}
# How ONNX calls the inputs that hold weights, and those that take an offset.
WEIGHTS = {"w", "b", "scale", "data"}  # b: of Gemm and MatMul
BIASES = {"b", "c", "bias"}


@pytest.mark.parametrize("name", TABLE)
def test_a_line_has_the_name_of_its_operator(name: str) -> None:
    known = TABLE[name]
    assert name in (known, known.name) or (name == f"Contrib{known.name}" and known != known.name)


@pytest.mark.parametrize("name", ONNX)
def test_positions_are_those_of_the_schema(name: str) -> None:
    known, inputs = ONNX[name], [each.name.casefold() for each in onnx.defs.get_schema(name).inputs]
    if known.weight is not None:
        assert inputs[known.weight] in WEIGHTS
    if known.bias is not None:
        assert inputs[known.bias] in BIASES


def test_a_linear_operator_says_what_it_costs() -> None:
    for known in having(Trait.LINEAR | Trait.RECURRENT):
        assert known.cost is not None
        assert known.weight is not None


def test_the_random_operators_are_those_that_are_not_deterministic() -> None:
    drawn = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and s.name.startswith("Random")}
    assert having(Trait.RANDOM) == drawn | {"Bernoulli", "Multinomial"}


def test_a_name_means_something_in_its_own_domain_only() -> None:
    for node in (helper.make_node("Conv", ["x", "w"], ["y"], domain="com.example"), ir.Node("com.example", "Conv", [])):
        kind = kind_of(node)
        assert kind == "com.example::Conv"
        assert kind != op.Conv
        assert kind.weight is None
        assert kind.name == "Conv"


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_both_names_of_the_default_domain_are_one(domain: str) -> None:
    assert kind_of(helper.make_node("Conv", ["x", "w"], ["y"], domain=domain)) is op.Conv


def test_a_contrib_operator_has_its_facts() -> None:
    node = helper.make_node("QGemm", [], ["y"], domain="com.microsoft")
    assert kind_of(node).weight == 3
    assert kind_of(node).has(Trait.QUANTISED)


def test_an_operator_is_its_text_where_a_node_is_made() -> None:
    node = ir.node(op.Conv, [ir.val("x"), ir.val("w")])
    assert ir.to_proto(node).op_type == "Conv"
    assert helper.make_node(op.Relu, ["x"], ["y"]).op_type == "Relu"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_keeps_the_facts(again) -> None:
    assert again(op.Conv) == op.Conv
    assert again(op.Conv).bias == 2


def test_sums_are_as_long_as_the_axis_that_is_summed_over() -> None:
    def cost(kind: Operator, position: int, shape: tuple[int, ...], **flags: int) -> int:
        assert kind.cost is not None
        return kind.cost.sums(flags, position, shape)

    assert cost(op.Conv, 1, (8, 3, 5, 5)) == 75
    assert cost(op.ConvTranspose, 1, (8, 3, 5, 5), group=2) == 100
    assert cost(op.Gemm, 1, (4, 7)) == 4
    assert cost(op.Gemm, 1, (4, 7), transB=1) == 7
    assert cost(op.Gemm, 0, (4, 7)) == 7
    assert cost(op.MatMul, 1, (2, 4, 7)) == 4
    assert cost(op.MatMul, 0, (4, 7)) == 7
    assert cost(op.LSTM, 1, (1, 8, 6)) == 6


def test_in_integers_asks_for_any_of_several() -> None:
    assert in_integers("weights") == {"Conv", "Gemm", "MatMul"}
    assert in_integers("weights", "join") == {"Conv", "Gemm", "MatMul", "Add", "Concat"}
