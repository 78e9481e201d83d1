"""`.onnx` files as sources: what is read, and every way in which one can be unsound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.export import finish
from bnfold.records import InputSpec
from bnfold.sources import OnnxSource, load_source
from bnfold.sources.external_data import load_with_data

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., onnx.ModelProto]


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputRefused) as caught:
        load_source(str(path), **options)  # type: ignore[arg-type]  # options are checked by the tests' outcome
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save_model(proto, path)
    return path


@pytest.fixture
def external(make_onnx: Make, tmp_path: Path) -> Path:
    """A model whose tensors all lie in net.data."""
    path = tmp_path / "net.onnx"
    onnx.save_model(make_onnx(), path, save_as_external_data=True, location="net.data", size_threshold=0)
    return path


def test_an_onnx_file_loads(onnx_path: Path) -> None:
    source = load_source(str(onnx_path))

    assert isinstance(source, OnnxSource)
    assert source.inputs == (InputSpec("x", (None, 2, 4, 4), "float32"),)
    assert source.output_names == ("y",)
    assert source.facts.n_parameters == 6 + 3 + 3


def test_external_data_is_found_and_hashed(external: Path) -> None:
    before = load_source(str(external)).facts
    data = external.with_name("net.data")
    data.write_bytes(data.read_bytes()[:-1] + b"\x40")

    assert before.n_parameters == 6 + 3 + 3
    assert load_source(str(external)).facts.sha256 != before.sha256


def test_missing_external_data_is_named(external: Path) -> None:
    external.with_name("net.data").unlink()
    sentence = refusal(external)

    assert "external data file net.data is missing" in sentence
    assert "put it beside the .onnx file" in sentence


def test_truncated_external_data(external: Path) -> None:
    data = external.with_name("net.data")
    data.write_bytes(data.read_bytes()[:10])

    assert "net.data is truncated" in refusal(external)


def test_a_link_to_a_file_with_external_data(external: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "net.onnx"
    link.parent.mkdir()
    link.symlink_to(external)
    assert load_source(str(link)).facts.sha256 == load_source(str(external)).facts.sha256


@pytest.fixture
def cached(external: Path, tmp_path: Path) -> Path:
    """The model as the cache of the Hugging Face hub keeps it: links to files that are named by their digests."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file, digest in ((external, "aaaa"), (external.with_name("net.data"), "bbbb")):
        file.rename(blobs / digest)
        (snapshot / file.name).symlink_to(f"../../blobs/{digest}")
    return snapshot / external.name


def test_a_cache_of_links(cached: Path, make_onnx: Make) -> None:
    source = load_source(str(cached))

    assert isinstance(source, OnnxSource)
    for tensor in make_onnx().graph.initializer:
        stored = source.model.graph.initializers[tensor.name].const_value
        assert stored is not None
        np.testing.assert_array_equal(stored.numpy(), numpy_helper.to_array(tensor))
    assert load_with_data(cached).graph.initializer[0].raw_data == make_onnx().graph.initializer[0].raw_data


def test_a_cache_whose_data_was_not_fetched(cached: Path) -> None:
    cached.with_name("net.data").resolve().unlink()

    assert "net.data is missing" in refusal(cached)


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "here"), ("offset", "-4"), ("length", "-4"), ("length", "8"), ("length", "4096")]
)
def test_places_in_external_data_that_are_none(external: Path, key: str, value: str) -> None:
    proto = onnx.load_model(external, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    external.write_bytes(proto.SerializeToString())

    assert "the place of tensor w in its external data is wrong" in refusal(external)


@pytest.mark.parametrize("location", ["../secret.data", "ABSOLUTE", "link.data"])
def test_external_data_stays_in_the_folder(external: Path, tmp_path: Path, location: str) -> None:
    outside = tmp_path.parent / "secret.data"
    outside.write_bytes(bytes(4096))
    (tmp_path / "link.data").symlink_to(outside)
    location = str(outside) if location == "ABSOLUTE" else location
    proto = onnx.load_model(external, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    external.write_bytes(proto.SerializeToString())

    assert "outside the model's folder" in refusal(external)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_truncated_files(onnx_path: Path, keep: float) -> None:
    content = onnx_path.read_bytes()
    onnx_path.write_bytes(content[: int(len(content) * keep)])
    sentence = refusal(onnx_path)

    assert "truncated" in sentence
    assert str(onnx_path) in sentence


def test_a_file_that_is_no_onnx(onnx_path: Path) -> None:
    onnx_path.write_text("<html>404 not found</html>")

    assert "cannot be decoded" in refusal(onnx_path)


def test_a_graph_against_the_specification(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx()
    proto.graph.node[0].input[0] = "nowhere"
    sentence = refusal(saved(proto, tmp_path))

    assert "breaks the ONNX specification" in sentence
    assert "nowhere" in sentence


def test_training_mode(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx(attributes="<training_mode = 1>")
    proto.graph.node[1].output.extend(["new_mean", "new_var"])
    sentence = refusal(saved(proto, tmp_path))

    assert "training_mode=1 in norm" in sentence
    assert "model.eval()" in sentence


@pytest.mark.parametrize("opset", [6, 9])
def test_training_mode_of_older_opsets(make_onnx: Make, tmp_path: Path, opset: int) -> None:
    proto = make_onnx()
    proto.opset_import[0].version = opset
    if opset == 9:
        proto.graph.node[1].output.extend(["new_mean", "new_var", "saved_mean", "saved_var"])

    assert "training mode" in refusal(saved(proto, tmp_path))


def test_a_negative_variance(make_onnx: Make, tmp_path: Path) -> None:
    sentence = refusal(saved(make_onnx(variance="1, -1, -2"), tmp_path))

    assert "layer norm" in sentence
    assert "2 of 3 channels negative" in sentence


def test_a_variance_of_nan_in_a_constant_node(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx()
    proto.graph.initializer.pop()
    nan = numpy_helper.from_array(np.array([1, np.nan, 1], np.float32), "var")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["var"], value=nan))

    assert "1 of 3 channels NaN" in refusal(saved(proto, tmp_path))


def test_weights_that_are_not_finite(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full((3, 2, 1, 1), np.inf, np.float32), "w"))

    assert "w (6 of 6)" in refusal(saved(proto, tmp_path))


def test_dynamic_axes_besides_the_batch_take_a_size_and_want_none(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[2].dim_param = "height"
    path = saved(proto, tmp_path)
    assert load_source(str(path)).inputs[0].shape == (None, 2, None, 4)
    assert load_source(str(path), dims={"height": 7}).inputs[0].shape == (None, 2, 7, 4)
    assert load_source(str(path), input_shapes=[(1, 2, 7, 4)]).inputs[0].shape == (None, 2, 7, 4)
    assert "found 1x2x7x5, expected ?x2x?x4" in refusal(path, input_shapes=[(1, 2, 7, 5)])


@pytest.mark.parametrize(("ir_version", "inputs"), [(3, ["x"]), (8, ["x", "w", "scale", "bias", "mean", "var"])])
def test_parameters_among_the_inputs_are_constants_only_in_ir_version_3(
    make_onnx: Make, tmp_path: Path, ir_version: int, inputs: list[str]
) -> None:
    proto = make_onnx()
    proto.ir_version = ir_version
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", 8))
    for tensor in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    source = load_source(str(saved(proto, tmp_path)))

    assert isinstance(source, OnnxSource)
    assert [value.name for value in source.model.graph.inputs] == inputs
    assert source.inputs == (InputSpec("x", (None, 2, 4, 4), "float32"),)
    finished = finish(source.model)
    assert [value.name for value in finished.graph.input] == inputs
    assert finished.ir_version >= 4


def test_parameters_of_ir_version_3_that_are_no_inputs(make_onnx: Make, tmp_path: Path) -> None:
    """Against the specification of that version, and ONNX Runtime takes it."""
    proto = make_onnx()
    proto.ir_version = 3
    proto.opset_import[0].version = 8

    assert load_source(str(saved(proto, tmp_path))).facts.n_parameters == 6 + 3 + 3


@pytest.mark.parametrize("field", ["type", "shape"])
def test_an_output_whose_type_is_not_written_has_it_inferred(make_onnx: Make, tmp_path: Path, field: str) -> None:
    proto = make_onnx()
    if field == "type":
        proto.graph.output[0].ClearField("type")
    else:
        proto.graph.output[0].type.tensor_type.ClearField("shape")
    source = load_source(str(saved(proto, tmp_path)))

    assert isinstance(source, OnnxSource)
    assert finish(source.model).graph.output == make_onnx().graph.output


def test_an_output_whose_rank_cannot_be_inferred(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx()
    proto.graph.input.append(helper.make_tensor_value_info("shape", onnx.TensorProto.INT64, ["rank"]))
    proto.graph.node.append(helper.make_node("Reshape", ["y", "shape"], ["z"]))
    proto.graph.output[0].name = "z"
    proto.graph.output[0].type.tensor_type.ClearField("shape")

    assert "output z has no shape, and none can be inferred" in refusal(saved(proto, tmp_path))


def test_a_batch_of_nothing(make_onnx: Make, tmp_path: Path) -> None:
    proto = make_onnx()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 0

    assert "input x has a batch of 0" in refusal(saved(proto, tmp_path))
