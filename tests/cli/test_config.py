"""Options from bnfold.toml or pyproject.toml: the command line wins, and what is not understood is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

CONFIG = """
[fold-export]
output = "exported"
opset = 18
batch = [4, 5]
golden = true
quiet = true

[verify]
batch = "7"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_holds_options_and_the_command_line_wins(here: Path, network: Path, cli: Callable[..., Result]) -> None:
    (here / "bnfold.toml").write_text(CONFIG)
    result = cli("fold-export", network)
    assert result.exit_code == 0, result.output
    report = json.loads((here / "exported" / "report.json").read_text())
    assert report["output"]["opset"] == 18
    assert report["verify"]["batches"] == [1, 2, 3, 4, 5]
    assert (here / "exported" / "golden").is_dir()
    assert result.stderr == ""  # quiet

    result = cli("fold-export", network, "-o", "other", "--opset", 17, "--batch", 6, "--verbose")
    assert result.exit_code == 0, result.output
    report = json.loads((here / "other" / "report.json").read_text())
    assert report["output"]["opset"] == 17
    assert report["verify"]["batches"] == [1, 2, 3, 6]
    assert "asking the source" in result.stderr  # verbose, whatever the file says


def test_pyproject_holds_them_too_and_bnfold_toml_comes_first(
    here: Path, network: Path, cli: Callable[..., Result]
) -> None:
    (here / "pyproject.toml").write_text('[tool.other]\na = 1\n[tool.bnfold.verify]\nbatch = "7"\n')
    result = cli("verify", network, network, "--json", "-", "-q")
    assert json.loads(result.stdout)["batches"] == [1, 2, 3, 7]
    (here / "bnfold.toml").write_text("[verify]\nbatch = 8\n")
    assert json.loads(cli("verify", network, network, "--json", "-", "-q").stdout)["batches"] == [1, 2, 3, 8]
    (here / "ci.toml").write_text("[verify]\nbatch = 9\n")
    result = cli("--config", "ci.toml", "verify", network, network, "--json", "-", "-q")
    assert json.loads(result.stdout)["batches"] == [1, 2, 3, 9]


def test_an_option_that_repeats_is_a_list(here: Path, network: Path, cli: Callable[..., Result]) -> None:
    (here / "bnfold.toml").write_text('[verify]\ndim = ["NONE=3"]\n')
    result = cli("verify", network, network)
    assert result.exit_code == 3
    assert "NONE" in result.stderr


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[verify]\nbatches = 3\n", "bnfold.toml, [verify]: there is no option 'batches'; the nearest is 'batch'."),
        ("[verify]\nprovidr = 'cpu'\n", "no option 'providr'; the nearest is 'provider'."),
        ("[fold_export]\nopset = 18\n", "there is no command 'fold_export'; the nearest is 'fold-export'."),
        ("verify = 1\n", "verify must be a table of options, got 1."),
        ("[fold-export]\ngolden = 'yes'\n", "golden must be true or false, got 'yes'."),
        ("[verify]\nbatch = true\n", "batch must be a text, a number, or a list of these, got True."),
        ("[verify]\nbatch = []\n", "batch must be a text, a number, or a list of these, got []."),
        ("[verify]\nbatch = 'x'\n", "'x' is not of the form 1,8"),
        ("[verify]\nhelp = true\n", "there is no option 'help'"),
        ("[verify\n", "cannot read bnfold.toml"),
    ],
)
def test_what_is_not_understood_is_refused(
    text: str, sentence: str, here: Path, network: Path, cli: Callable[..., Result]
) -> None:
    (here / "bnfold.toml").write_text(text)
    command = "fold-export" if "golden" in text else "verify"
    result = cli(command, network, *([network] if command == "verify" else ["-o", "out"]))
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.stderr.split())
    assert not (here / "out").exists()


def test_the_options_of_another_command_are_its_own(here: Path, network: Path, cli: Callable[..., Result]) -> None:
    (here / "bnfold.toml").write_text("[bench]\nnonsense = 1\n")
    assert cli("verify", network, network).exit_code == 0
    assert cli("bench", network).exit_code == 2
    assert cli("--version").exit_code == 0


def test_a_file_that_is_named_must_be_there(here: Path, network: Path, cli: Callable[..., Result]) -> None:
    result = cli("--config", "missing.toml", "verify", network, network)
    assert result.exit_code == 2
    assert "cannot read missing.toml" in result.stderr
