"""The fold as a pass of onnx_ir: what it requires, and the sums that it ensures."""

import dataclasses

import onnx
import onnx_ir as ir
import pytest

from bnfold.errors import InputRefused
from bnfold.folding import FoldOptions, FoldPass, fold_model
from bnfold.records import Ledger

NETWORK = """<ir_version: 10, opset_import: ["" : 20]>
agraph (float[N,2,4] x) => (float[N,2,4] y)
<float[2,2,1] w = {1, -2, 0.5, 1}, float[2] g = {2, 0.5}, float[2] b = {1, 0}, float[2] m = {0, 1}, float[2] v = {1, 4}>
{
    c = Conv (x, w)
    y = BatchNormalization <epsilon = 0.0> (c, g, b, m, v)
}"""
IN_FUNCTION = """<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
agraph (float[N,2,4] x) => (float[N,2,4] y)
<float[2,2,1] w = {1, -2, 0.5, 1}, float[2] g = {2, 0.5}, float[2] b = {1, 0}, float[2] m = {0, 1}, float[2] v = {1, 4}>
{
    c = Conv (x, w)
    h = own.norm (c, g, b, m, v)
    d = Conv (h, w)
    y = own.norm (d, g, b, m, v)
}
<domain: "own", opset_import: ["" : 20]>
norm (x, g, b, m, v) => (y) { y = BatchNormalization (x, g, b, m, v) }"""


def model_of(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def test_a_pass_folds_in_place_and_keeps_the_account() -> None:
    model, step = model_of(NETWORK), FoldPass()
    result = step(model)
    assert result.model is model
    assert result.modified
    assert [entry.outcome for entry in step.ledger.entries] == ["absorbed"]
    assert [node.op_type for node in model.graph] == ["Conv"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_a_function_that_is_called_twice_holds_two() -> None:
    step = FoldPass()
    step(model_of(IN_FUNCTION))
    assert (step.ledger.found, step.ledger.absorbed) == (2, 2)


def test_options_are_those_of_fold_model() -> None:
    names = {field.name for field in dataclasses.fields(FoldOptions)}
    assert names == set(fold_model.__kwdefaults__)
    assert vars(FoldOptions()) == fold_model.__kwdefaults__


def test_nodes_in_no_order_are_not_taken() -> None:
    model = model_of(NETWORK)
    conv, norm = list(model.graph)
    model.graph.remove(conv)
    model.graph.insert_after(norm, conv)
    with pytest.raises(ir.passes.PreconditionError, match=r"topological order, got BatchNormalization .* graph.sort"):
        fold_model(model)
    model.graph.sort()
    assert fold_model(model).absorbed == 1


def spoilt(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(f"bnfold.folding.fold_pass.{name}", value)


def test_an_entry_that_is_lost_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, "account", lambda *_: Ledger(()))
    with pytest.raises(ir.passes.PostconditionError, match="the graph had 1 BatchNorms, the ledger has 0"):
        fold_model(model_of(NETWORK))


def test_a_batchnorm_that_is_left_without_being_kept_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(monkeypatch, "apply_choice", lambda *_: None)
    with pytest.raises(ir.passes.PostconditionError, match="1 BatchNorms are left, the ledger kept 0"):
        fold_model(model_of(NETWORK))


def test_an_output_that_is_renamed_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def rename(graph: ir.Graph) -> None:
        graph.outputs[0].name = "z"

    spoilt(monkeypatch, "drop_unused_initializers", rename)
    with pytest.raises(ir.passes.PostconditionError, match="inputs and outputs must be"):
        fold_model(model_of(NETWORK))


def test_a_refusal_of_the_input_is_no_fault_of_the_pass() -> None:
    with pytest.raises(InputRefused, match="variance"):
        fold_model(model_of(NETWORK.replace("v = {1, 4}", "v = {1, -4}")))
