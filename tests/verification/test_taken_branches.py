"""An `If` that always takes one branch may be that branch in the file: what is in it is proven value by value."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import ModelProto, numpy_helper

from bnfold.records import Certificate
from bnfold.verification.certificate import prove

# How many elements u has is known only when it runs; of all 26 neither branch makes whole rows, so that no region
# around the whole If can be tried.
ROWS = """
  u = Compress <axis = 0> (x, c)
  s = Shape (k)
  two = Gather (s, zero)
  t = Cast <to = 9> (two)
"""
SOURCE = f"""
<ir_version: 9, opset_import: ["" : 17]>
net (float[26] x, bool[26] c, float[2, N] k) => (float[M, 3] y) {{
  {ROWS}
  y = If (t) <
    then_branch = then () => (float[M, 3] m) {{ r = Reshape (u, by4)  m = MatMul (r, w) }},
    else_branch = else () => (float[M, 3] e) {{ q = Reshape (u, by3)  e = Relu (q) }}
  >
}}
"""
TAKEN = f"""
<ir_version: 9, opset_import: ["" : 17]>
net (float[26] x, bool[26] c, float[2, N] k) => (float[M, 3] y) {{
  {ROWS}
  r = Reshape (u, by4)
  y = MatMul (r, w)
}}
"""
OTHER = TAKEN.replace("by4", "by3").replace("MatMul (r, w)", "Relu (r)")
STORED = {
    "zero": np.array(0), "by4": np.array([-1, 4]), "by3": np.array([-1, 3]),
    "w": np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32),
}  # fmt: skip


def model(text: str, **changed: np.ndarray) -> ModelProto:
    found = onnx.parser.parse_model(text)
    found.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in {**STORED, **changed}.items())
    return found


@pytest.mark.parametrize("file", [TAKEN, SOURCE])
def test_the_branch_that_is_taken_is_proven(file):
    proof = prove(model(file), model(SOURCE))
    assert proof, proof.failed
    assert proof.largest_region <= 2


@pytest.mark.parametrize(("file", "limit"), [(TAKEN, 2), (OTHER, 1)])
def test_a_branch_that_an_open_length_decides_is_not_taken(file, limit):
    """At the batch of the proof, 2, the condition says what the file does; another batch says otherwise."""
    source, file = (
        text.replace("float[2, N] k", "float[B, 4] k").replace("Cast <to = 9> (two)", "Equal (two, limit)")
        for text in (SOURCE, file)
    )
    assert not prove(model(file, limit=np.array(limit)), model(source, limit=np.array(limit)))


def test_another_branch_is_not():
    assert not prove(model(OTHER), model(SOURCE))


def test_other_numbers_in_it_are_found():
    proof = prove(model(TAKEN, w=STORED["w"] * np.float32(1.01)), model(SOURCE), Certificate({"": {}}, {"": {}}))
    assert not proof
