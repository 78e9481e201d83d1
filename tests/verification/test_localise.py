"""A failed comparison names the first layer that diverges."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.verification.data.feeds import Feed
from bnfold.verification.localisation.diverging_layer import FOLDED_AGAIN, SOURCE, localise
from bnfold.verification.localisation.imprecise_node import EXECUTION, localise_execution

LAYER = {"convnet": "conv2", "bnnet": "fc"}


def _bias(case, linear, norm):
    new = case.folded()
    new[f"{linear}.bias"][1] += 0.01
    return new


def _scale_axis(case, linear, norm):
    new, state = case.folded(), case.parameters()
    s = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + 1e-5)
    new[f"{linear}.weight"] = (
        new[f"{linear}.weight"]
        * np.resize(s, new[f"{linear}.weight"].shape[1])[
            (None, slice(None), *(None,) * (new[f"{linear}.weight"].ndim - 2))
        ]
    )
    return new


def _eps(case, linear, norm):
    return case.folded(case.parameters() | {f"{norm}.eps": np.float64(0.0)})


def _nan(case, linear, norm):
    new = case.folded()
    new[f"{linear}.weight"].flat[3] = np.nan
    return new


@pytest.mark.parametrize("spoil", [_bias, _scale_axis, _eps, _nan])
@pytest.mark.parametrize("name", ["convnet", "bnnet"])
def test_the_wrong_layer_is_named(cases, name, spoil):
    case = cases[name]
    linear, norm, _ = case.pairs[-1]
    verdict = case.verify(case.file(spoil(case, linear, norm)))
    assert not verdict
    departure = verdict.departure
    assert departure.layer == LAYER[name]
    assert norm in departure.source_layers
    assert not departure.error <= 1e3 * departure.inputs_error
    assert f"diverges in layer {departure.layer} (" in verdict.failure


def test_a_right_file_diverges_nowhere(case):
    file = onnx.load(case.file(case.folded()))
    feed = Feed("random", 2, {"x": np.random.default_rng(0).standard_normal((2, *case.row)).astype(np.float32)})
    assert localise(file, case.plain, [feed]) is None


def _renamed(model):
    """Every value and node by number, as another tool might."""
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    names: dict[str, str] = {}
    for node in model.graph.node:
        node.name = ""
        for field in (node.input, node.output):
            field[:] = [n if n in kept or not n else names.setdefault(n, f"t{len(names)}") for n in field]
    for tensor in model.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)


@pytest.mark.parametrize("name", ["convnet", "bnnet"])
def test_a_file_with_other_names_is_localised_by_its_structure(cases, name):
    case = cases[name]
    linear, norm, _ = case.pairs[-1]
    verdict = case.verify(case.file(_scale_axis(case, linear, norm), edit=_renamed))
    assert verdict.departure.layer == LAYER[name]


def test_the_plain_graph_with_one_epsilon_dropped_is_compared_with_the_source(cases, tmp_path):
    case = cases["convnet"]
    model = onnx.ModelProto()
    model.CopyFrom(case.plain)
    norm = [node for node in model.graph.node if node.op_type == "BatchNormalization"][1]
    del norm.attribute[:]
    norm.attribute.append(helper.make_attribute("epsilon", 0.0))
    onnx.save(model, tmp_path / "file.onnx")
    departure = case.verify(tmp_path / "file.onnx").departure
    assert (departure.layer, departure.operator, departure.compared_with) == ("bn2", "BatchNormalization", SOURCE)


def test_a_file_that_cannot_be_evaluated_stops_where_it_cannot(cases):
    def cut(model):
        (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == "head.weight"]
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :-1].copy(), weight.name))

    case = cases["bnnet"]
    feed = Feed("random", 2, {"x": np.ones((2, 24), np.float32)})
    located = localise(onnx.load(case.file(case.folded(), edit=cut)), case.plain, [feed])
    assert located.departure.layer == "head"
    assert located.departure.compared_with == FOLDED_AGAIN
    assert located.departure.error == np.inf


def test_what_has_no_float64_meaning_is_said(cases):
    def foreign(model):
        output = model.graph.node[-1].output[0]
        model.graph.node[-1].output[0] = "head_out"
        model.graph.node.append(helper.make_node("Relu", ["head_out"], ["cut"]))
        model.graph.node.append(helper.make_node("SampleOp", ["cut"], [output], domain="com.microsoft"))
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    case = cases["bnnet"]
    verdict = case.verify(case.file(case.folded(), edit=foreign))
    assert verdict.departure is None
    assert "could not be localised: this operator of domain com.microsoft" in verdict.failure


def _narrowed(layer, dtype=TensorProto.FLOAT16):
    """The input of a layer through a coarser format and back: the parameters are right, the arithmetic is not."""

    def edit(model):
        (index,) = [i for i, node in enumerate(model.graph.node) if f"{layer}.weight" in node.input]
        node = model.graph.node[index]
        node.name = f"{layer}/{node.op_type}"
        casts = [
            helper.make_node("Cast", [node.input[0]], ["narrow"], f"{layer}/Cast", to=dtype),
            helper.make_node("Cast", ["narrow"], ["wide"], f"{layer}/Cast_1", to=TensorProto.FLOAT),
        ]
        node.input[0] = "wide"
        for cast in reversed(casts):
            model.graph.node.insert(index, cast)

    return edit


@pytest.mark.parametrize(("name", "layer"), [("convnet", "conv2"), ("bnnet", "head")])
def test_a_layer_that_is_executed_with_less_precision_is_named(cases, name, layer, tmp_path):
    case = cases[name]
    verdict = case.verify(case.file(case.folded(), edit=_narrowed(layer)), reproduction=tmp_path)
    departure = verdict.departure
    assert (departure.layer, departure.operator, departure.compared_with) == (layer, "Cast", EXECUTION)
    assert 1e-5 < departure.error < 2.0**-11
    assert departure.inputs_error == 0
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "reproduce.py")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[-1]) > 0


def test_a_right_file_is_executed_as_precisely_as_it_can_be(case):
    file = onnx.load(case.file(case.folded()))
    before = file.SerializeToString()
    rows = np.random.default_rng(0).standard_normal((2, *case.row)).astype(np.float32)
    feeds = [Feed("random", 2, {"x": rows}), Feed("border", 2, {"x": np.ones_like(rows)})]
    assert localise_execution(file, case.plain, feeds, u=2.0**-24, seed=0, threads=1) is None
    assert file.SerializeToString() == before


def test_a_file_that_does_not_run_is_refused_in_words(case):
    file = onnx.load(case.file(case.folded()))
    feed = Feed("random", 2, {"x": np.ones((2, 3), np.float32)})
    with pytest.raises(InputRefused, match="the file does not run"):
        localise_execution(file, case.plain, [feed], u=2.0**-24, seed=0, threads=1)
