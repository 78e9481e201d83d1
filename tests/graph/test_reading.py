"""Files that ONNX Runtime takes and the IR does not as they stand: the function stays, and so does the argument."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.folding import fold
from bnfold.graph.reading import read_model, tidied
from bnfold.records import Cause

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2, 4, 4] x) => (float[N, 3, 4, 4] y)
<float[3] scale = {1, 2, 3}, float[3] bias = {0, 1, 2}, float[3] mean = {1, 0, 0}, float[3] var = {1, 1, 1}>
{
    [same] c = Conv (x, w)
    [same] r = Relu (c)
    [same] z = BatchNormalization (r, scale, bias, mean, var)
    [other] y = Identity (z)
}
"""
WEIGHT = np.array([[1, 0], [0, 2], [3, 0]], np.float32).reshape(3, 2, 1, 1)


def _net(*, weight: bool = True) -> onnx.ModelProto:
    model = onnx.parser.parse_model(NET)
    if weight:
        model.graph.initializer.append(numpy_helper.from_array(WEIGHT, "w"))
    return model


def _nodes(model: onnx.ModelProto) -> list[tuple[str, str]]:
    return [(node.op_type, node.name) for node in model.graph.node]


def _sparse(indices: list[int] | list[list[int]]) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64)), [3, 2, 1, 1])


FLAT, ROWS = [0, 3, 4], [[0, 0, 0, 0], [1, 1, 0, 0], [2, 0, 0, 0]]


def test_a_tidy_model_is_read_as_it_is():
    model = _net()
    for node, name in zip(model.graph.node, "abcd", strict=True):
        node.name = name
    assert tidied(model) is model


def test_nodes_of_one_name_are_told_apart():
    model = _net()
    model.graph.node[3].name = "same#2"
    names = [name for _, name in _nodes(tidied(model))]
    assert names == ["same", "same#3", "same#4", "same#2"]
    assert [name for _, name in _nodes(model)] == ["same", "same", "same", "same#2"], "the argument changed"


def test_nodes_are_put_behind_those_that_they_read():
    model = _net()
    reverse = onnx.GraphProto(node=reversed(model.graph.node)).node
    del model.graph.node[:]
    model.graph.node.extend(reverse)
    onnx.checker.check_model(tidied(model))
    folded, ledger = fold(model)
    onnx.checker.check_model(folded)
    assert ledger.found == 1


def test_a_branch_counts_as_a_reader_of_what_it_captures():
    inner = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["n"])],
        "inner",
        [],
        [helper.make_tensor_value_info("n", TensorProto.FLOAT, None)],
    )
    model = _net()
    flag = numpy_helper.from_array(np.bool_(True), "flag")
    model.graph.initializer.append(flag)
    node = helper.make_node("If", ["flag"], ["chosen"], then_branch=inner, else_branch=inner)
    model.graph.node.insert(0, node)
    assert [op_type for op_type, _ in _nodes(tidied(model))] == ["Conv", "Relu", "If", "BatchNormalization", "Identity"]


def test_a_circle_stays_for_the_checker_to_name():
    model = _net()
    model.graph.node[0].input[0] = "y"
    with pytest.raises(onnx.checker.ValidationError, match="topologically sorted"):
        onnx.checker.check_model(tidied(model))


@pytest.mark.parametrize("indices", [FLAT, ROWS])
@pytest.mark.parametrize("as_node", [False, True])
def test_sparse_tensors_become_dense(indices, as_node):
    model = _net(weight=False)
    if as_node:
        constant = helper.make_node("Constant", [], ["w"], sparse_value=_sparse(indices))
        model.graph.node.insert(0, constant)
    else:
        model.graph.sparse_initializer.append(_sparse(indices))
    before = model.SerializeToString()
    dense = tidied(model)
    assert model.SerializeToString() == before
    tensor = dense.graph.node[0].attribute[0].t if as_node else dense.graph.initializer[-1]
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), WEIGHT)
    assert fold(model)[1].found == 1


def _with_function(*body: onnx.NodeProto, opset: int) -> onnx.ModelProto:
    function = helper.make_function("own", "Block", ["a"], ["b"], list(body), [helper.make_opsetid("", opset)])
    graph = helper.make_graph(
        [helper.make_node("Block", ["x"], ["y"], domain="own")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


def test_a_function_of_another_opset_is_converted():
    body = helper.make_node("Mul", ["a", "w"], ["m"]), helper.make_node("Relu", ["m"], ["b"])
    proto = _with_function(*body, opset=13)
    proto.functions[0].input.append("w")
    proto.graph.node[0].input.append("w")
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(2), "w"))
    model = read_model(proto)
    assert [node.op_type for node in model.graph] == ["Mul", "Relu"]
    assert not model.functions


def test_a_size_below_0_is_open():
    model = _net()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    read = read_model(model)
    assert [value.shape[0].value for value in (*read.graph.inputs, *read.graph.outputs)] == [None, None]


def test_text_is_kept_and_does_not_stop_inference():
    model = _net()
    model.graph.initializer.append(helper.make_tensor("labels", TensorProto.STRING, [2], [b"cat", b"dog"]))
    model.graph.node.append(helper.make_node("Identity", ["labels"], ["names"]))
    model.graph.output.append(helper.make_tensor_value_info("names", TensorProto.STRING, [2]))
    folded, ledger = fold(model)
    assert (ledger.found, ledger.kept) == (1, 1)
    assert ledger.entries[0].cause == Cause.NONLINEAR
    (names,) = (tensor for tensor in folded.graph.initializer if tensor.data_type == TensorProto.STRING)
    assert list(numpy_helper.to_array(names)) in (["cat", "dog"], [b"cat", b"dog"])


def test_what_the_ir_cannot_hold_is_refused():
    model = _net()
    model.graph.initializer[0].data_type = 99
    with pytest.raises(InputRefused, match="cannot be read"):
        read_model(model)
