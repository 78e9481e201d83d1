"""A few kinds of wrong fold are caught, and the layer is named; `scripts/mutations.py` has all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MILD = (
    "eps dropped",
    "mean of one channel 0",
    "one bias + 1 %",
    "float16 weights, one layer",
    "one norm left out",
    "TF32 input, one layer",
)
STRUCTURAL = ("output added", "output renamed", "output of another dtype", "batch of the trace fixed", "rows mixed")


@pytest.fixture(scope="module")
def suite():
    """The script, imported with its neighbours."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from mutations import command
    finally:
        sys.path.remove(str(SCRIPTS))
    return command


@pytest.fixture(scope="module")
def trial(suite, tmp_path_factory):
    """The smallest network."""
    return suite.Trial("bnnet", tmp_path_factory.mktemp("mutations"))


@pytest.mark.parametrize("kind", MILD)
def test_a_mild_mutation_is_caught_and_its_layer_named(trial, kind):
    outcome = trial.judge(kind)
    assert outcome.caught, outcome
    assert outcome.named, outcome


@pytest.mark.parametrize("kind", STRUCTURAL)
def test_a_mutation_of_what_leaves_the_file_is_caught(trial, kind):
    assert trial.judge(kind).caught


def test_the_right_file_is_equal_and_passes(suite, trial, monkeypatch):
    def unchanged(subject):
        return suite.ALL_KINDS["one bias + 1 %"](subject).__class__(subject.right, None)

    monkeypatch.setitem(suite.ALL_KINDS, "nothing", unchanged)
    assert trial.judge("nothing") == "equal"
    passed, layer, _ = trial._verdict()
    assert passed
    assert layer is None


def test_there_are_kinds_and_networks_enough(suite):
    assert len(suite.ALL_KINDS) >= 25
    assert len(suite.NETWORKS) >= 4


def test_a_missed_mutation_or_a_wrong_name_fails_the_suite(suite, capsys):
    def outcome(*, caught, named):
        return suite.Outcome("kind", "net", caught, named, (True, True, True), "a", "b")

    assert suite.summary([outcome(caught=True, named=True)], 1)
    assert not suite.summary([outcome(caught=False, named=None)], 1)
    assert not suite.summary([outcome(caught=True, named=False)], 1)
    assert "net, kind: expected a; found b" in capsys.readouterr().out


def test_earlier_outcomes_are_kept_and_shown(suite, tmp_path, capsys):
    file, page = tmp_path / "outcomes.jsonl", tmp_path / "page.md"
    kinds, networks = ("one bias + 1 %", "padding shifted"), ("bnnet",)
    first = suite.judged(networks, kinds, file)
    lines = file.read_text()
    assert suite.judged(networks, kinds, file) == first  # read back
    assert file.read_text() == lines
    suite.write_page(page, first, networks, suite.TOLERANCES)
    assert "| `bnfold verify` | **1 of 1, of 1 kinds** |" in page.read_text()
    assert "| one bias + 1 % | caught + | " in page.read_text()
    assert "| padding shifted | - | 0 / 0 / 0 of 0 |" in page.read_text()
