"""Preprocessing of pixels in the weights: equal to nodes in float64, borders included; refused where it cannot be."""

from __future__ import annotations

import itertools

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import ModelProto, numpy_helper

from bnfold.export import finish
from bnfold.folding import fold_model
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.preprocessing_nodes import insert_preprocessing
from bnfold.records.file_facts import Preprocessing
from bnfold.records.input_format import InputFormat, PreprocessingFold
from bnfold.verification.certificate import prove

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ROUNDED = 27 * 2 * 2.0**-24  # 27 products, none above the largest output, of a weight and a mean rounded to float32
SIZES = ((5, 7), (8, 8), (3, 4), (9, 3), (3, 3))


def network(
    body: str, *, opset: int = 17, shape: str = "N, 3, H, W", weights: tuple[int, ...] = (4, 3, 3, 3)
) -> ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : {opset}]> net (float[{shape}] x) => (float[N, M, P, Q] y) {{ {body} }}'
    )
    rng = np.random.default_rng(5)
    arrays = {
        "w": rng.normal(size=weights), "u": rng.normal(size=(2, 3, 1, 1)), "b": rng.normal(size=weights[0]),
        "gamma": rng.uniform(0.5, 2, weights[0]), "mean": rng.normal(size=weights[0]),
    }  # fmt: skip
    read = {name for node in model.graph.node for name in node.input}
    stored = (numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items() if name in read)
    model.graph.initializer.extend(stored)
    return model


def folded(
    model: ModelProto, form: InputFormat, ones_limit: int | None = None
) -> tuple[ModelProto, ModelProto, PreprocessingFold]:
    """The graph with explicit nodes, the folded one, and what became of the nodes; the fold is certified."""
    work = ir.from_proto(model)
    insert_preprocessing(work, form)
    plain = ir.to_proto(work)
    ledger = fold_model(work, pixels=form.input, ones_limit=ones_limit)
    file = finish(work)
    assert ledger.certificate is not None
    proof = prove(file, plain, ledger.certificate)
    assert proof, proof.failed
    assert ledger.preprocessing is not None
    return plain, file, ledger.preprocessing


def pixels(form: InputFormat, size: tuple[int, int], seed: int) -> np.ndarray:
    shape = (2, *size, 3) if form.layout == "nhwc" else (2, 3, *size)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(form.dtype)


def exact(model: ModelProto, x: np.ndarray) -> np.ndarray:
    return Float64Graph(model).evaluate({"x": x})["y"]


def by_hand(x: np.ndarray, form: InputFormat) -> np.ndarray:
    """The network's own input, in float64, of layout NCHW."""
    images = x.astype(np.float64)
    images = images if form.layout == "nhwc" else images.transpose(0, 2, 3, 1)
    images = images[..., ::-1] if form.channels != form.network.channels else images
    own = form.network
    return ((images / own.divide - np.array(own.mean)) / np.array(own.std)).transpose(0, 3, 1, 2)


CONVOLUTIONS = {
    "padded": "y = Conv <pads = [1, 1, 1, 1]> (x, w, b)",
    "one side": "y = Conv <pads = [0, 2, 1, 0]> (x, w)",
    "strided": "y = Conv <pads = [2, 2, 2, 2], strides = [2, 3]> (x, w, b)",
    "dilated": "y = Conv <pads = [2, 2, 2, 2], dilations = [2, 2]> (x, w)",
    "same": 'y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w)',
    "two readers": "a = Conv <pads = [1, 1, 1, 1]> (x, w) c = Conv (x, u) y = Concat <axis = 1> (a, c)",
    "padded apart": "p = Constant <value = int64[8] {0, 0, 1, 2, 0, 0, 3, 1}> () t = Pad (x, p) y = Conv (t, w, b)",
    "padded apart and not": "p = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> () "
    "z = Constant <value = float {0.0}> () t = Pad (x, p, z) a = Conv (t, w) c = Conv (x, u) "
    "d = Conv <pads = [0, 1, 2, 1]> (x, w) y = Concat <axis = 1> (a, c, d)",
    "batchnorm": "a = Conv <pads = [1, 1, 1, 1]> (x, w) y = BatchNormalization (a, gamma, b, mean, gamma)",
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("layout", "channels"), list(itertools.product(("nhwc", "nchw"), ("rgb", "bgr"))))
def test_the_file_computes_what_the_network_computes_of_preprocessed_pixels(name, layout, channels):
    form = InputFormat("x", IMAGENET, layout=layout, channels=channels)
    model = network(CONVOLUTIONS[name])
    plain, file, outcome = folded(model, form)
    assert outcome.outcome == "folded"
    kinds = [node.op_type for node in file.graph.node]
    assert not set(kinds) & {"Sub", "Div", "Mul", "Add", "Gather", "BatchNormalization"}
    assert file.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    for seed, size in enumerate(SIZES):
        x = pixels(form, size, seed)
        expected = Float64Graph(model).evaluate({"x": by_hand(x, form)})["y"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(exact(plain, x), expected, rtol=0, atol=1e-6 * scale)  # float32 constants
        np.testing.assert_allclose(exact(file, x), exact(plain, x), rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("layout", "channels"), [("nhwc", "bgr"), ("nchw", "rgb")])
def test_where_ones_would_take_longer_the_mean_is_subtracted_in_front(name, layout, channels):
    form = InputFormat("x", IMAGENET, layout=layout, channels=channels)
    model = network(CONVOLUTIONS[name])
    plain, file, outcome = folded(model, form, ones_limit=0)
    assert outcome.mean_in_node
    kinds = [node.op_type for node in file.graph.node]
    assert not set(kinds) & {"Div", "Mul", "Add", "Gather", "BatchNormalization"}
    assert kinds.count("Sub") == 1
    for seed, size in enumerate(SIZES):
        x = pixels(form, size, seed)
        expected = exact(plain, x)
        np.testing.assert_allclose(exact(file, x), expected, rtol=0, atol=ROUNDED * np.abs(expected).max())


@pytest.mark.parametrize(
    ("body", "work"),
    [
        (CONVOLUTIONS["padded"], 36), (CONVOLUTIONS["strided"], 6), (CONVOLUTIONS["two readers"], 38),
        ("y = Conv <pads = [1, 1, 1, 1], group = 3> (x, g)", 54),
    ],
)  # fmt: skip
def test_a_channel_of_ones_is_written_where_it_costs_no_more_than_the_limit(body, work):
    """Outputs times taps over strides, of all that read it."""
    form = InputFormat("x", IMAGENET)
    model = network(body.replace("(x, g)", "(x, w)"), weights=(6, 1, 3, 3) if "group" in body else (4, 3, 3, 3))
    _, _, enough = folded(model, form, ones_limit=work)
    assert (enough.mean_in_node, enough.reason) == (False, None)
    _, _, less = folded(model, form, ones_limit=work - 1)
    assert less.mean_in_node
    assert f"takes {work} multiply-adds a pixel" in str(less.reason)


def test_a_convolution_without_a_border_has_a_bias_whatever_the_limit():
    _, file, outcome = folded(network("y = Conv (x, w)"), InputFormat("x", IMAGENET), ones_limit=0)
    assert not outcome.mean_in_node
    assert {"Sub", "Pad"}.isdisjoint(node.op_type for node in file.graph.node)


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize(("groups", "weights"), [(3, (6, 1, 3, 3)), (1, (4, 3, 3, 3))])
@pytest.mark.parametrize("pads", [0, 1])
@pytest.mark.parametrize("mean", [0.0, 0.4])
def test_before_rounding_they_are_equal_in_float64(groups, weights, pads, mean, limit):
    form = InputFormat("x", Preprocessing(mean=(mean, mean / 2, -mean), std=(0.2, 0.3, 0.5), channels="bgr"))
    model = network(f"y = Conv <pads = [{pads}, {pads}, {pads}, {pads}], group = {groups}> (x, w)", weights=weights)
    work = ir.from_proto(model)
    insert_preprocessing(work, form)
    plain = ir.to_proto(work)
    ledger = fold_model(work, pixels="x", rounded=False, ones_limit=limit)
    assert ledger.preprocessing.outcome == "folded"
    stored = {name: value.const_value for name, value in work.graph.initializers.items()}
    proto = ir.to_proto(work)
    for size in ((5, 7), (8, 8), (3, 4), (9, 3), (4, 4)):
        x = pixels(form, size, 1)
        expected = exact(plain, x)
        got = Float64Graph(proto, stored).evaluate({"x": x})["y"]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_a_network_that_reads_channels_last_takes_them_too():
    model = network("t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv <pads = [1, 1, 1, 1]> (t, w)", shape="N, H, W, 3")
    network_of = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.5,), layout="nhwc")
    form = InputFormat("x", network_of, layout="nhwc", channels="bgr")
    plain, file, outcome = folded(model, form)
    assert outcome.outcome == "folded"
    assert [node.op_type for node in file.graph.node] == ["Transpose", "Pad", "Cast", "Conv"]
    x = pixels(form, (6, 5), 2)
    np.testing.assert_allclose(exact(file, x), exact(plain, x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("opset", [9, 11, 12, 13])
def test_opsets(opset):
    form = InputFormat("x", IMAGENET)
    plain, file, outcome = folded(network(CONVOLUTIONS["padded"], opset=opset), form)
    assert outcome.outcome == ("folded" if opset >= 11 else "explicit")
    kinds = [node.op_type for node in file.graph.node]
    if opset >= 11:
        assert kinds == ["Transpose", *(["Pad", "Cast"] if opset >= 13 else ["Cast", "Pad"]), "Conv"]
    else:
        assert "Pad of opset 9" in outcome.reason
    x = pixels(form, (6, 5), 2)
    np.testing.assert_allclose(exact(file, x), exact(plain, x), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Relu (x)", "Relu"),
        ("a = Conv (x, u) c = Relu (x) y = Concat <axis = 1> (a, c)", "Relu"),
        ("k = Neg (w) y = Conv <pads = [1, 1, 1, 1]> (x, k)", None),
    ],
)
def test_what_reads_the_input_besides_keeps_nodes_and_says_so(body, reason):
    form = InputFormat("x", IMAGENET, channels="bgr")
    plain, file, outcome = folded(network(body), form)
    x = pixels(form, (6, 5), 2)
    np.testing.assert_allclose(exact(file, x), exact(plain, x), rtol=1e-5, atol=1e-4)
    assert outcome.outcome == ("explicit" if reason else "folded")  # constants are computed before
    assert reason is None or reason in outcome.reason


@pytest.mark.parametrize(
    "pad",
    [
        "z = Constant <value = float {1.0}> () t = Pad (x, p, z)",
        'z = Constant <value = float {0.0}> () t = Pad <mode = "edge"> (x, p, z)',
    ],
)
def test_a_border_of_anything_but_zeros_keeps_nodes(pad):
    body = f"p = Constant <value = int64[8] {{0, 0, 1, 1, 0, 0, 1, 1}}> () {pad} y = Conv (t, w, b)"
    _, _, outcome = folded(network(body), InputFormat("x", IMAGENET))
    assert outcome.outcome == "explicit"
    assert "Pad" in outcome.reason


def test_no_mean_takes_no_channel():
    form = InputFormat("x", Preprocessing(std=(0.5,)))
    _, file, _ = folded(network(CONVOLUTIONS["padded"]), form)
    assert [node.op_type for node in file.graph.node] == ["Transpose", "Cast", "Conv"]
