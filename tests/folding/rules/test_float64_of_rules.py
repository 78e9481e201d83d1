"""The float64 evaluation that the rules are held to, itself held against ONNX Runtime, on the same cases."""

from __future__ import annotations

import cases_layout  # noqa: F401 - registers cases, as do the next three
import cases_linear  # noqa: F401
import cases_pointwise  # noqa: F401
import cases_pooling  # noqa: F401
import numpy as np
import onnxruntime
from rule_case import Case, Data, each_case, feed_of, model_of

from bnfold.graph.float64 import evaluate

U32 = 2.0**-24


def logits(case: Case, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where an operand is a Softmax, what it is the Softmax of."""
    for k, x in enumerate(case.inputs):
        if isinstance(x, Data) and x.softmax is not None:
            array = np.log(feed.pop(f"in{k}"))
            feed[f"in{k}.logits"] = array.swapaxes(-1, -2) if x.through == "Transpose" else array
    return feed


@each_case
def test_float64_evaluation_is_that_of_onnx_runtime(case):
    """Sums of n terms in float32: they agree to n roundings of the largest value."""
    model = model_of(case, dtype=np.float32)
    feed = logits(case, feed_of(case, np.random.default_rng(5)))
    feed = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in feed.items()}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, feed)
    ours = evaluate(model, feed)
    arrays = [x for x in case.inputs if isinstance(x, np.ndarray)]
    n_terms = 8 + sum(a.size for a in [*arrays, *feed.values()])
    assert len(ours) == len(theirs) == case.n_outputs
    for mine, other in zip(ours.values(), theirs, strict=True):
        assert mine.shape == other.shape
        atol = n_terms * U32 * np.abs(mine).max(initial=0)
        np.testing.assert_allclose(mine, other, rtol=0, atol=atol)
