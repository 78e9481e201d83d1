"""The inputs of a comparison, and what graphs tell of them."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from bnfold.errors import InputRefused
from bnfold.records import InputSpec
from bnfold.verification.data.feeds import make_feeds
from bnfold.verification.data.input_facts import InputFacts, input_facts
from bnfold.verification.data.precision import accumulation_lengths, coarsest_format

IMAGE = InputSpec("x", (None, 2, 6, 5), "float32")


def _feeds(*inputs: InputSpec, samples=None, facts=None, batches=(1, 2, 3), seed=0):
    return list(make_feeds(inputs, samples=samples, facts=facts or {}, batches=batches, seed=seed))


def test_every_batch_is_used_and_rows_run_alone_and_in_company():
    feeds = [feed for feed in _feeds(IMAGE, batches=(1, 2, 3, 8)) if feed.kind == "random"]
    repeats = [8] * 4  # rows this small
    assert [feed.batch for feed in feeds] == [1, 1, 1, 2, 3, 8, *repeats]
    for feed in feeds:
        assert feed.arrays["x"].shape == (feed.batch, 2, 6, 5)
        assert feed.arrays["x"].dtype == np.float32
    assert [feed.rows for feed in feeds[:5]] == [(0,), (1,), (2,), (3, 0), (1, 2, 0)]
    by_number: dict[int, set[bytes]] = {}
    for feed in feeds:
        for number, row in zip(feed.rows, feed.arrays["x"], strict=True):
            by_number.setdefault(number, set()).add(row.tobytes())
        if feed.batch > 3:
            assert feed.rows[-1] == 0
    assert all(len(contents) == 1 for contents in by_number.values())  # the same number is the same row
    assert len({next(iter(contents)) for contents in by_number.values()}) == len(by_number) == 3 + 1 + 5 * 7


def test_a_fixed_batch_holds_new_rows_each_time():
    feeds = _feeds(InputSpec("x", (4, 2, 6, 5), "float32"), batches=(4,))
    assert [feed.kind for feed in feeds] == ["random"] * 5 + ["border"] * 2
    rows = [number for feed in feeds if feed.kind == "random" for number in feed.rows]
    assert len(set(rows)) == len(rows) == 20
    assert feeds[-1].rows == (-5, -6, 0, 1)  # filled up with ordinary rows


def test_every_sample_is_used():
    samples = {"x": np.arange(20 * 60, dtype=np.float32).reshape(20, 2, 6, 5)}
    feeds = [feed for feed in _feeds(IMAGE, samples=samples) if feed.kind == "samples"]
    seen = {row.tobytes() for feed in feeds for row in feed.arrays["x"]}
    assert seen == {row.tobytes() for row in samples["x"]}


def test_the_seed_decides():
    first, again, other = (_feeds(IMAGE, seed=seed)[0].arrays["x"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_borders_are_excited():
    rows = np.concatenate([feed.arrays["x"] for feed in _feeds(IMAGE) if feed.kind == "border"])
    assert not rows[0].any()
    assert len(np.unique(rows[1])) == len(np.unique(rows[2])) == 1
    lit = [{tuple(pixel) for pixel in np.argwhere(row[0])} for row in rows[3:]]
    assert lit == [{(0, 0)}, {(5, 4)}, {(0, 2), (5, 2), (3, 0), (3, 4)}]


def test_random_inputs_have_the_expected_statistics():
    facts = {"x": InputFacts(mean=np.array([10.0, -5.0]), deviation=np.array([2.0, 0.5]))}
    rows = np.concatenate(
        [feed.arrays["x"] for feed in _feeds(IMAGE, facts=facts, batches=(64,)) if feed.kind == "random"]
    ).astype(np.float64)
    n = rows.shape[0] * 30
    standard_error = np.array([2.0, 0.5]) / np.sqrt(n)
    assert (np.abs(rows.mean((0, 2, 3)) - [10.0, -5.0]) < 5 * standard_error).all()


def test_integers_stay_inside_their_table():
    tokens = InputSpec("ids", (None, 50), "int64")
    for feed in _feeds(tokens, facts={"ids": InputFacts(integers_below=7)}):
        assert feed.arrays["ids"].dtype == np.int64
        assert feed.arrays["ids"].min() >= 0
        assert feed.arrays["ids"].max() == 6
    mask = InputSpec("mask", (None, 50), "bool")
    assert _feeds(mask)[0].arrays["mask"].dtype == np.bool_


def test_an_input_with_a_fixed_first_axis_or_none_keeps_its_shape():
    feeds = _feeds(IMAGE, InputSpec("table", (4, 3), "float32"), InputSpec("scale", (), "float32"))
    for feed in feeds:
        assert feed.arrays["table"].shape == (4, 3)
        assert feed.arrays["scale"].shape == ()


@pytest.mark.parametrize(
    ("spec", "samples", "reason"),
    [
        (InputSpec("x", (None, 3, None, None), "float32"), None, "sizes of an input are not known"),
        (InputSpec("x", (None, 3), "complex64"), None, "no inputs can be made up"),
        (InputSpec("x", (None, 3), "float32"), {"y": np.zeros((2, 3), np.float32)}, "lack an input"),
        (InputSpec("x", (None, 3), "float32"), {"x": np.zeros((2, 4), np.float32)}, "do not fit"),
        (InputSpec("x", (None, 3), "float32"), {"x": np.zeros((2, 3), np.float64)}, "do not fit"),
        (InputSpec("x", (None, 3), "float32"), {"x": np.zeros((0, 3), np.float32)}, "do not fit"),
    ],
)
def test_inputs_that_cannot_be_made_are_refused(spec, samples, reason):
    with pytest.raises(InputRefused, match=reason):
        _feeds(spec, samples=samples)


def test_graphs_tell_of_tables_statistics_and_sums():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (int64[N, 3] ids, float[N, 2] x) => (float[N, 3, 2] e, float[N, 4] y)
        <float[5, 2] table = {0,0,0,0,0,0,0,0,0,0}, float[2] one = {1, 1}, float[2] mean = {3, 4},
         float[2] var = {4, 0}, float[2, 4] w = {1,1,1,1,1,1,1,1}, float[4, 2] v = {1,1,1,1,1,1,1,1}> {
            cast = Cast <to = 7> (ids)
            e = Gather (table, cast)
            n = BatchNormalization (x, one, one, mean, var)
            m = MatMul (n, w)
            g = Gemm <transB = 0> (m, v)
            y = Gemm <transB = 1> (g, v)
        }""")
    facts = input_facts(model)
    assert facts["ids"].integers_below == 5
    np.testing.assert_array_equal(facts["x"].mean, [3.0, 4.0])
    np.testing.assert_array_equal(facts["x"].deviation, [2.0, 1.0])  # a channel without variance gets a deviation of 1
    assert accumulation_lengths(model) == [2, 4, 2]
    assert coarsest_format(model) == "float32"
    for stored, name in ((np.float64, "float64"), (np.float16, "float16")):
        for tensor in model.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(stored), tensor.name))
        assert coarsest_format(model) == name


@pytest.mark.parametrize("shape", [(None,), (None, 3, 2)])
def test_statistics_that_are_not_one_per_channel_are_not_taken(shape):
    facts = {"x": InputFacts(mean=np.full(6, 100.0), deviation=np.ones(6))}
    feeds = _feeds(InputSpec("x", shape, "float32"), facts=facts)
    assert max(np.abs(feed.arrays["x"]).max() for feed in feeds) < 50
