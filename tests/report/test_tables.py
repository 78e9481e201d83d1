"""Tables fit 80 columns and a pipe, and never cut or wrap a number."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bnfold.records import (
    BenchRatio,
    BenchReport,
    BenchRun,
    CertificateFacts,
    Check,
    DoctorReport,
    Ledger,
    LedgerEntry,
    OutputVerdict,
    RemovedChannels,
    Verdict,
)
from bnfold.records.causes import Cause, Cycle, Held, Holder
from bnfold.report import render_bench, render_doctor, render_ledger, render_verdict
from bnfold.report.tables import number

LONG = "features.stage3.blocks.11.branch[2].depthwise.batch_normalisation"
RUN = BenchRun(LONG, "a.onnx", "CPUExecutionProvider", 128, 400, 12345.6, 1234.5, 1234.567, 2345.6, 103.68, 12345.6)


@pytest.fixture(autouse=True)
def no_terminal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """A width of 80 columns that is asked for, whatever terminal the tests run in."""
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def bench_report(noise: str = "quiet") -> BenchReport:
    facts = {"cpu": "Some CPU", "threads": 1, "onnxruntime": "1.32.0", "onnxruntime_build": "onnxruntime"}
    facts |= {"noise": noise, "noise_causes": "the control group held us back for 20% of the time"}
    return BenchReport(facts, (RUN,), (BenchRatio(LONG, "plain", 128, 0.9123, 0.8912, 0.9361, "faster"),))


def words(text: str) -> set[str]:
    return set(text.split())


def test_bench_fits_80_columns_and_keeps_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    render_bench(bench_report())
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert {"128", "1235", "2346", "104", "12346", "0.912", "0.891", "0.936", "faster"} <= words(out)
    assert "Some CPU, 1 thread, onnxruntime 1.32.0" in out
    assert "noisy" not in out


def test_what_was_not_compared_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    output = OutputVerdict("y", 1e-7, math.nan, 3e-7)
    render_verdict(
        Verdict(
            False,
            0,
            (),
            (),
            (output,),
            "PyTorch float64",
            "no",
            certificate=CertificateFacts(9, 8, 2, 0, 1e-15, 0.5),
        )
    )
    out = capsys.readouterr().out
    assert "not compared" in out
    assert "NOT equal: no (no values were compared with PyTorch float64)" in out
    assert "certificate: 8 of 9 values of the file proven operator by operator" in " ".join(out.split())
    assert "nan" not in out


def test_a_noisy_machine_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    render_bench(bench_report("noisy"))
    out = capsys.readouterr().out
    assert "The machine was noisy: the control group held us back for 20% of the time. Repeat on a quiet" in out


def test_undecided_says_where_it_leans(capsys: pytest.CaptureFixture[str]) -> None:
    """A ratio of 1.604 (1.565 to 1.640) had been printed as a tie."""
    note = "no winner is named: noisy machine: rounds scatter by 12%"
    slow = BenchRatio(LONG, "plain", 1, 1.604, 1.565, 1.640, "undecided", note=note, leaning="slower")
    render_bench(replace(bench_report("noisy"), ratios=(slow,)))
    out = capsys.readouterr().out
    assert {"1.604", "1.565", "1.640"} <= words(out)
    assert "undecided, leaning to slower" in out
    assert note in out
    assert "tie" not in words(out)
    assert max(len(line) for line in out.splitlines() if "The machine was noisy" not in line) <= 80


def test_a_narrow_terminal_gets_long_lines_instead_of_cut_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    render_bench(bench_report())
    assert {"1235", "2346", "12346"} <= words(capsys.readouterr().out)


def test_a_row_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that `grep` finds the name and the reason of a BatchNorm together."""
    monkeypatch.delenv("COLUMNS")
    before, after = Holder(Cause.NONLINEAR, "blocks.3.act", "Gelu"), Holder(Cause.NO_RULE, "blocks.3.ids", "NonZero")
    entry = LedgerEntry(LONG, "kept", (), Held("scale", before, after), 0.5, 812.0, 17)
    render_ledger(Ledger((entry,)))
    assert any(LONG in line and str(entry.reason) in line for line in capsys.readouterr().out.splitlines())


def test_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    entries = (
        LedgerEntry("layer1.bn1", "absorbed", ("layer1.conv1",), None, 3.14159, 812.0, 0),
        LedgerEntry(LONG, "kept", (), Cycle(3), 0.5, 1e-12, 17),
    )
    render_ledger(Ledger(entries))
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if not line.startswith("warning: ")]
    assert max(map(len, table)) <= 80
    assert out.splitlines()[-1] == f"warning: {LONG}: running variance below 10 epsilon: epsilon decides the scale"
    assert {"3.14", "812", "1.00e-12", "17", "layer1.conv1", "layer1.bn1"} <= words(out)
    assert "BatchNorms: 2 found, 1 absorbed, 0 merged, 0 removed, 1 kept" in out
    assert LONG in "".join(line.split(" ")[0] for line in out.splitlines())


def test_removed_channels(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each layer."""
    removed = (RemovedChannels("layer3.0.conv1", 480, 448), RemovedChannels(LONG, 64, 48))
    render_ledger(Ledger((), removed_channels=removed))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "dead channels: 48 removed, of 544 in 2 layers",
        "  layer3.0.conv1: 480 to 448",
        f"  {LONG}: 64 to 48",
    ]


def test_an_empty_ledger_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    render_ledger(Ledger(()))
    assert capsys.readouterr().out == "BatchNorms: 0 found, 0 absorbed, 0 merged, 0 removed, 0 kept\n"


@pytest.mark.parametrize(
    ("failure", "says"), [(None, "equal: 42,000 values against float64"), ("NaN", "NOT equal: NaN")]
)
def test_verdict(failure: str | None, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = (OutputVerdict("logits", 2.1e-6, 1.9e-6, 4.2e-6),)
    verdict = Verdict(failure is None, 42000, ("CPUExecutionProvider",), (1, 2, 3), outputs, "float64", failure)
    render_verdict(verdict)
    out = capsys.readouterr().out
    assert {"logits", "2.10e-06", "1.90e-06", "4.20e-06"} <= words(out)
    assert any(line.startswith(says) for line in out.splitlines())
    assert "batches 1, 2, 3 on CPUExecutionProvider" in out


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    checks = (
        Check("onnxsim", "missing", needed=True, found="-", remedy='run `pip install "bnfold[cpu]"`'),
        Check("timm", "missing", needed=False, found="-", remedy='run `pip install "bnfold[zoo]"`'),
        Check("torch", "ok", needed=True, found="2.13.0"),
    )
    render_doctor(DoctorReport("cuda", checks, {}))
    out = capsys.readouterr().out
    assert "missing (optional)" in out
    assert 'onnxsim: run `pip install "bnfold[cpu]"`' in out
    assert out.endswith("This machine cannot do the job yet with --provider cuda.\n")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (None, 3, "-"),
        (0.0, 3, "0"),
        (0.0030351, 4, "0.003035"),
        (1.5, 4, "1.5"),
        (1234.567, 4, "1235"),
        (2037697.2, 3, "2037697"),
        (123456.7, 4, "123457"),
        (1e-12, 3, "1.00e-12"),
        (-2.5, 3, "-2.5"),
        (2.5e12, 3, "2.50e+12"),
        (float("inf"), 3, "inf"),
    ],
)
def test_numbers(value: float | None, digits: int, text: str) -> None:
    assert number(value, digits) == text
