"""The journeys of ARCHITECTURE.md: what is fetched, folded, judged or timed goes from room to room and never back."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
import torch
from click.testing import Result
from torch import nn

import bnfold

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = f"{Path(bnfold.__file__).parent}/"
VALIDITY = str(ROOT / "tests" / "folding" / "validity.py")
Stop = tuple[str, str]
Cli = Callable[..., Result]


def journeys() -> dict[str, list[Stop]]:
    """The table: of each journey the modules and functions that it leads through."""
    section = (ROOT / "ARCHITECTURE.md").read_text().partition("## Four journeys\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| one ")]
    return {name: re.findall(r"(\S+\.py) `(\w+)`", route) for name, route in rows}


def calls(run: Callable[[], object]) -> list[Stop]:
    """The functions of the package that are called, one after the other, each with its module.

    Where tests of the fold ran in this process, they check the graph after each stage: what that calls is left out.
    """
    made: list[Stop] = []
    checking = 0

    def note(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal checking
        if frame.f_code.co_filename == VALIDITY and event in ("call", "return"):
            checking += 1 if event == "call" else -1
        elif not checking and event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            made.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_code.co_name))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journeys")


@pytest.fixture(scope="module")
def made(folder: Path) -> list[Stop]:
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)]
    network, example = nn.Sequential(*layers).eval(), torch.randn(2, 3, 8, 8)
    return calls(lambda: bnfold.fold_export(network, example, folder / "out", budget_s=0.0))


def assert_straight(name: str, made: list[Stop]) -> None:
    """The first and the last calls of the stops of a journey are in their order."""
    route = journeys()[name]
    missing = [stop for stop in route if stop not in made]
    assert missing == []
    for positions in ([made.index(stop) for stop in route], [len(made) - made[::-1].index(stop) for stop in route]):
        assert positions == sorted(positions), [route[i] for i in sorted(range(len(route)), key=positions.__getitem__)]
    modules = [module for module, _ in route]
    assert len(set(modules)) == len(modules)


def test_there_are_four() -> None:
    assert list(journeys()) == ["one BatchNorm", "one weight", "one output value", "one timing"]


@pytest.mark.parametrize("name", ["one BatchNorm", "one weight", "one output value"])
def test_of_a_conversion(name: str, made: list[Stop]) -> None:
    assert_straight(name, made)


def test_of_a_measurement(made: list[Stop], folder: Path, cli: Cli) -> None:
    assert made
    files, report = (folder / "out" / "model.onnx", folder / "other.onnx"), folder / "bench.json"
    shutil.copy(*files)
    result: list[Result] = []
    timed = calls(lambda: result.append(cli("bench", *files, "--budget", "0.2", "--json", report)))
    assert result[0].exit_code == 0, result[0].stderr
    assert_straight("one timing", timed)
