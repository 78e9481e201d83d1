"""What `quantize` warns of."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bnfold.records.quantisation import OutputError, PairedAccuracy, QuantisationError
from bnfold.workflows.quantize_gates import warnings_of

ERROR = QuantisationError((OutputError("y", 30.0, 1.0),), 0, held_out=True, n=50, outside_range=0.0)
UNDECIDED = PairedAccuracy("accuracy", 0.96, 0.95, -0.014, -0.041, 0.004, 359, limit=0.02, undecided=True)


def test_an_accuracy_that_the_samples_do_not_decide_is_a_warning() -> None:
    (said,) = warnings_of(ERROR, UNDECIDED, None, "x86-vnni", "x86-vnni")
    assert said == "359 samples do not decide whether accuracy fell by more than 0.02"


@pytest.mark.parametrize("change", [{"undecided": False}, {"limit": None}])
def test_one_that_is_decided_or_has_no_limit_is_none(change: dict[str, Any]) -> None:
    accuracy = dataclasses.replace(UNDECIDED, **change)
    assert warnings_of(ERROR, accuracy, None, "x86-vnni", "x86-vnni") == ()


@pytest.mark.parametrize(("n", "warned"), [(7, True), (8, False)])
def test_a_handful_of_held_out_samples_is_a_warning(n: int, warned: bool) -> None:
    said = warnings_of(dataclasses.replace(ERROR, n=n), None, None, "x86-vnni", "x86-vnni")
    assert bool(said) is warned
    assert all("give a hundred samples or more" in line for line in said)


@pytest.mark.parametrize(("share", "words"), [(0.0213, "2.13%"), (0.0001, "0.01%"), (3e-6, "less than 0.01%")])
def test_a_share_outside_of_the_range_is_never_said_to_be_none(share: float, words: str) -> None:
    error = dataclasses.replace(ERROR, outside_range=share)
    (said,) = warnings_of(error, None, None, "x86-vnni", "x86-vnni")
    assert said == f"{words} of the held-out inputs lie outside of the calibrated range"
