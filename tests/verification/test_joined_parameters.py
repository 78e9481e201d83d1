"""A file whose simplification joined weights of three products is proven to the digits of each."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from bnfold import fold_export
from bnfold.export import finish
from bnfold.folding import fold_model
from bnfold.verification.certificate import prove
from bnfold.verification.certificate.joined import with_joined

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 8, 6] x) => (float[N, 6, P] q, float[N, 6, Q] k, float[N, 6, R] v) {
    n = BatchNormalization (x, gamma, beta, mean, variance)
    t = Transpose <perm = [0, 2, 1]> (n)
    q = MatMul (t, wq)
    k = MatMul (t, wk)
    v = MatMul (t, wv)
}"""


@pytest.fixture
def network() -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(8, 8)) for name in ("wq", "wk", "wv")}
    arrays |= {name: rng.uniform(0.5, 1.5, 8) for name in ("gamma", "variance")} | {"mean": rng.normal(size=8)}
    arrays["beta"] = arrays["mean"] * arrays["gamma"] / np.sqrt(arrays["variance"] + 1e-5)  # nothing but a scale
    stored = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    model.graph.initializer.extend(stored)
    return model


def test_digits_of_the_parts_are_those_of_the_whole(network: onnx.ModelProto) -> None:
    model = ir.from_proto(network)
    ledger = fold_model(model)
    assert ledger.certificate is not None
    file = finish(model)
    kinds = [node.op_type for node in file.graph.node]
    assert (kinds.count("MatMul"), kinds.count("Split")) == (1, 1), "onnxsim joined nothing: the test tests nothing"
    alone = prove(file, network, ledger.certificate)
    assert not alone
    assert "largest magnitude" in alone.failed.reason
    joined = with_joined(ledger.certificate, file, network)
    assert joined is not None
    proof = prove(file, network, joined)
    assert proof, proof.failed


def test_another_number_in_the_whole_is_no_part(network: onnx.ModelProto) -> None:
    model = ir.from_proto(network)
    ledger = fold_model(model)
    file = finish(model)
    for tensor in file.graph.initializer:
        array = numpy_helper.to_array(tensor).copy()
        if array.shape == (8, 24):
            array[3, 11] = np.nextafter(array[3, 11], np.float32(2))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    assert with_joined(ledger.certificate, file, network) is ledger.certificate


def test_such_a_file_is_proven_as_it_is_exported(network: onnx.ModelProto) -> None:
    result = fold_export(network, budget_s=0, threads=1)
    assert result.passed
    assert result.verify.certificate is not None
    assert [node.op_type for node in result.model.graph.node].count("MatMul") == 1
