"""The sentences that say why a BatchNorm stays: each one is worded here, and the page that explains the causes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bnfold.records.causes import (
    Cause,
    Cycle,
    Growth,
    Held,
    HeldSign,
    Holder,
    Overflow,
    Refusal,
    Stays,
    ZeroScale,
)
from bnfold.records.sentences import REFUSALS, reason

PAGE = Path(__file__).resolve().parents[2] / "docs" / "causes.md"
RELU = Holder(Cause.NONLINEAR, "act", "Relu")
INPUT, OUTPUT = Holder(Cause.GRAPH_INPUT, "x"), Holder(Cause.GRAPH_OUTPUT, "y")


def _offset(holder: Holder) -> Held:
    return Held("offset", after=holder)


SENTENCES: list[tuple[Stays, str]] = [
    (
        Held("scale", INPUT, OUTPUT),
        "scale pinned by graph input `x` on its input and by graph output `y` on its output",
    ),
    (Held("offset", RELU, RELU), "offset pinned by Relu `act`"),
    (Held("offset", before=RELU), "offset pinned by Relu `act`"),
    (Held("offset"), "offset caught in a cycle of operators that share their units"),
    (_offset(Holder(Cause.NO_RULE, "n", "Abs")), "offset pinned by Abs `n` (bnfold has no rule for it yet)"),
    (_offset(Holder(Cause.CAPTURED, "n", "If")), "offset pinned by If `n`, which captures it"),
    (_offset(Holder(Cause.CAPTURED, "v")), "offset pinned by `v`, which is of the graph around its own"),
    (_offset(Holder(Cause.SHARED, "bn1", "Add")), "offset pinned by the units chosen for `bn1`"),
    (_offset(Holder(Cause.PADDING, "conv", "Conv")), "offset pinned by zero padding of Conv `conv`"),
    (_offset(Holder(Cause.PADDING, "up", "ConvTranspose")), "offset pinned by the borders of ConvTranspose `up`"),
    (_offset(Holder(Cause.PADDING, "p", "AveragePool")), "offset pinned by padded zeros counted by AveragePool `p`"),
    (_offset(Holder(Cause.PRODUCT, "gate", "Mul")), "offset pinned by Mul `gate`"),
    (_offset(Holder(Cause.DATA_STATISTICS, "ln", "LayerNormalization")), "offset pinned by LayerNormalization `ln`"),
    (
        _offset(Holder.refusing("Conv", "c", Refusal(Cause.NOT_CONSTANT, "weight"))),
        "offset pinned by Conv `c` (its weight is not a constant)",
    ),
    (HeldSign(3, RELU), "scale of channel 3 is negative, and its sign is held by Relu `act`"),
    (Cycle(3), "scale of channel 3: input and output share one scale, a cycle around it"),
    (ZeroScale(3), "channel 3 shares its units with a channel of scale 0"),
    (
        ZeroScale(3, Holder(Cause.NONLINEAR), Holder(Cause.PADDING, "conv", "Conv")),
        "channel 3 has scale 0: its input is read by operators that are not linear besides this BatchNorm, "
        "and its output is held by zero padding of Conv `conv`",
    ),
    (
        ZeroScale(3, INPUT, Holder(Cause.SHARED)),
        "channel 3 has scale 0: its input is held by graph input `x`, "
        "and its output has several readers, or none that is linear",
    ),
    (
        Growth(3, "stream", 12345.678),
        "conditioning: channel 3 has gamma so small that its offset would be stored at 1.23e+04 times the magnitude of "
        "`stream`, which others read",
    ),
    (Overflow("conv.weight", "conv", "float16"), "its scale takes `conv.weight` beyond the range of float16"),
    (Refusal(Cause.NO_RULE, "attribute", "gain"), "bnfold does not know its attribute gain"),
    (Refusal(Cause.NO_RULE, "attribute value", "transA=1"), "transA=1 is not supported"),
    (Refusal(Cause.FAILED_RULE, "the rule for Mul", "IndexError"), "the rule for Mul failed (IndexError): report it"),
    (Refusal(Cause.TRAINING_MODE), "it is in training mode"),
    (
        Refusal(Cause.REPLACEABLE, found="bn.bias"),
        "`bn.bias` is an input, whose value a caller may replace: take it off the graph's inputs",
    ),
    (Refusal(Cause.FUSED_KERNEL, found="Gelu"), "it is part of a Gelu, which runtimes compute in one kernel"),
    (Refusal(Cause.INVALID, "bias", "2"), "its bias has 2 axes"),
]  # fmt: skip


@pytest.mark.parametrize(("stays", "sentence"), SENTENCES, ids=lambda case: case if isinstance(case, str) else "")
def test_sentence(stays, sentence):
    assert reason(stays) == sentence


@pytest.mark.parametrize("key", REFUSALS, ids=" ".join)
def test_every_refusal_is_told_in_terms_of_the_operator(key):
    """As a clause in brackets behind its name: no capital, no full stop, and all that it has to say filled in."""
    cause, part = key
    clause = reason(Refusal(cause, part, "FOUND"))
    assert clause
    assert clause[0].islower() or clause.startswith(("`", "FOUND", " failed"))
    assert not clause.endswith(".")
    assert not re.search(r"[{}]", clause)


@pytest.mark.parametrize(
    ("before", "after", "cause", "names"),
    [
        (RELU, OUTPUT, Cause.NONLINEAR, ("act", "y")),
        (RELU, Holder(Cause.NO_RULE, "abs", "Abs"), Cause.NO_RULE, ("act", "abs")),
        (Holder(Cause.CAPTURED, "if", "If"), Holder(Cause.NO_RULE, "abs", "Abs"), Cause.CAPTURED, ("if", "abs")),
        (None, OUTPUT, Cause.GRAPH_OUTPUT, ("y",)),
        (RELU, RELU, Cause.NONLINEAR, ("act",)),
        (None, None, Cause.SHARED, ()),
    ],
)
def test_the_side_that_may_let_go_is_the_cause(before, after, cause, names):
    held = Held("scale", before, after)
    assert (held.cause, held.held_by) == (cause, names)


def test_page_explains_every_cause():
    """One row each, in order, with what bnfold itself says about its possibility, and what to do."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in PAGE.read_text("utf-8").splitlines()
        if "| `" in line
    ]
    assert [row[:2] for row in rows] == [
        [f"`{cause.value}`", "impossible" if cause.is_impossible else "no rule yet"] for cause in Cause
    ]
    assert all(len(row) == 4 and all(row) for row in rows)


def test_example_of_the_page_is_what_a_report_says():
    (block,) = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    entry = json.loads(block)
    relu, conv = entry["held_by"]
    held = Held("offset", Holder(Cause.NONLINEAR, relu, "Relu"), Holder(Cause.PADDING, conv, "Conv"))
    assert (held.cause, held.held_by, reason(held)) == (entry["cause"], (relu, conv), entry["reason"])
