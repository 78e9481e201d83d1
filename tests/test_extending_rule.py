"""docs/extending.md, "An operator rule": the rule of the page, put in, folds the network of the page."""

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from bnfold.folding import fold
from bnfold.folding.relations import RULES
from bnfold.folding.relations.registry import relation
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators
from bnfold.graph.operators import Operator, Trait, kind_of
from bnfold.records.causes import Cause

PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text("utf-8")
SECTION = re.split(r"^## ", PAGE.partition("## An operator rule\n")[2], flags=re.MULTILINE)[0]
LINE, RULE, NETWORK = re.findall(r"^```(?:python)?\n(.*?)^```", SECTION, flags=re.MULTILINE | re.DOTALL)
X = np.array([[[-3.0, 0.0, 1.0, 2.0]], [[4.0, -0.5, 0.25, -8.0]]], np.float32)


@pytest.fixture
def network() -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {NETWORK}')
    onnx.checker.check_model(model, full_check=True)
    return model


def put_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's line and its function, until the test ends."""
    names: dict[str, object] = {"Operator": Operator, "Trait": Trait}
    exec(LINE, names)  # noqa: S102 - our own page
    monkeypatch.setitem(operators._TABLE, "Abs", names["Abs"])
    monkeypatch.setitem(RULES, "Abs", None)
    del RULES["Abs"]
    given = {"relation": relation, "op": operators, "ir": ir, "Units": Units, "Refusal": Refusal, "Cause": Cause}
    exec(RULE, given)  # noqa: S102


def test_the_rule_of_the_page_folds_its_network(network: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch)
    assert kind_of(network.graph.node[1]).has(Trait.HOMOGENEOUS)
    folded, ledger = fold(network)
    assert [entry.outcome for entry in ledger.entries] == ["absorbed"]
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Abs"]
    (before,), (after,) = (ReferenceEvaluator(model).run(None, {"x": X}) for model in (network, folded))
    np.testing.assert_array_equal(after, before)  # dyadic numbers: exact


def test_without_the_rule_the_batchnorm_stays(network: onnx.ModelProto) -> None:
    _, ledger = fold(network)
    assert [entry.outcome for entry in ledger.entries] == ["kept"]


def test_the_page_replaces_a_line_that_is_there() -> None:
    name = LINE.partition(" = ")[0]
    table = Path(operators.__file__).read_text("utf-8")
    assert f'\n{name} = Operator("{name}"' in table
