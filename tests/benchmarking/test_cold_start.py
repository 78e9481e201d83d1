"""Load, first run and memory of a file in a process of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from bnfold.benchmarking.axes import Cell
from bnfold.benchmarking.cold_start import measure_cold_start, peak_bytes
from bnfold.errors import EnvironmentNotReady
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.cold_process

SPEC = InputSpec("x", (None, 3), "float32")
CELL = Cell("cpu", 1, "all", None, 2)


def test_memory_holds_at_least_the_weights(product: Callable[[int], Path]) -> None:
    size = 2048
    start = measure_cold_start(product(size), [SPEC], {"x": (2, 3)}, CELL, seed=0)
    assert start.load_ms > 0
    assert start.first_ms > 0
    assert start.peak_mb >= size * size * 4 / 2**20


def test_files_of_the_working_folder_are_not_imported(
    double: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "numpy.py").write_text("raise RuntimeError('imported')\n", encoding="ascii")
    monkeypatch.chdir(tmp_path)
    start = measure_cold_start(double, [SPEC], {"x": (2, 3)}, CELL, seed=0)
    assert start.n_starts == 3


def test_a_process_that_dies_is_reported(double: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho first >&2\necho Killed >&2\nexit 9\n", encoding="ascii")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(EnvironmentNotReady, match="exit status 9, Killed; free memory"):
        measure_cold_start(double, [SPEC], {"x": (2, 3)}, CELL, seed=0)


def test_the_peak_remembers_memory_that_was_given_back() -> None:
    size = 256 * 2**20
    before = psutil.Process().memory_info().rss
    block = bytearray(b"x") * size
    del block
    assert peak_bytes() >= before + size // 2
