"""Operators of other domains that bear the names of ONNX's own: no rule speaks for them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from bnfold.folding import fold

NODES = {
    "BatchNormalization": "y = com.example.BatchNormalization <training_mode = 1> (c)",
    "Relu": "y = com.example.Relu (c)",
    "Add": "y = com.example.Add (c, bias)",
    "Mul": "y = com.example.Mul (c, c)",
    "Concat": "y = com.example.Concat (c)",
    "Reshape": "y = com.example.Reshape (c)",
    "Slice": "y = com.example.Slice (c, bias)",
    "MatMul": "y = com.example.MatMul (c)",
    "Sqrt": "y = com.example.Sqrt (c)",
    "CastLike": "y = com.example.CastLike (c)",
}


def _network(node: str) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20, "com.example" : 1]>
        g (float[N, 2, 5, 5] x) => (float[N, 3, 5, 5] z) {{
          b = BatchNormalization (x, gamma, beta, mean, var)
          c = Conv <pads = [1, 1, 1, 1]> (b, w)
          {node}
          z = Conv (y, v)
        }}"""
    )
    arrays = {
        "gamma": rng.uniform(0.5, 2, 2), "beta": np.zeros(2), "mean": np.zeros(2), "var": rng.uniform(0.5, 2, 2),
        "w": rng.normal(size=(3, 2, 3, 3)), "v": rng.normal(size=(3, 3, 1, 1)), "bias": rng.normal(size=(3, 1, 1)),
    }  # fmt: skip
    for name, array in arrays.items():
        if name in node or name != "bias":
            model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return model


@pytest.mark.parametrize("name", NODES)
def test_a_node_of_another_domain_is_no_operator_of_ours(name: str) -> None:
    """It is not counted, not rewritten and not moved through; what stands around it still folds."""
    model = _network(NODES[name])
    folded, ledger = fold(model)

    assert [entry.outcome for entry in ledger.entries] == ["absorbed"]
    (foreign,) = [node for node in folded.graph.node if node.domain == "com.example"]
    was = model.graph.node[2]
    assert (foreign.input, foreign.output, foreign.attribute) == (was.input, was.output, was.attribute)
    assert [node.op_type for node in folded.graph.node] == ["Conv", name, "Conv"]
    kept, given = (
        {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in each.graph.initializer}
        for each in (folded, model)
    )
    np.testing.assert_array_equal(kept["v"], given["v"])
