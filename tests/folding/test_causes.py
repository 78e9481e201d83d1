"""Every cause has a case: a graph whose BatchNorm stays for it, and what holds it there."""

from __future__ import annotations

import json
from dataclasses import dataclass

import onnx
import onnx.parser
import pytest

from bnfold.folding import fold
from bnfold.folding.relations import RULES
from bnfold.records import Cause, LedgerEntry, as_json
from bnfold.records.causes import Holder

X = "float[N,2,6,6] x"
BN = "BatchNormalization (%s, g, b, m, v)"


@dataclass(frozen=True)
class Stays:
    """A graph `x => outputs {body}` in which `bn` is the BatchNorm that stays, and the names of what holds it."""

    body: str
    held_by: tuple[str, ...]
    outputs: str = "float[N,2,6,6] y"
    inputs: str = X
    constants: str = "float[2] g = {1,2}, float[2] b = {1,1}, float[2] m = {0,0}, float[2] v = {1,4}"
    opset: int = 20
    broken: str | None = None  # an operator whose rule raises

    def model(self) -> onnx.ModelProto:
        weights = ", float[2,2,1,1] w = {1,2,3,4}, float[2,2,1,1] u = {2,1,4,3}, int64[8] p = {0,0,1,1,0,0,1,1}"
        text = f'<ir_version: 8, opset_import: ["": {self.opset}]> net ({self.inputs}) => ({self.outputs})'
        return onnx.parser.parse_model(f"{text} <{self.constants}{weights}> {{ {self.body} }}")


def _changed(**arrays: str) -> str:
    """The parameters of the BatchNorm, some of them others."""
    arrays = {"g": "{1,2}", "b": "{1,1}", "m": "{0,0}", "v": "{1,4}", **arrays}
    return ", ".join(f"float[2] {name} = {values}" for name, values in arrays.items())


TWO = "float[N,2,6,6] y, float[N,2,6,6] z"
CASES = {
    Cause.NO_RULE: Stays(f"[a] a = Abs (x) [bn] n = {BN % 'a'} [e] y = Abs (n)", ("a", "e")),
    Cause.UNKNOWN_SHAPE: Stays(
        f"[bn] n = {BN % 'x'} [r] y = Reshape (n, s)", ("x", "r"), "float[A,B] y", f"{X}, int64[2] s"
    ),
    Cause.CAPTURED: Stays(
        f"""[c] c = Conv (x, w) [bn] z = {BN % "c"}
            [if] y = If <then_branch = yes () => (float[N,2,6,6] t) {{ t = Relu (c) }},
                         else_branch = no () => (float[N,2,6,6] f) {{ f = Tanh (c) }}> (flag)""",
        ("if", "z"), TWO, f"{X}, bool flag",
    ),
    Cause.FAILED_RULE: Stays(f"[c] c = Conv (x, w) [bn] y = {BN % 'c'}", ("c", "y"), broken="Conv"),
    Cause.GRAPH_INPUT: Stays(f"[bn] y = {BN % 'x'}", ("x", "y")),
    Cause.GRAPH_OUTPUT: Stays(f"[c] z = Conv (x, w) [bn] y = {BN % 'z'}", ("z", "y"), TWO),
    Cause.NONLINEAR: Stays(f"[c] c = Conv (x, w) [r] r = Relu (c) [bn] y = {BN % 'r'}", ("r", "y")),
    Cause.PADDING: Stays(f"[c] c = Conv (x, w) [p] d = Pad (c, p) [bn] y = {BN % 'd'}", ("p", "y"), "float[N,2,8,8] y"),
    Cause.SIGN: Stays(
        f"[c] c = Conv (x, w) [r] r = Relu (c) [bn] n = {BN % 'r'} [s] y = Sigmoid (n)", ("r",),
        constants=_changed(g="{1,-2}"),
    ),
    Cause.PRODUCT: Stays(
        f"[c] c = Conv (x, w) [s] s = Sigmoid (x) [m] k = Mul (c, s) [bn] y = {BN % 'k'}", ("m", "y")
    ),
    Cause.DATA_STATISTICS: Stays(
        f"[c] c = Conv (x, w) [i] z = InstanceNormalization (c, g, b) [bn] y = {BN % 'c'}", ("i", "y"), TWO
    ),
    Cause.SHARED: Stays(
        f"[c] c = Conv (x, w) [r] r = Relu (c) [bn] n = {BN % 'r'} [s] s = Relu (n) [a] a = Add (r, s) "
        "[d] y = Conv (a, u)", (), constants=_changed(g="{1,4}"),
    ),
    Cause.ZERO_SCALE: Stays(
        f"[c] c = Conv (x, w) [r] r = Relu (c) [e] e = Conv (r, u) [s] s = Relu (e) [bn] n = {BN % 's'} "
        "[a] a = Add (r, n) [d] y = Conv <pads=[1,1,1,1]> (a, w)", ("d",), "float[N,2,8,8] y",
        constants=_changed(g="{0,2}", b="{1,0}"),
    ),
    Cause.FUSED_KERNEL: Stays(
        f"[c] c = Conv (x, w) [bn] y = {BN % 'c'} [d] d = Div (c, k) [f] f = Erf (d) [a] a = Add (f, one) "
        "[q] q = Mul (c, a) [h] z = Mul (q, half)", ("d", "y"), TWO,
        constants=f"{_changed()}, float k = {{1.4142135}}, float one = {{1}}, float half = {{0.5}}",
    ),
    Cause.CONDITIONING: Stays(
        f"[c] c = Conv (x, w) [bn] y = {BN % 'c'} [e] z = Conv (c, u)", (), TWO, constants=_changed(g="{1e-12,1}")
    ),
    Cause.RANGE: Stays(
        f"[c] c = Conv (x, w) [bn] y = {BN % 'c'}", ("c",), constants=_changed(g="{1e38,1e38}", b="{0,0}", v="{1,1}")
    ),
    Cause.TRAINING_MODE: Stays(
        f"[c] c = Conv (x, w) [bn] y, s, t = {BN.replace(' (', ' <training_mode=1> (') % 'c'}", ()
    ),
    Cause.BATCH_STATISTICS: Stays(
        f"[c] c = Conv (x, w) [bn] y, s, t = {BN % 'c'}", (), "float[N,2,6,6] y, float[2] s", opset=13
    ),
    Cause.NOT_CONSTANT: Stays(
        f"[c] c = Conv (x, k) [bn] y = {BN % 'c'}", ("c", "y"), inputs=f"{X}, float[2,2,1,1] k"
    ),
    Cause.REPLACEABLE: Stays(
        f"[c] c = Conv (x, w) [bn] y = {BN % 'c'}", (), inputs=f"{X}, float[2] v = {{1,4}}",
        constants=_changed().rpartition(", ")[0],
    ),
    Cause.INVALID: Stays(
        f"[c] c = Conv (x, w) [bn] y = {BN % 'c'}", (),
        constants=_changed().replace("float[2] m = {0,0}", "float[1] m = {0}"),
    ),
}  # fmt: skip


def kept(case: Stays, monkeypatch: pytest.MonkeyPatch) -> LedgerEntry:
    if case.broken is not None:
        monkeypatch.setattr(RULES[case.broken], "relate", lambda *_: [].pop())
    _, ledger = fold(case.model())
    (entry,) = (entry for entry in ledger.entries if entry.outcome == "kept")
    return entry


def test_every_cause_has_a_case():
    of_modules = {Cause.NO_PARAMETER}  # tests/modules/test_fold_module.py
    assert list(CASES) == [cause for cause in Cause if cause not in of_modules]


@pytest.mark.parametrize("cause", CASES)
@pytest.mark.usefixtures("rules_may_fail")
def test_cause_is_met(cause, monkeypatch):
    entry = kept(CASES[cause], monkeypatch)
    assert (entry.name, entry.cause, entry.held_by) == ("bn", cause, CASES[cause].held_by)


INPUT = Holder(Cause.GRAPH_INPUT, "x")
RELU, MUL = Holder(Cause.NONLINEAR, "r", "Relu"), Holder(Cause.PRODUCT, "q", "Mul")
# var + eps = 1: the scale is 1 to the last bit, and only the offset is held.
ONES = _changed(g="{1,1}", v="{0.5,0.5}")
BN_ONES = BN.replace(" (", " <epsilon=0.5> (")


@pytest.mark.parametrize(
    ("body", "constants", "units", "before"),
    [
        (f"[t] t = Transpose <perm=[0,1,3,2]> (x) [bn] y = {BN % 't'}", _changed(), "scale", INPUT),
        (f"[q] q = MaxPool <kernel_shape=[1,1]> (x) [bn] y = {BN % 'q'}", _changed(), "scale", INPUT),
        (f"[q] q = Max (k, x) [bn] y = {BN % 'q'}", f"{_changed()}, float[2,1,1] k = {{1,2}}", "scale", INPUT),
        (f"[r] r = Relu (x) [bn] y = {BN % 'r'}", _changed(), "scale", INPUT),
        (f"[r] r = Relu (x) [bn] y = {BN_ONES % 'r'}", ONES, "offset", RELU),
        (f"[r] r = Relu (x) [q] q = MaxPool <kernel_shape=[1,1]> (r) [bn] y = {BN_ONES % 'q'}", ONES, "offset", RELU),
        (f"[r] r = Relu (x) [q] q = Mul (r, x) [bn] y = {BN_ONES % 'q'}", ONES, "offset", MUL),
    ],
)
def test_what_pins_the_input_is_found_behind_all_that_pass_it_on(monkeypatch, body, constants, units, before):
    """A ReLU passes scales on and no offsets, a maximum both."""
    stays = kept(Stays(body, (), constants=constants), monkeypatch).stays
    assert (stays.units, stays.before) == (units, before)


def test_a_value_of_the_graph_around_is_told_from_its_operator(monkeypatch):
    body = f"""[c] c = Conv (x, w)
        [if] y = If <then_branch = yes () => (float[N,2,6,6] t) {{ [bn] t = {BN % "c"} }},
                     else_branch = no () => (float[N,2,6,6] f) {{ f = Tanh (c) }}> (flag)"""
    stays = kept(Stays(body, (), inputs=f"{X}, bool flag"), monkeypatch).stays
    assert (stays.before, stays.cause) == (Holder(Cause.CAPTURED, "c"), Cause.CAPTURED)


def test_json_of_one_that_stays_and_of_one_that_does_not(monkeypatch):
    """The sentence beside the data, and nothing where there is nothing to say."""
    facts = json.loads(json.dumps(as_json(kept(CASES[Cause.PADDING], monkeypatch))))
    assert (facts["cause"], facts["held_by"]) == ("padding", ["p", "y"])
    assert (
        facts["reason"] == "offset pinned by zero padding of Pad `p` on its input and by graph output `y` on its output"
    )
    _, ledger = fold(Stays(f"c = Conv (x, w) [bn] y = {BN % 'c'}", ()).model())
    facts = as_json(ledger.entries[0])
    assert (facts["outcome"], facts["cause"], facts["held_by"], facts["reason"]) == ("absorbed", None, [], None)
