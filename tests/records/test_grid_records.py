"""The axes of a measurement are declared once, and every row of a report has them."""

from __future__ import annotations

import dataclasses

import pytest

from bnfold.benchmarking.axes import Axes, Cell
from bnfold.benchmarking.load import Load
from bnfold.records import BenchRatio, BenchRun
from bnfold.records.grid import AXES, DEFAULTS, Place, axes_of


@pytest.mark.parametrize("record", [BenchRun, BenchRatio])
def test_every_row_has_every_axis_with_its_default(record: type) -> None:
    fields = {field.name: field for field in dataclasses.fields(record)}
    assert set(AXES) <= set(fields)
    for axis in AXES:
        field = fields[axis]
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        assert default is dataclasses.MISSING or default == DEFAULTS[axis], axis


def test_a_cell_is_one_value_of_every_axis() -> None:
    axes = Axes(threads=2, opt_level="basic", optimize="offline", batch=8, load=Load("throughput", 3))
    (cell,) = axes.cells()
    assert cell == Cell("cpu", 2, "basic", None, 8, "offline", load=Load("throughput", 3))
    assert cell.place({"x": (8, 3)}).fields() == {
        "provider": "CPUExecutionProvider", "batch": 8, "threads": 2, "opt_level": "basic", "optimize": "offline",
        "cuda_graph": False, "mode": "throughput", "concurrency": 3, "input_shapes": {"x": (8, 3)},
    }  # fmt: skip


def test_an_older_report_lacks_the_axes_that_came_later() -> None:
    row = {"name": "net", "provider": "CPUExecutionProvider", "batch": 2, "threads": 1}
    assert axes_of(row) == Place("CPUExecutionProvider", 2, 1).fields()
    assert axes_of({}) == DEFAULTS
