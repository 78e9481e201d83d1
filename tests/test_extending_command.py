"""The example of docs/extending.md is all that a command takes."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx.parser
import pytest

import bnfold
from bnfold.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text("utf-8")
SECTION = re.search(r"^## A command\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
FILES = re.compile(r"`bnfold/(\w+)/(\w+)\.py`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2] x) => (float[N, 2] y) { a = Relu (x)  b = Neg (a)  y = Relu (b) }
"""


@pytest.fixture
def census(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's files, in the packages where it puts them, and its entry."""
    assert SECTION is not None
    files = FILES.findall(SECTION[1])
    assert [folder for folder, _, _ in files] == ["records", "workflows", "cli"]
    for folder, name, code in files:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(code, "utf-8")
        package = importlib.import_module(f"bnfold.{folder}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
    entry = re.findall(r"^COMMANDS\[.*$", SECTION[1], re.MULTILINE)
    monkeypatch.setattr(bnfold, "COMMANDS", commands := dict(bnfold.COMMANDS))
    exec(entry[0], {"COMMANDS": commands})  # noqa: S102  # the line of the page
    monkeypatch.setattr(main, "lazy", commands)
    yield
    for folder, name, _ in files:
        sys.modules.pop(f"bnfold.{folder}.{name}", None)


@pytest.mark.usefixtures("census")
def test_three_files_and_an_entry_are_a_command(tmp_path: Path, cli: Callable[..., Result]) -> None:
    file = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(NETWORK), file)
    assert "census" in cli("--help").stdout
    result = cli("census", file)
    assert (result.exit_code, result.stdout.split()) == (0, ["2", "Relu", "1", "Neg"])
    report = json.loads(cli("census", file, "--json", "-").stdout)
    assert report == {"schema": "bnfold.census/1", "path": str(file), "operators": {"Relu": 2, "Neg": 1}}
    assert dict(bnfold.census(file).operators) == {"Relu": 2, "Neg": 1}


@pytest.mark.usefixtures("census")
def test_its_errors_end_as_those_of_the_others(tmp_path: Path, cli: Callable[..., Result]) -> None:
    result = cli("census", tmp_path / "none.onnx")
    assert result.exit_code == 3
    assert result.stderr.startswith("error: no such file")
