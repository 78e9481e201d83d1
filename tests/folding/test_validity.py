"""Each rule of `validity` finds what it is there for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from validity import RULES, violations


def _valid() -> onnx.ModelProto:
    return onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 17]>
        g (float[N, 2] x) => (float[N, 2] y)
        <float[2] k = {1, 2}, float[N, 2] a> {
          [first] a = Mul (x, k)
          [second] y = Relu (a)
        }""")


def _two_values_of_a_name(graph: onnx.GraphProto) -> None:
    graph.node[1].output[0] = "a"
    graph.output[0].name = "a"


def _wrong_order(graph: onnx.GraphProto) -> None:
    first = graph.node.pop(0)
    graph.node.append(first)


def _stale_statement(graph: onnx.GraphProto) -> None:
    graph.value_info.add().CopyFrom(helper.make_tensor_value_info("gone", onnx.TensorProto.FLOAT, ["N", 2]))


def _wrong_statement(graph: onnx.GraphProto) -> None:
    graph.value_info[0].type.tensor_type.shape.dim[1].dim_value = 3


def _unknown_attribute(graph: onnx.GraphProto) -> None:
    graph.node[1].attribute.add().CopyFrom(helper.make_attribute("slope", 0.1))


def _unused(graph: onnx.GraphProto) -> None:
    graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "spare"))


BREAKS = {
    "names_are_unique": _two_values_of_a_name,
    "order_is_topological": _wrong_order,
    "statements_have_a_value": _stale_statement,
    "shapes_are_as_inferred": _wrong_statement,
    "passes_the_checker": _unknown_attribute,
    "everything_is_used": _unused,
}


def test_a_valid_graph_breaks_no_rule():
    assert violations(_valid()) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_what_it_is_there_for(rule):
    model = _valid()
    BREAKS[rule.__name__](model.graph)
    assert violations(model, (rule,))
