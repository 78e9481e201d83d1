"""What a verdict rests on, in words: on the terminal and on the page, from the same facts."""

from __future__ import annotations

import dataclasses

import pytest

from bnfold.records import Criterion, OutputVerdict, Verdict, as_json
from bnfold.report import render_verdict
from bnfold.report.comparisons import basis

PLAIN = OutputVerdict("y", 2e-7, 1e-7, 6e-7, Criterion.SOURCE)
ILL = dataclasses.replace(PLAIN, name="z", ill_conditioned=True)
LOSSY = OutputVerdict("y", 2e-7, 1e-6, 2e-6, Criterion.PARAMETERS)
DIGITS = "the source keeps less than half of its digits in"
ROUNDING = "by rounding alone: every parameter is the right one, rounded once"


def _verdict(*outputs: OutputVerdict, passed: bool = True, **more: str) -> Verdict:
    return Verdict(passed, 42000, ("CPUExecutionProvider",), (1, 2, 3), outputs, "PyTorch float64", **more)


@pytest.mark.parametrize(
    ("verdict", "says"),
    [
        (_verdict(PLAIN), ""),
        (_verdict(PLAIN, judged_as="float16"), "; the file stores float16 and is judged by that format"),
        (_verdict(PLAIN, ILL), f"; ill-conditioned: {DIGITS} z"),
        (_verdict(LOSSY), f"; y lies 5.0 times as far from float64 as the source's, {ROUNDING}"),
        (_verdict(LOSSY, passed=False), ""),
        (_verdict(dataclasses.replace(LOSSY, e_source=0.0)), ""),
        (
            _verdict(LOSSY, ILL, judged_as="float16"),
            f"; the file stores float16 and is judged by that format; ill-conditioned: {DIGITS} z; "
            f"y lies 5.0 times as far from float64 as the source's, {ROUNDING}",
        ),
    ],
)
def test_basis(verdict, says, capsys):
    assert basis(as_json(verdict)) == f"PyTorch float64{says}"
    render_verdict(verdict)
    assert f"42,000 values against PyTorch float64{says}, batches 1, 2, 3" in capsys.readouterr().out


def test_a_report_of_an_earlier_version_has_its_words_in_reference():
    old = {"passed": True, "reference": "PyTorch float64; ill-conditioned: all", "outputs": [{"name": "y"}]}
    old["outputs"][0] |= {"e_source": 1e-7, "e_output": 1e-7, "allowed": 2e-7}
    assert basis(old) == "PyTorch float64; ill-conditioned: all"
