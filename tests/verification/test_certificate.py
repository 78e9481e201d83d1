"""A file is proven operator by operator, and what is wrong is named, whatever the inputs reach."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.errors import InputRefused
from bnfold.export import finish
from bnfold.folding import fold_model
from bnfold.folding.relations import RULES, Rewrite
from bnfold.records import Certificate, Counterpart
from bnfold.verification.certificate import departure_of, facts_of, prove, read_certificate, write_certificate
from bnfold.verification.certificate.parameters import Parameters

BLOCK = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 7, 6] x) => (float[N, 3, 7, 6] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, wide, shift)
  p = Conv (x, point)
  left = BatchNormalization (a, gamma, beta, mean, var)
  right = BatchNormalization (p, gamma2, beta, mean, var)
  s = Add (left, right)
  r = Relu (s)
  y = Conv (r, last)
}
"""
CHAIN = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 7, 6] x) => (float[N, 3, 7, 6] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, wide, shift)
  b = BatchNormalization (a, gamma, beta, mean, var)
  r = Relu (b)
  y = Conv <pads = [1, 1, 1, 1]> (r, last3)
}
"""
DEAD = 2  # off in front of the ReLU, for every input


def _parameters() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    beta = rng.normal(size=4)
    beta[DEAD] = -1e5
    return {
        "wide": rng.normal(size=(4, 2, 3, 3)), "shift": rng.normal(size=4), "point": rng.normal(size=(4, 2, 1, 1)),
        "gamma": rng.uniform(0.5, 2, 4), "gamma2": rng.uniform(0.5, 2, 4), "beta": beta, "mean": rng.normal(size=4),
        "var": rng.uniform(0.5, 2, 4), "last": rng.normal(size=(3, 4, 1, 1)), "last3": rng.normal(size=(3, 4, 3, 3)),
    }  # fmt: skip


def _model(text: str, **changed: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    read = {name for node in model.graph.node for name in node.input}
    for name, array in {**_parameters(), **changed}.items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    for node in model.graph.node:
        node.name = f"layer_{node.output[0]}"
    return model


def _folded(model: onnx.ModelProto, **options: bool) -> tuple[onnx.ModelProto, Certificate]:
    work = ir.from_proto(model)
    certificate = fold_model(work, **options).certificate
    assert certificate is not None
    return finish(work), certificate


def _edited(model: onnx.ModelProto, name: str, change) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    (tensor,) = [tensor for tensor in copy.graph.initializer if tensor.name == name]
    array = numpy_helper.to_array(tensor).copy()
    tensor.CopyFrom(numpy_helper.from_array(change(array).astype(array.dtype), name))
    return copy


def _wrong(certificate: Certificate, name: str, change) -> Certificate:
    """The certificate of a fold that computed this parameter wrongly: its digits are wrong, too."""
    exact = certificate.parameters[""][name]
    parameters = {**certificate.parameters[""], name: lambda stored: change(exact(stored).copy())}
    return dataclasses.replace(certificate, parameters={"": parameters})


@pytest.mark.parametrize("text", [BLOCK, CHAIN])
def test_a_right_fold_is_proven_to_the_last_value(text):
    source = _model(text)
    file, certificate = _folded(source)
    proof = prove(file, source, certificate)
    assert proof, proof.failed
    facts = facts_of(proof, source)
    assert facts.regions == facts.certified >= len(file.graph.node)
    assert facts.unexcited_channels == 0
    assert 0 < facts.largest_error < 1e-12
    assert 0.1 < facts.parameters_max_ulps <= 0.5
    assert facts.largest_region == (5 if text is BLOCK else 1)  # two branches, and their sum


def test_a_fold_without_its_certificate_is_not_proven():
    source = _model(CHAIN)
    file, _ = _folded(source)
    assert not prove(file, source)  # values of the same names in other units


@pytest.mark.parametrize("channel", range(4))
@pytest.mark.parametrize("text", [BLOCK, CHAIN])
def test_a_weight_that_is_wrong_in_any_channel_is_named(text, channel):
    """The digits of the fold are as wrong as the file, as those of a wrong rule are; one channel is never active."""

    def wrong(array: np.ndarray) -> np.ndarray:
        array[channel] *= 1.01
        return array

    source = _model(text)
    file, certificate = _folded(source)
    name = file.graph.node[0].input[1]
    proof = prove(_edited(file, name, wrong), source, _wrong(certificate, name, wrong))
    assert not proof
    departure = departure_of(proof.failed, source)
    assert departure.layer in ("layer_a", "layer_p")
    assert departure.operator == "Conv"
    assert departure.error > 1e-6


@pytest.mark.parametrize("channel", range(4))
def test_an_offset_that_is_dropped_in_any_channel_is_named(channel):
    def dropped(array: np.ndarray) -> np.ndarray:
        array[channel] = 0
        return array

    source = _model(CHAIN)
    file, certificate = _folded(source)
    name = file.graph.node[0].input[2]
    proof = prove(_edited(file, name, dropped), source, _wrong(certificate, name, dropped))
    assert not proof
    assert departure_of(proof.failed, source).layer == "layer_a"


def test_a_parameter_that_is_not_the_rounded_one_is_found():
    source = _model(CHAIN)
    file, certificate = _folded(source)

    def moved(array: np.ndarray) -> np.ndarray:
        array[DEAD, 0, 1, 1] = np.nextafter(array[DEAD, 0, 1, 1], np.float32(9))
        return array

    proof = prove(_edited(file, file.graph.node[0].input[1], moved), source, certificate)
    assert not proof
    assert 0.5 < proof.max_ulps < 1.6


@pytest.mark.parametrize("change", [{"scale": 2.0}, {"offset": 0.5}])
def test_a_false_statement_fails_the_file(change):
    source = _model(CHAIN)
    file, certificate = _folded(source)
    values = dict(certificate.values[""])
    name = file.graph.node[0].output[0]
    false = {key: np.full((1, 4, 1, 1), value) for key, value in change.items()}
    values[name] = tuple(dataclasses.replace(one, **false) for one in values[name])
    proof = prove(file, source, dataclasses.replace(certificate, values={"": values}))
    assert not proof
    assert proof.failed.value == name


def test_outputs_are_in_the_units_of_the_source_whatever_is_said():
    source = _model(CHAIN)
    doubled = _edited(_folded(source)[0], "last3", lambda w: 2 * w)
    _, certificate = _folded(source)
    values = {**certificate.values[""], "y": (Counterpart("y", np.full((1, 1, 1, 1), 2.0)),)}
    parameters = {name: exact for name, exact in certificate.parameters[""].items() if name != "last3"}
    proof = prove(doubled, source, Certificate({"": values}, {"": parameters}))
    assert not proof
    assert proof.failed.value == "y"


def test_a_dead_channel_leaves_with_its_constant():
    gamma = _parameters()["gamma"]
    gamma[1] = 0.0  # max(beta, 0) whatever comes in
    source = _model(CHAIN.replace("last3", "last").replace("<pads = [1, 1, 1, 1]> (r", "(r"), gamma=gamma)
    file, certificate = _folded(source)
    assert prove(file, source, certificate)
    name = file.graph.node[-1].input[2]
    wrong = _wrong(certificate, name, lambda bias: bias * 0)
    proof = prove(_edited(file, name, lambda bias: bias * 0), source, wrong)
    assert not proof
    assert departure_of(proof.failed, source).layer == "layer_y"


def test_a_constant_does_not_reach_over_a_zero_padded_border():
    """Inside it is max(beta, 0), in the padding 0: a bias cannot stand for it."""
    beta, gamma = np.abs(_parameters()["beta"]), _parameters()["gamma"]
    gamma[1] = 0.0
    source = _model(CHAIN, gamma=gamma, beta=beta)
    file, certificate = _folded(source)
    assert prove(file, source, certificate)
    last = next(t for t in file.graph.initializer if t.name == file.graph.node[-1].input[1])
    weight = numpy_helper.to_array(last)
    constant = max(beta[1], 0) * weight[:, 1].sum(axis=(1, 2))
    wrong = onnx.ModelProto()
    wrong.CopyFrom(file)
    wrong.graph.initializer.append(numpy_helper.from_array(constant.astype(np.float32), "taken"))
    wrong.graph.node[-1].input.append("taken")
    tensor = next(t for t in wrong.graph.initializer if t.name == last.name)
    tensor.CopyFrom(numpy_helper.from_array(np.where(np.arange(4)[:, None, None] == 1, 0, weight), last.name))
    assert not prove(wrong, source, certificate)


def test_an_activation_inside_a_region_must_have_been_seen_on_both_sides():
    source = _model(CHAIN, beta=np.where(np.arange(4) == DEAD, -1e14, 0))  # off for all numbers that are drawn
    file, certificate = _folded(source)
    assert prove(file, source, certificate)
    values = {name: known for name, known in certificate.values[""].items() if name in ("x", "y")}
    proof = prove(file, source, dataclasses.replace(certificate, values={"": values}))
    assert not proof
    assert proof.unexcited_channels == 1
    alive = _model(CHAIN, beta=np.zeros(4))
    file, certificate = _folded(alive)
    values = {name: known for name, known in certificate.values[""].items() if name in ("x", "y")}
    proof = prove(file, alive, dataclasses.replace(certificate, values={"": values}))
    assert proof, proof.failed
    assert proof.largest_region == 4


def test_equal_values_of_the_source_may_be_one_in_the_file():
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[N, 2, 7, 6] x) => (float[N, 4, 14, 6] y) {
      t = Relu (x)
      u = Relu (x)
      i = Identity (u)
      a = Conv <pads = [1, 1, 1, 1]> (t, wide, shift)
      b = BatchNormalization (a, gamma, beta, mean, var)
      c = Conv <pads = [1, 1, 1, 1]> (i, wide, shift)
      y = Concat <axis = 2> (b, c)
    }
    """
    source = _model(text)
    file, certificate = _folded(source)
    assert [node.op_type for node in file.graph.node].count("Relu") == 1
    proof = prove(file, source, certificate)
    assert proof, proof.failed


SUBGRAPH = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 7, 6] x, bool c) => (float[N, 4, 7, 6] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, wide, shift)
  b = BatchNormalization (a, gamma, beta, mean, var)
  y = If (c) <
    then_branch = yes () => (float[N, 4, 7, 6] p) {
      q = Conv (x, point)
      p = BatchNormalization (q, gamma2, beta, mean, var)
    },
    else_branch = no () => (float[N, 4, 7, 6] n) { n = Relu (b) }
  >
}
"""


def _with_parameters_of_bodies(text: str) -> onnx.ModelProto:
    model = _model(text)
    known = {tensor.name for tensor in model.graph.initializer}
    for name in ("point", "gamma2"):
        if name not in known:
            model.graph.initializer.append(numpy_helper.from_array(_parameters()[name].astype(np.float32), name))
    return model


def test_bodies_are_proven_too():
    source = _with_parameters_of_bodies(SUBGRAPH)
    file, certificate = _folded(source)
    (node,) = [node for node in file.graph.node if node.op_type == "If"]
    body = next(attribute.g for attribute in node.attribute if attribute.name == "then_branch")
    assert [inner.op_type for inner in body.node] == ["Conv"]
    proof = prove(file, source, certificate)
    assert proof, proof.failed
    stored = {tensor.name: tensor for tensor in (*file.graph.initializer, *body.initializer)}
    weight = stored[body.node[0].input[1]]
    changed = numpy_helper.to_array(weight).copy()
    changed[DEAD] *= 1.01
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    assert not prove(file, source, certificate)


def test_operators_without_parameters_are_compared_too():
    source = _model(CHAIN)
    file, certificate = _folded(source)
    for op_type in ("LeakyRelu", "Sigmoid"):
        other = onnx.ModelProto()
        other.CopyFrom(file)
        (relu,) = [node for node in other.graph.node if node.op_type == "Relu"]
        relu.op_type = op_type
        proof = prove(other, source, certificate)
        assert not proof
        assert departure_of(proof.failed, source).operator == op_type


def test_padding_that_is_shifted_is_found():
    source = _model(CHAIN)
    file, certificate = _folded(source)
    (pads,) = [a for a in file.graph.node[0].attribute if a.name == "pads"]
    pads.ints[:] = [0, 1, 2, 1]
    assert not prove(file, source, certificate)


def test_a_certificate_survives_its_files(tmp_path):
    source = _model(BLOCK)
    file, certificate = _folded(source)
    options = {"opset": None, "static_batch": None}
    path = tmp_path / "certificate.json"
    for _ in range(2):
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        write_certificate(path, certificate, file, source_sha256="s", file_sha256="f", options=options)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    written = read_certificate(path)
    assert (written.source_sha256, written.file_sha256, written.options) == ("s", "f", options)
    proof = prove(file, source, written.certificate)
    assert proof, proof.failed
    assert proof.max_ulps == pytest.approx(prove(file, source, certificate).max_ulps, rel=1e-6)


@pytest.mark.parametrize("damage", ["schema", "truncated", "no numbers", "missing"])
def test_a_damaged_certificate_is_refused(tmp_path, damage):
    source = _model(CHAIN)
    file, certificate = _folded(source)
    path = tmp_path / "certificate.json"
    write_certificate(path, certificate, file, source_sha256="s", file_sha256="f", options={})
    if damage == "schema":
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": "another/1"}))
    elif damage == "truncated":
        path.write_text(path.read_text()[:-50])
    elif damage == "no numbers":
        path.with_suffix(".npz").write_bytes(b"PK")
    else:
        path.unlink()
    with pytest.raises(InputRefused):
        read_certificate(path)


@pytest.fixture
def exported(tmp_path):
    """A source, and the folder that `fold-export --certificate` wrote."""
    onnx.save(_model(CHAIN), tmp_path / "source.onnx")
    report = bnfold.fold_export(tmp_path / "source.onnx", tmp_path / "out", certificate=True, threads=1)
    assert report.passed, report.verify.failure
    assert report.certificate is not None
    assert report.certificate.certified == report.certificate.regions
    return tmp_path / "source.onnx", tmp_path / "out"


def test_verify_proves_a_file_by_its_certificate_without_folding(exported, monkeypatch):
    source, folder = exported
    report = json.loads((folder / "report.json").read_text())
    assert set(report["certificate"]) >= {
        "regions", "certified", "largest_region", "unexcited_channels", "largest_error", "parameters_max_ulps"
    }  # fmt: skip

    def fold_model(*_, **__):
        raise AssertionError("nothing is folded")

    monkeypatch.setattr("bnfold.folding.fold_model", fold_model)
    verdict = bnfold.verify(source, folder / "model.onnx", certificate=folder / "certificate.json", threads=1)
    assert verdict, verdict.failure
    assert verdict.certificate.certified == report["certificate"]["certified"]


def test_a_certificate_of_another_file_or_source_is_refused(exported, tmp_path):
    source, folder = exported
    certificate = folder / "certificate.json"
    onnx.save(_model(CHAIN, shift=np.ones(4)), tmp_path / "other.onnx")
    onnx.save(_edited(onnx.load(folder / "model.onnx"), "last3", lambda w: 2 * w), tmp_path / "edited.onnx")
    for reference, file, what in (
        (tmp_path / "other.onnx", folder / "model.onnx", "source"),
        (source, tmp_path / "edited.onnx", "file"),
    ):
        with pytest.raises(InputRefused, match=f"that of another {what}"):
            bnfold.verify(reference, file, certificate=certificate, threads=1)


def test_a_wrong_rule_makes_fold_export_fail_and_name_the_layer(tmp_path, monkeypatch):
    """In a channel that no input activates: neither outputs nor a second fold by the same rule show it."""
    rule = RULES["Conv"]
    rewrite = rule.rewrite

    def wrong(node, gauge):
        found = dict(rewrite(node, gauge).parameters)
        if 1 in found:
            weight = found[1].numpy().copy()
            weight[DEAD] *= 1.01
            found[1] = weight
        return Rewrite(found)

    monkeypatch.setattr(rule, "rewrite", wrong)
    onnx.save(_model(CHAIN), tmp_path / "source.onnx")
    report = bnfold.fold_export(tmp_path / "source.onnx", tmp_path / "out", threads=1)
    assert not report.passed
    assert report.verify.departure.layer == "layer_a"
    assert "not proven" in report.verify.failure
    assert not (tmp_path / "out" / "model.onnx").exists()


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_a_parameter_that_is_no_number_is_itself(number):
    """Exporters of `torch.clamp(x, min=...)` wrote infinity for the upper bound."""
    stored = np.array([1, number], np.float32)
    parameters = Parameters({}, frozenset({"bound"}), lambda _: stored)
    np.testing.assert_array_equal(parameters.digits("bound", stored), stored)
    assert parameters.max_ulps == 0
    assert parameters.digits("bound", np.array([1, 2], np.float32)) is None


PARTLY = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 4] y) <float[4] a = {0.1, 0.7, 1.3, 2.9}, float b = {0.3333}> {
  p = Mul (a, b)
  s = Shape (x)
  e = Expand (p, s)
  k = Sin (e)
  y = Add (x, k)
}
"""


@pytest.mark.parametrize(("off", "holds"), [(0.0, True), (3e-7, False)])
def test_a_constant_may_be_stored_in_part_and_computed_from_there(off, holds):
    """As exporters leave position embeddings: what is stored is rounded once, in the middle of the computation."""
    source = onnx.parser.parse_model(PARTLY)
    file = onnx.parser.parse_model(PARTLY.replace("  p = Mul (a, b)\n", ""))
    a, b = (numpy_helper.to_array(tensor) for tensor in source.graph.initializer)
    file.graph.initializer.append(numpy_helper.from_array((a * b * (1 + off)).astype(np.float32), "p"))
    assert bool(prove(file, source)) == holds


def test_a_scale_of_several_casts_is_what_the_sources_own_precision_computes():
    """1 / sqrt(96), and the root of that: each is rounded to float32."""
    model = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 20]>
    net (float[N, 4, 96] x) => (float[N, 4, 96] y) {
        at = Constant <value = int64 {2}> ()
        one = Constant <value = float {1.0}> ()
        shape = Shape (x)
        length = Gather (shape, at)
        own = CastLike (length, x)
        root = Sqrt (own)
        unit = CastLike (one, x)
        inverse = Div (unit, root)
        like = CastLike (inverse, x)
        scale = Sqrt (like)
        y = Mul (x, scale)
    }""")
    folded = ir.from_proto(model)
    ledger = fold_model(folded)
    file = finish(folded)
    assert [node.op_type for node in file.graph.node] == ["Mul"]
    assert prove(file, model, ledger.certificate)
