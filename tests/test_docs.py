"""docs/ says what is true: its commands and its Python run, and print what stands under them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from bnfold.cli.main import COMMANDS

DOCS = Path(__file__).resolve().parents[1] / "docs"
Typed = Callable[[str], list[tuple[str, str]]]
Evaluated = Callable[[str], list[str]]
# Where the blocks of each page run: a page with a block that is named nowhere here fails below.
ELSEWHERE = {"extending.md": "test_extending_rule.py and the others", "modules.md": "tests/modules and deployment lane"}
HERE = {"batchnorm.md", "commands.md", "evaluation.md", "python.md"}


def blocks(page: str) -> list[tuple[str, str]]:
    """The blocks of code of a page, each with its language."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def test_page_on_batchnorm(typed: Typed, evaluated: Evaluated, tmp_path: Path) -> None:
    printed, n_compared = "", 0
    for language, block in blocks("batchnorm.md"):
        if language == "text":
            assert printed == block
            n_compared += 1
        elif language == "bash":
            printed = "".join(text for _, text in typed(block))
        else:
            printed = "".join(f"{line}\n" for line in evaluated(block))
    assert n_compared == 3
    accuracies = [
        json.loads((tmp_path / "runs" / run / "run.json").read_text())["metrics"]["test"]["accuracy"]
        for run in ("short", "repaired")
    ]
    page = " ".join((DOCS / "batchnorm.md").read_text().split())
    stated = re.search(r"right on (\d+) % of the test images, the second on (\d+) %", page)
    assert stated is not None
    assert [round(100 * accuracy) for accuracy in accuracies] == [int(number) for number in stated.groups()]


def test_commands_and_their_functions(typed: Typed, evaluated: Evaluated, tmp_path: Path) -> None:
    ((_, block),) = (found for found in blocks("commands.md") if found[0] == "bash")
    used = {name for name, _ in typed(block)}
    ((_, accuracy),) = blocks("evaluation.md")
    assert used | {line.split()[1] for line in accuracy.splitlines()} == set(COMMANDS)

    python = blocks("python.md")[1][1]
    counts, timing = evaluated(python)
    row = json.loads((tmp_path / "exported" / "report.json").read_text())
    (output,) = row["verify"]["outputs"]
    expected = [*(row["ledger"][key] for key in ("found", "absorbed", "kept")), row["passed"]]
    assert counts == " ".join(map(str, [*expected, output["e_output"], output["allowed"]]))
    assert "ratio=" in timing


def test_commands_of_the_page_on_evaluation(typed: Typed, tmp_path: Path) -> None:
    digit = load_digits().images[0] / 16 * 255
    Image.fromarray(digit.astype(np.uint8)).save(tmp_path / "digit.png")
    ((_, block),) = blocks("evaluation.md")
    printed = dict(typed(block))
    assert list(printed) == ["train", "fold-export", "evaluate", "predict", "quantize"]
    assert "accuracy" in printed["evaluate"]
    assert "0" in printed["predict"].split()


def test_module_in_memory(evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = blocks("python.md")[0][1]
    measured = block.replace('output_names=["features"])  #', 'output_names=["features"], budget_s=0.2)  #')
    assert measured != block
    first, second, third = evaluated(measured)
    assert first.startswith("<FoldExportResult of module Sequential: passed, 1 BatchNorms: 1 absorbed")
    assert first.endswith("True")
    assert second == "1 Identity"
    assert {path.name for path in (tmp_path / "features").iterdir()} == {"model.onnx", "report.json"}
    passed, decibels = third.split()
    assert passed == "True"
    assert 30 < float(decibels) < 60
    assert (tmp_path / "features-int8" / "model.int8.onnx").is_file()


def test_every_page_with_code_is_run() -> None:
    code = {
        page.name for page in DOCS.glob("*.md") if {"bash", "python"} & {language for language, _ in blocks(page.name)}
    }
    assert code == HERE | set(ELSEWHERE)


@pytest.mark.parametrize("document", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_of_the_pages_lead_to_files(document: Path) -> None:
    text = document.read_text()
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    scripts = re.findall(r"`(scripts/[\w.]+)`", text)
    assert [link for link in links if link and not (document.parent / link).is_file()] == []
    assert [script for script in scripts if not (DOCS.parent / script).is_file()] == []
