"""A rule with a fault costs the BatchNorms around it, never the command, and leaves nothing half-made."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fold_checks import check_fold, kept, kept_causes

import bnfold.folding.terms
import bnfold.folding.trace
from bnfold.errors import InputRefused
from bnfold.folding import fold
from bnfold.folding.channel_groups import ChannelGroups
from bnfold.folding.relate import relate_graph
from bnfold.folding.relations import RULES
from bnfold.folding.units import Refusal, Units
from bnfold.graph import canonical
from bnfold.records import Cause

FEED = {"x": np.random.default_rng(1).normal(size=(2, 2, 5, 5))}

pytestmark = pytest.mark.usefixtures("rules_may_fail")


def _network() -> onnx.ModelProto:
    """Conv-BN-LeakyRelu-Conv-BN: the first BatchNorm has the Conv in front of it, the second too."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (double[N, 2, 5, 5] x) => (double[N, 3, 5, 5] y) {
          c = Conv <pads = [1, 1, 1, 1]> (x, w)
          b = BatchNormalization (c, g1, b1, m1, v1)
          r = LeakyRelu <alpha = 0.5> (b)
          d = Conv (r, v)
          y = BatchNormalization (d, g2, b2, m2, v2)
        }"""
    )
    arrays = {"w": rng.normal(size=(3, 2, 3, 3)), "v": rng.normal(size=(3, 3, 1, 1))}
    for k in (1, 2):
        arrays |= {f"g{k}": rng.uniform(0.5, 2, 3), f"b{k}": rng.normal(size=3)}
        arrays |= {f"m{k}": rng.normal(size=3), f"v{k}": rng.uniform(0.5, 2, 3)}
    for name, array in arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def _outcomes(model: onnx.ModelProto) -> list[str]:
    """After a fold, checked by evaluation, what became of each BatchNorm."""
    _, ledger = check_fold(model, FEED)
    return [entry.outcome for entry in ledger.entries]


def test_without_a_fault_both_vanish() -> None:
    assert _outcomes(_network()) == ["absorbed", "absorbed"]


@pytest.mark.parametrize("name", ["LeakyRelu", "Conv", "BatchNormalization"])
def test_a_relation_that_raises_pins_its_node(name: str, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Whatever it has set before it raised is taken back: here all of it."""
    rule, seen = RULES[name].relate, list[ir.Node]()

    def relate(node: ir.Node, units: Units):
        seen.append(node)
        rule(node, units)
        units.no_offset(units.of(node.outputs[0]), node, Cause.PADDING)
        raise IndexError("list index out of range")

    monkeypatch.setattr(RULES[name], "relate", relate)
    caplog.set_level(logging.DEBUG)
    _, ledger = check_fold(_network(), FEED)

    assert seen
    # Without LeakyRelu each BatchNorm still has its own Conv.
    causes = kept_causes(ledger)
    assert list(causes.values()) == ([] if name == "LeakyRelu" else [Cause.FAILED_RULE] * 2)
    refusals = [stays if isinstance(stays, Refusal) else stays.before.refusal for stays in kept(ledger).values()]
    assert {(refusal.part, refusal.found) for refusal in refusals} <= {(f"the rule for {name}", "IndexError")}
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert any(f"the rule for {name} failed (IndexError)" in record.getMessage() for record in warned)
    traced = [record for record in caplog.records if record.levelno == logging.DEBUG and record.exc_info]
    assert traced


def test_nothing_of_a_failed_rule_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relations are those of a graph whose rule refuses at once."""
    rule = RULES["LeakyRelu"].relate

    def raises(node: ir.Node, units: Units):
        rule(node, units)
        units.tie(units.of(node.outputs[0]), units.fresh((1, 3, 1, 1)))
        units.keep_sign(units.of(node.outputs[0]), node)
        units.use(units.of(node.outputs[0]))
        raise ValueError("no")

    def refuses(node: ir.Node, units: Units):
        return Refusal(Cause.FAILED_RULE, "the rule for LeakyRelu", "ValueError")

    found = []
    for relate in (raises, refuses):
        monkeypatch.setattr(RULES["LeakyRelu"], "relate", relate)
        units = relate_graph(ir.from_proto(onnx.shape_inference.infer_shapes(_network())).graph)
        found.append(
            [units.n_ids, {value.name: ids.tolist() for value, ids in units.ids.items()}]
            + [
                [repr(item) for item in listed]
                for listed in (units.equal_scales, units.equal_offsets, units.other_uses)
            ]
            + [
                [(pin.ids.tolist(), pin.holder) for pin in pins]
                for pins in (units.scale_pins, units.offset_pins, units.positive)
            ]
        )
    assert found[0] == found[1]


def test_parameters_that_cannot_be_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is pinned, and the units are chosen again without it."""

    def rewrite(node: ir.Node, gauge: object):
        if len(node.inputs[1].shape) == 4 and node.inputs[1].shape[2] == 1:
            raise FloatingPointError("underflow")
        return original(node, gauge)

    original = RULES["Conv"].rewrite
    monkeypatch.setattr(RULES["Conv"], "rewrite", rewrite)
    _, ledger = check_fold(_network(), FEED)
    assert [entry.outcome for entry in ledger.entries] == ["absorbed", "kept"]
    assert ledger.entries[1].cause == Cause.FAILED_RULE


def test_input_that_is_refused_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def relate(node: ir.Node, units: Units):
        raise InputRefused("a negative variance")

    monkeypatch.setattr(RULES["BatchNormalization"], "relate", relate)
    with pytest.raises(InputRefused, match="negative variance"):
        fold(_network())


def test_dead_channels_of_a_node_that_cannot_be_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stay, and so do those around them; the fold is right."""
    model = _network()
    zeroed = onnx.numpy_helper.to_array(model.graph.initializer[2]).copy()
    zeroed[1] = 0
    model.graph.initializer[2].CopyFrom(onnx.numpy_helper.from_array(zeroed, "g1"))
    folded, _ = fold(model, channel_block=1)
    assert _width(folded) == 2

    original = bnfold.folding.trace._trace

    def trace(node: ir.Node, coupled: ChannelGroups) -> bool:
        done = original(node, coupled)
        if node.op_type == "LeakyRelu":
            raise KeyError("y")
        return done

    monkeypatch.setattr(bnfold.folding.trace, "_trace", trace)
    folded, _ = fold(model, channel_block=1)
    assert _width(folded) == 3


def _width(model: onnx.ModelProto) -> int:
    """The channels that the first Conv writes."""
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    return sizes[model.graph.node[0].input[1]][0]


def test_branches_that_cannot_be_described(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
        g (float[N, 2, 5, 5] x) => (float[N, 2, 5, 5] y)
        <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2, 2, 1, 1] v = {1, 1, 0, 1}> {
          a = Conv (x, w)
          b = Conv (x, v)
          y = Add (a, b)
        }"""
    )
    assert [node.op_type for node in fold(model)[0].graph.node] == ["Conv"]

    def described(node: ir.Node):
        raise ZeroDivisionError

    monkeypatch.setattr(bnfold.folding.terms, "_described", described)
    assert [node.op_type for node in fold(model)[0].graph.node] == ["Conv", "Conv", "Add"]


def test_constants_that_cannot_be_computed(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def fold_constants(model: ir.Model, **_: int) -> None:
        raise RuntimeError("Error during constant folding for node 'n'")

    monkeypatch.setattr(canonical.optimizer, "fold_constants", fold_constants)
    assert _outcomes(_network()) == ["absorbed", "absorbed"]
    assert "computing constants failed (RuntimeError)" in caplog.text


def test_a_scale_that_is_one_number() -> None:
    """Dynamically quantised files multiply scales of rank 0: no axis of these is one of channels."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N, 4] x) => (float[N, 2] y)
        <uint8[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}, uint8 zero = {4}, float scale = {0.5}> {
          q, s, z = DynamicQuantizeLinear (x)
          p = MatMulInteger (q, w, z, zero)
          f = Cast <to = 1> (p)
          t = Mul (s, scale)
          y = Mul (f, t)
        }"""
    )
    folded, ledger = fold(model)
    assert ledger.found == 0
    assert len(folded.graph.node) == 5
