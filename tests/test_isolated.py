"""scripts/common/isolated.py: a measurement in a process of its own comes back, or the reason why not."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are those of Unix")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("common.isolated")


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("isolated_measurements")


def test_a_row_comes_from_another_process(script: ModuleType, measurements: ModuleType) -> None:
    row = script.isolated(measurements.well, "net", script.Limits())
    assert row["network"] == "net"
    assert row["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("measure", "failure"),
    [
        ("raises", "ValueError: net is not liked"),
        ("dies", "the process ended with SIGABRT"),
        ("leaves", "the process ended with exit code 3"),
        ("eats", "more than 2 GiB of memory"),
        ("runs", "more than 1 s of CPU time"),
    ],
)
def test_the_reason_comes_where_there_is_no_row(
    script: ModuleType, measurements: ModuleType, measure: str, failure: str
) -> None:
    row = script.isolated(getattr(measurements, measure), "net", script.Limits(memory_gib=2, cpu_s=1))
    assert row == {"network": "net", "failure": failure}


def test_what_sleeps_for_ever_is_ended(
    script: ModuleType, measurements: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "PATIENCE", 2)
    assert script.isolated(measurements.sleeps, "net", script.Limits(cpu_s=1)) == {
        "network": "net",
        "failure": "it hangs",
    }
