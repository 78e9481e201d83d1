"""The opset is the one asked for, or the export is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from bnfold.errors import InputRefused
from bnfold.export import finish, plain_graph
from bnfold.export.metadata import layer_of
from bnfold.export.opsets import convert_opset, newest_opset, refuse_other_opset
from bnfold.export.torch_export import default_opset
from bnfold.records import SourceFacts
from bnfold.sources.types import OnnxSource

if TYPE_CHECKING:
    import numpy.typing as npt

    from bnfold.sources import TorchSource


@pytest.mark.parametrize(("opset", "exported"), [(11, 18), (13, 18), (14, 18), (17, 18), (18, 18), (21, 21)])
def test_an_opset_is_honoured(
    source: TorchSource, plain: ir.Model, opset: int, exported: int, *, run: object, image: npt.NDArray[np.float32]
) -> None:
    model = plain_graph(source, opset=opset)
    assert model.opset_imports[""] == exported
    assert [layer_of(node) for node in model.graph if node.op_type == "BatchNormalization"] == ["blocks.0.bn"]

    proto = finish(model, opset=opset)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", opset)]
    outputs = [run(each, image)["logits"] for each in (proto, ir.to_proto(plain))]  # type: ignore[operator]  # fixture
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("opset", [1, 10, 26, 999])
def test_other_opsets_are_refused_with_the_one_range(source: TorchSource, plain: ir.Model, opset: int) -> None:
    for asked in (source, _as_onnx_source(plain)):
        with pytest.raises(InputRefused, match=f"^opset must be 11 to {newest_opset()}, got {opset};.*--opset"):
            plain_graph(asked, opset=opset)


def test_an_opset_that_the_exporter_falls_back_from_is_refused(plain: ir.Model) -> None:
    with pytest.raises(InputRefused, match=r"found opset 20, expected opset 26; leave --opset out \(the default\)"):
        refuse_other_opset(plain, 26, native="the default")


def test_the_default_is_that_of_the_exporter(plain: ir.Model) -> None:
    assert plain.opset_imports[""] == default_opset()


def _as_onnx_source(model: ir.Model) -> OnnxSource:
    return OnnxSource(SourceFacts("net.onnx", "", 0), Path("net.onnx"), model, (), ())


@pytest.mark.parametrize("opset", [None, 13, 21])
def test_an_onnx_source_keeps_its_opset_or_is_converted_at_the_end(plain: ir.Model, opset: int | None) -> None:
    model = plain_graph(_as_onnx_source(plain), opset=opset)
    assert model.opset_imports[""] == 20
    assert finish(model, opset=opset).opset_import[0].version == (opset or 20)


def graph_of(body: str, *, opset: int, signature: str = "float[2, 3, 4] x) => (float y") -> ir.Model:
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({signature}) {{ {body} }}'
    return ir.from_proto(onnx.parser.parse_model(text))


ROWS = "float[2, 3, 4] x) => (float[N, M, K] y"
PAIR = "float[2, 3, 4] x) => (float[A, B] y"
ROW = "float[1, 3] x) => (float[A] y"
IMAGE = "float[1, 4, 6, 6] x) => (float[N, C, H, W] y"
WAYS_BACK = {
    "ReduceMean": ("axes = Constant <value_ints = [1, -1]> () y = ReduceMean (x, axes)", 18, 11, ROWS),
    "ReduceMean of all": ("y = ReduceMean <keepdims = 0> (x)", 18, 13, "float[2, 3, 4] x) => (float y"),
    "ReduceSum": ("axes = Constant <value_ints = [2]> () y = ReduceSum (x, axes)", 18, 11, ROWS),
    "Softmax": ("y = Softmax (x)", 18, 11, ROWS),
    "Split, uneven": ("y, z = Split <axis = 2, num_outputs = 2> (x)", 18, 13,
        "float[2, 3, 5] x) => (float[A, B, C] y, float[D, E, F] z",
   ),
    "Split to 11": ("y, z = Split <axis = -1, num_outputs = 2> (x)", 18, 11,
        "float[2, 3, 4] x) => (float[A, B, C] y, float[D, E, F] z",
   ),
    "Squeeze": ("axes = Constant <value_ints = [0]> () y = Squeeze (x, axes)", 21, 11, ROW),
    "Unsqueeze": ("axes = Constant <value_ints = [-1]> () y = Unsqueeze (x, axes)", 21, 11,
        "float[1, 3] x) => (float[A, B, C] y"),
    "Reshape": ("s = Constant <value_ints = [-1, 2]> () y = Reshape <allowzero = 1> (x, s)", 18, 11, PAIR),
    "Shape": ("s = Shape <start = 1, end = -1> (x) y = Cast <to = 1> (s)", 18, 11, "float[2, 3, 4] x) => (float[A] y"),
    "HardSwish": ("y = HardSwish (x)", 18, 11, ROWS),
    "Relu, Add": ("a = Relu (x) y = Add (a, x)", 18, 11, ROWS),
    "Pad": ("p = Constant <value_ints = [0,0,1,1,0,0,1,1]> () y = Pad <mode = \"reflect\"> (x, p)", 19, 11, IMAGE),
    "Resize": (
        "s = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> () y = Resize <mode = \"linear\"> (x, , s)", 19, 11, IMAGE
    ),
    "Resize to sizes": ("s = Constant <value_ints = [1,4,9,9]> () y = Resize (x, , , s)", 19, 11, IMAGE),
    "AveragePool": ("y = AveragePool <kernel_shape = [2, 2], dilations = [1, 1]> (x)", 19, 11, IMAGE),
    "GridSample": (
        "g = Slice (x, o, e, a) t = Transpose <perm = [0,2,3,1]> (g) y = GridSample <mode = \"linear\"> (x, t)", 20, 16,
        "float[1, 4, 6, 6] x) => (float[N, C, H, W] y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WAYS_BACK)
def test_an_operator_goes_back_without_a_change_of_its_numbers(name: str) -> None:
    body, newer, older, signature = WAYS_BACK[name]
    if name == "GridSample":
        body = (
            "o = Constant <value_ints=[0]> () e = Constant <value_ints=[2]> () a = Constant <value_ints=[1]> () " + body
        )
    model = graph_of(body, opset=newer, signature=signature)
    x = np.random.default_rng(0).standard_normal(model.graph.inputs[0].shape.numpy()).astype(np.float32)

    lowered = convert_opset(model, older, where="net")
    proto = ir.to_proto(lowered)
    assert lowered.opset_imports[""] == older
    onnx.checker.check_model(proto, full_check=True)
    outputs = [
        onnxruntime.InferenceSession(each.SerializeToString()).run(None, {"x": x})
        for each in (proto, ir.to_proto(model))
    ]
    for found, expected in zip(*outputs, strict=True):
        # The same function in other operators: a few roundings of float32 more, 2^-24 each.
        np.testing.assert_allclose(found, expected, rtol=16 * 2.0**-24, atol=2.0**-24)


@pytest.mark.parametrize("output", ["float[A, B, C, D] y", "float[A, 1, C, D] y"])
def test_an_output_whose_sizes_have_names_is_converted_up_and_keeps_them(output: str) -> None:
    signature = f"float[N, 3, H, W] x, float[1, 3, 2, 2] w) => ({output}"
    model = graph_of("y = Conv <kernel_shape = [2, 2]> (x, w)", opset=11, signature=signature)
    raised = convert_opset(model, 13, where="net")
    assert raised.opset_imports[""] == 13
    assert raised.graph.outputs[0].shape == model.graph.outputs[0].shape


NO_WAY = {
    "LayerNormalization": ("s = Constant <value_floats = [1.0, 1.0, 1.0, 1.0]> () y = LayerNormalization (x, s)",
                           17, 16,
                           r"LayerNormalization.* exists from opset 17 on"),
    "Softmax": ("y = Softmax <axis = 1> (x)", 18, 12, "Softmax.* is not along the last axis"),
    "Cast": ("b = Cast <to = 16> (x) y = Cast <to = 1> (b)", 18, 12, r"Cast.* takes no tensor\(bfloat16\)"),
    "Gelu": ("y = Gelu (x)", 20, 19, "Gelu.* exists from opset 20 on"),
    "ScatterND": ("i = Constant <value = int64[1,1] {0}> () "
                  "z = Constant <value = float[1,3,4] {0,0,0,0,0,0,0,0,0,0,0,0}> () "
                  "y = ScatterND <reduction = \"add\"> (x, i, z)", 18, 13,
                  "ScatterND.* reduction=add, which came with 1[68]"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_WAY)
def test_an_operator_without_a_way_back_is_named(name: str) -> None:
    body, newer, older, sentence = NO_WAY[name]
    model = graph_of(body, opset=newer, signature="float[2, 3, 4] x) => (float[2, 3, 4] y")
    with pytest.raises(InputRefused, match=f"from opset {newer} to {older} in net: found {sentence}.*--opset"):
        convert_opset(model, older, where="net")
