"""Every rule of RULES: in the units that it allows the rewritten node is the same function, and it asks for no less.

Each case runs in every layout of units: differing along one axis, along all of them, along none.
"""

from __future__ import annotations

import cases_layout  # noqa: F401 - registers cases, as do the next four
import cases_linear  # noqa: F401
import cases_pointwise  # noqa: F401
import cases_pooling  # noqa: F401
import numpy as np
import pytest
from commutes import (
    PROMISE,
    draw,
    error,
    holds,
    layouts,
    refuses,
    restrictions,
    scale_classes,
    stored_and_wanted,
    units_of,
)
from rule_case import CASES, Case, Data, all_cases, each_case, feed_of, graph_of, versions

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations import RULES, Rewrite
from bnfold.folding.units import Refusal
from bnfold.graph.shapes import static_size


def related(case: Case):
    """(model, node, units, kind) of each layout, with the relations of the rule."""
    for layout in layouts(case):
        model, node = graph_of(case)
        units = units_of(case, node, layout)
        outcome = RULES[case.op_type].relate(node, units)
        if refuses(case, layout):
            assert isinstance(outcome, Refusal), f"units along {layout} are taken"
            continue
        assert not isinstance(outcome, Refusal), f"units along {layout}: {outcome.reason}"
        yield model, node, units, outcome or RULES[case.op_type].kind


def test_every_rule_has_cases_of_every_opset():
    assert set(CASES) == set(RULES)
    for op_type in CASES:
        missing = set(versions(op_type)) - {case.opset for case in all_cases(op_type)}
        assert not missing, f"no case of {op_type} in opsets {missing}"


@each_case
def test_function_is_kept(case):
    rng = np.random.default_rng(0)
    for _, node, units, _ in related(case):
        asked = restrictions(units)
        for sparse in (False, True):
            gauge = draw(units, asked, rng, sparse=sparse)
            for stored, wanted in stored_and_wanted(case, node, gauge, feed_of(case, rng)):
                assert error(stored, wanted) <= PROMISE


@each_case
def test_output_is_as_free_as_the_input(case):
    for _, node, units, _ in related(case):
        pinned = any(0 in units.of(value) for value in node.inputs if value is not None and value in units.ids)
        for y in node.outputs:
            assert case.pinned_output or pinned or y.dtype is None or 0 not in units.of(y) or y.dtype.is_integer()


@each_case
def test_no_restriction_is_asked_for_in_vain(case):
    """Units that break one restriction alone change the function."""
    rng = np.random.default_rng(1)
    for _, node, units, _ in related(case):
        asked = [r for r in restrictions(units) if r.kind not in case.lax]
        rng.shuffle(asked)
        left = {"scale": 4, "offset": 4, "positive": 2}
        for restriction in asked:
            if not left[restriction.kind]:
                continue
            others = [r for r in restrictions(units) if r != restriction]
            if holds(restriction, draw(units, others, rng)) and holds(restriction, draw(units, others, rng)):
                continue  # it follows from others
            left[restriction.kind] -= 1
            # Of many draws: a maximum passes on only one of its elements.
            assert any(_changes(case, node, draw(units, others, rng), rng) for _ in range(60)), restriction


def _changes(case: Case, node, gauge: Gauge, rng: np.random.Generator) -> bool:
    pairs = stored_and_wanted(case, node, gauge, feed_of(case, rng))
    return any(error(stored, wanted) > 1e-6 for stored, wanted in pairs)


def with_changes(gauge: Gauge, **arrays: np.ndarray) -> Gauge:
    return Gauge(
        gauge.units, **{k: arrays.get(k, getattr(gauge, k)) for k in ("scale", "offset", "constant", "inverse")}
    )


@each_case
def test_dead_channels_are_written_and_read_as_constants(case):
    """`a = 0, c`: what is written there is c. `1/a = 0, d = -t`: what is read there is t, whatever is stored."""
    rng = np.random.default_rng(2)
    rule = RULES[case.op_type]
    for _, node, units, kind in related(case):
        if rule.rewrite is None or kind not in ("linear", "other") or case.op_type == "Max":
            continue
        asked = restrictions(units)
        gauge, label = draw(units, asked, rng), scale_classes(units, asked)
        held = {r.terms[0][0] for r in asked if r.kind == "offset" and r.terms[1][0] == 0}
        for value, read in ((node.outputs[0], False), (node.inputs[0], True)):
            ids = np.setdiff1d(units.of(value), np.flatnonzero(label == label[0]))
            if not ids.size or (read and kind != "linear"):
                continue
            members = np.flatnonzero(label == label[rng.choice(ids)])
            t = 0.0 if held & set(members.tolist()) else 1.25
            arrays = {"inverse": gauge.inverse.copy(), "offset": gauge.offset.copy()}
            if read:
                arrays["inverse"][members], arrays["offset"][members] = 0.0, -t
            else:
                arrays = {"scale": gauge.scale.copy(), "constant": gauge.constant.copy()}
                arrays["scale"][members], arrays["constant"][members] = 0.0, 1.25
            changed = with_changes(gauge, **arrays)
            for stored, wanted in stored_and_wanted(case, node, changed, feed_of(case, rng)):
                assert error(stored, wanted) <= PROMISE


@each_case
def test_a_constant_passes_through_what_only_moves_elements(case):
    """Unless the rule has noted a use: then it does not, for some constant."""
    rng = np.random.default_rng(3)
    for _, node, units, kind in related(case):
        values = [v for v in node.inputs if v is not None and v in units.ids]
        if kind != "carry" or not values or not node.outputs[0].dtype.is_floating_point():
            continue
        asked = restrictions(units)
        gauge, label = draw(units, asked, rng), scale_classes(units, asked)
        used = np.unique(label[np.concatenate([*units.other_uses, np.zeros(1, np.int64)])])
        classes = np.setdiff1d(np.unique(label[np.concatenate([units.of(v).ravel() for v in values])]), label[:1])
        for one in classes.tolist()[:3]:
            scale, constant = gauge.scale.copy(), gauge.constant.copy()
            scale[label == one], constant[label == one] = 0.0, 1.25
            changed = with_changes(gauge, scale=scale, constant=constant)
            pairs = stored_and_wanted(case, node, changed, feed_of(case, rng))
            worst = max(error(stored, wanted) for stored, wanted in pairs)
            if one not in used:
                assert worst <= PROMISE
            else:
                assert worst > 1e-6 or "offset" in case.lax


@each_case
def test_sites_vanish(case):
    """With a_x = a_y s and s d_x = d_y + t, what x stores is what y would store; offered wherever it can be."""
    rng = np.random.default_rng(4)
    for _, node, units, kind in related(case):
        if kind != "site":
            continue
        constants = [x for x in case.inputs if isinstance(x, np.ndarray)]
        sites = units.sites
        assert bool(sites) == (bool(constants) and _varies_along_one_axis(case, node, units))
        for site in sites:
            asked = restrictions(units)
            gauge = draw(units, asked, rng)
            scale, offset = gauge.scale.copy(), gauge.offset.copy()
            scale[site.y_ids] = scale[site.x_ids] / site.scale
            offset[site.y_ids] = site.scale * offset[site.x_ids] - site.shift
            gauge = Gauge(units, scale, offset, scale * offset, 1 / scale)
            assert all(holds(r, gauge) for r in asked)
            feed = feed_of(case, rng)
            ids = units.of(site.x)
            ((_, wanted),) = stored_and_wanted(case, node, gauge, feed)
            kept = gauge.scale[ids] * next(iter(feed.values())) + gauge.constant[ids]
            assert kept.shape == wanted.shape
            assert error(kept, wanted) <= PROMISE
            assert site.saved == static_size(node.outputs[0])


def _varies_along_one_axis(case: Case, node, units) -> bool:
    if case.op_type == "BatchNormalization":
        return True
    x = next(v for v in node.inputs if v in units.ids)
    (constant,) = (c for c in case.inputs if isinstance(c, np.ndarray))
    rank = len(x.shape)
    lengths = np.maximum((1,) * (rank - constant.ndim) + constant.shape, units.of(x).shape)
    widens = any(n > 1 and x.shape[k] != n for k, n in enumerate((1,) * (rank - constant.ndim) + constant.shape))
    return (lengths > 1).sum() <= 1 and not widens


@each_case
def test_readers_are_noted(case):
    """A scaling by a constant is a site that may vanish, or else a use of what it reads; an addition is a shift."""
    for _, node, units, kind in related(case):
        label = scale_classes(units, restrictions(units))
        noted = np.concatenate([*units.other_uses, *(site.x_ids for site in units.sites), np.zeros(1, np.int64)])
        shifted = np.concatenate([*units.shifts, np.zeros(1, np.int64)])
        for x in node.inputs:
            if kind == "site" and x is not None and x in units.ids:
                is_noted = np.isin(label[units.of(x)], label[noted]).all()
                assert is_noted or np.isin(units.of(node.outputs[0]), shifted).all()


def test_a_batchnorm_knows_the_statistics_of_its_input():
    for case in all_cases("BatchNormalization"):
        _, _, _, mean, variance = case.inputs
        for _, _, units, _ in related(case):
            (site,) = units.sites
            assert site.mean.tolist() == mean.tolist()
            epsilon = np.float32(case.attributes.get("epsilon", 1e-5))
            assert site.deviation.tolist() == np.sqrt(variance + np.float64(epsilon)).tolist()


@each_case
def test_parameters_that_do_not_change_are_left_alone(case):
    """Weights between units of scale 1, and a bias that is absent and would be 0, are not written."""
    rule = RULES[case.op_type]
    for _, node, units, kind in related(case):
        if rule.rewrite is None or kind == "site" or not any(isinstance(x, Data) for x in case.inputs):
            continue
        ones, zeros = np.ones(units.n_ids), np.zeros(units.n_ids)
        scale = draw(units, restrictions(units), np.random.default_rng(6)).scale
        bias = 3 if case.op_type in ("LSTM", "GRU", "RNN") else 2
        absent = len(case.inputs) <= bias or case.inputs[bias] is None
        new = rule.rewrite(node, Gauge(units, scale, zeros, zeros, 1 / scale)) or Rewrite({})
        assert (bias not in new.parameters and new.bias is None) or not absent
        if case.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            assert 1 not in (rule.rewrite(node, Gauge(units, ones, zeros, zeros, ones)) or Rewrite({})).parameters


def test_large_weights_are_scaled_by_small_factors():
    """Without groups, by one factor per row and one per column: no array of the weight's size is made."""
    for case in (case for op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") for case in all_cases(op_type)):
        for _, node, units, kind in related(case):
            if kind == "linear" and case.attributes.get("group", 1) == 1:
                gauge = draw(units, restrictions(units), np.random.default_rng(7))
                weight = RULES[case.op_type].rewrite(node, gauge).parameters[1]
                assert all(sorted(factor.shape)[:-1] == [1] * (factor.ndim - 1) for factor in weight.factors)


@pytest.mark.parametrize("op_type", ["Mul", "Div"])
def test_the_larger_operand_of_a_gate_is_the_stream(op_type):
    """Its units go on. Of two of one size the first, unless only the second's are free; a divisor is never one."""
    for case in (case for case in all_cases(op_type) if case.name == "gate"):
        for _, node, units, _ in related(case):
            first, second = (units.of(value) for value in node.inputs)
            larger = second.size > first.size or (second.size == first.size and not first.any())
            stream = second if op_type == "Mul" and larger else first
            assert units.of(node.outputs[0]).ravel().tolist() == stream.ravel().tolist()
