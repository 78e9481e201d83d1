"""One command measures a grid within one budget, and each number says where it belongs."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from bnfold.benchmarking import cell as cell_module
from bnfold.benchmarking import measure, statistics
from bnfold.benchmarking.axes import OPT_LEVELS, Axes, Cell
from bnfold.benchmarking.cold_start import ColdStart
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.timing import BoundFile
from bnfold.interrupts import Interrupted
from bnfold.runtime import available_threads
from bnfold.runtime.settings import set_graph_level

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnfold.records import BenchReport


def test_every_combination_once_the_batch_turning_fastest() -> None:
    cells = Axes(
        provider=("cpu", "cuda"), threads=(1, 2, 1), opt_level="basic", batch=(1, 8),
        input_shapes=[[(1, 3, 8), (1, 3, 4)], [(1, 2), (1, 5)]],
    ).cells()  # fmt: skip
    assert len(cells) == len(set(cells)) == 2 * 2 * 1 * 2 * 2
    assert cells[:3] == [
        Cell("cpu", 1, "basic", ((1, 3, 8), (1, 2)), 1),
        Cell("cpu", 1, "basic", ((1, 3, 8), (1, 2)), 8),
        Cell("cpu", 1, "basic", ((1, 3, 4), (1, 5)), 1),
    ]
    assert str(cells[0]) == "cpu, 1 thread, basic, 1x3x8, 1x2, batch 1"


def test_an_input_may_be_a_number() -> None:
    (cell,) = Axes(threads=1, batch=1, input_shapes=[(1, 512), ()]).cells()
    assert cell.shapes == ((1, 512), ())


def test_defaults_are_one_cell() -> None:
    for shapes in (None, [], [(1, 3, 8), (1, 2)]):
        (cell,) = Axes(threads=None, input_shapes=shapes, batch=1).cells()
        assert cell.threads == available_threads()
        assert cell.shapes == (tuple(shapes) if shapes else None)


def test_axes_that_make_no_grid() -> None:
    with pytest.raises(ValueError, match="equally many"):
        Axes(threads=1, batch=1, input_shapes=[[(1, 3), (1, 4)], [(1, 2)]]).cells()
    with pytest.raises(ValueError, match="fastest"):
        Axes(threads=1, opt_level="fastest", batch=1, input_shapes=None).cells()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        Axes(threads=1, batch=(), input_shapes=None).cells()


@pytest.mark.parametrize("level", OPT_LEVELS)
def test_the_level_reaches_the_session(double: Path, level: str) -> None:
    options = ort.SessionOptions()
    set_graph_level(ort, options, level)  # type: ignore[arg-type]  # one of the four
    file = BoundFile(
        double, {"x": __import__("numpy").ones((1, 3), "float32")}, provider="cpu", threads=1, opt_level=level
    )  # type: ignore[arg-type]
    assert file.session.get_session_options().graph_optimization_level == options.graph_optimization_level


def test_a_grid_of_batches_threads_levels_and_shapes(
    write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_module, "measure_cold_start", lambda *_args, **_options: ColdStart(1.0, 2.0, 3.0, 2))
    path = write("free.onnx", "net (float[N, C] x) => (float[N, C] y) { y = Relu (x) }")
    shares: list[float] = []
    report = bench_files(
        [path, path],
        Axes(threads=(1, 2), opt_level=("disabled", "all"), batch=(1, 4), input_shapes=[[(1, 3), (1, 5)]]),
        budget_s=0.1,
        progress=shares.append,
    )
    wanted = [
        (threads, level, {"x": (batch, size)})
        for threads in (1, 2) for level in ("disabled", "all") for size in (3, 5) for batch in (1, 4)
    ]  # fmt: skip
    assert [(run.threads, run.opt_level, run.input_shapes) for run in report.runs if run.name == "free"] == wanted
    assert [(ratio.threads, ratio.opt_level, ratio.input_shapes) for ratio in report.ratios] == wanted
    assert {(run.load_ms, run.first_ms, run.peak_mb, run.n_starts) for run in report.runs} == {(1.0, 2.0, 3.0, 2)}
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_one_budget_for_everything(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell gets an equal part of what is left; what one does not use, the next ones have."""
    given: list[float] = []
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(measure, "time", clock)
    monkeypatch.setattr(cell_module, "time", clock)
    monkeypatch.setattr(cell_module, "measure_cold_start", lambda *_args, **_options: None)

    def spend(openers: object, budget_s: float, *_args: object) -> None:
        given.append(budget_s)
        clock.now += budget_s / 2

    monkeypatch.setattr(cell_module, "time_files", spend)
    bench_files([double], Axes(threads=1, batch=(1, 2, 3)), budget_s=6.0)
    assert given == pytest.approx([2.0, 2.5, 3.75])


def test_an_interrupt_gives_what_was_measured(double: Path, monkeypatch: pytest.MonkeyPatch, quiet: None) -> None:
    """It comes in the second cell, when the files are opened for the third load: no winner is named there."""
    opened = {1: 0, 2: 0}
    original = BoundFile.__init__

    def interrupted(file: BoundFile, path: Path, inputs: dict[str, np.ndarray], **options: Any) -> None:
        batch = len(inputs["x"])
        opened[batch] += 1
        if opened[2] > 4:
            raise Interrupted(signal.SIGINT)
        original(file, path, inputs, **options)

    monkeypatch.setattr(BoundFile, "__init__", interrupted)
    monkeypatch.setattr(statistics, "ratio_interval", lambda *_args: (0.5, 0.4, 0.6))
    parts: list[BenchReport] = []
    with pytest.raises(Interrupted):
        bench_files(
            [double, double],
            Axes(threads=1, batch=(1, 2, 3)),
            cold_starts=False,
            budget_s=0.1,
            partial=parts.append,
        )
    (report,) = parts
    assert not report.complete
    assert [run.batch for run in report.runs] == [1, 1, 2, 2]
    assert [(ratio.batch, ratio.verdict, ratio.leaning, ratio.note) for ratio in report.ratios] == [
        (1, "faster", None, None),
        (2, "undecided", "faster", "no winner is named: 2 of at least 6 session restarts were measured"),
    ]


def test_an_interrupt_before_the_first_round(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cell_module, "measure_cold_start", stop)
    parts: list[BenchReport] = []
    with pytest.raises(KeyboardInterrupt):
        bench_files([double], Axes(threads=1), budget_s=0.1, partial=parts.append)
    assert (parts[0].complete, parts[0].runs, parts[0].ratios) == (False, (), ())
