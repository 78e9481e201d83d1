"""README.md says what is true: its commands run, its Python gives the row, its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from bnfold.cli.main import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SCRIPTS, COMMAND_BLOCK, ACCURACY_BLOCK = (block for language, block in BLOCKS if language == "bash")
MODULE_BLOCK, PYTHON_BLOCK = (block for language, block in BLOCKS if language == "python")

pytestmark = pytest.mark.slow


def test_commands_and_python_of_the_readme(
    tmp_path: Path, with_program: dict[str, str], warm_python: list[str]
) -> None:
    used = {line.split()[1] for line in (COMMAND_BLOCK + ACCURACY_BLOCK).splitlines()}
    assert used == set(COMMANDS)
    env = with_program
    digit = load_digits().images[0] / 16 * 255
    Image.fromarray(digit.astype(np.uint8)).save(tmp_path / "digit.png")
    for block in (COMMAND_BLOCK, ACCURACY_BLOCK):
        subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=env, check=True)

    assert len([line for line in PYTHON_BLOCK.splitlines() if line]) < 10
    printed = subprocess.run(
        [*warm_python, "-c", PYTHON_BLOCK], cwd=tmp_path, env=env, check=True, text=True, capture_output=True
    ).stdout
    row = json.loads((tmp_path / "exported" / "report.json").read_text())
    (output,) = row["verify"]["outputs"]
    counts = [row["ledger"][key] for key in ("found", "absorbed", "kept")]
    expected = [*counts, row["passed"], output["e_output"], output["allowed"]]
    assert printed.splitlines()[0] == " ".join(map(str, expected))
    assert "ratio=" in printed.splitlines()[1]


def test_module_in_memory_of_the_readme(tmp_path: Path, with_program: dict[str, str], warm_python: list[str]) -> None:
    assert len([line for line in MODULE_BLOCK.splitlines() if line]) <= 10
    command = [*warm_python, "-c", MODULE_BLOCK]
    ended = subprocess.run(command, cwd=tmp_path, env=with_program, check=True, text=True, capture_output=True)
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("<FoldExportResult of module Sequential: passed, 1 BatchNorms: 1 absorbed")
    assert lines[0].endswith("True")
    assert lines[1] == "1 Identity"
    assert {path.name for path in (tmp_path / "features").iterdir()} == {"model.onnx", "report.json"}


def test_scripts_of_the_readme() -> None:
    # They make a virtual environment and run this very suite, so that they cannot run inside it. The first one is the
    # acceptance test of a release; the second is what continuous integration runs.
    scripts = [REPOSITORY / line.split()[0] for line in SCRIPTS.splitlines()]
    assert [script.name for script in scripts] == ["run.sh", "test.sh"]
    for script in (*scripts, REPOSITORY / "scripts" / "test_zoo.sh", REPOSITORY / ".ci" / "run"):
        assert os.access(script, os.X_OK), script
        subprocess.run(["bash", "-n", script], check=True)
    assert {"./scripts/test.sh", "./scripts/test_zoo.sh"} <= set((REPOSITORY / ".ci" / "run").read_text().splitlines())


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    mentioned = re.findall(r"\./(scripts/[\w.]+)", text)
    assert targets
    assert mentioned
    assert [target for target in (*targets, *mentioned) if not (REPOSITORY / target).is_file()] == []


def test_too_old_a_python_is_named(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\n[ \"$1\" = --version ] && { echo 'Python 3.9.1'; exit 0; }\nexit 1\n")
    old.chmod(0o755)
    result = subprocess.run(
        [REPOSITORY / "scripts" / "run.sh"],
        cwd=tmp_path, env={**os.environ, "PYTHON": str(old)}, check=False, text=True, capture_output=True,
    )  # fmt: skip
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert "Python 3.9.1, expected Python 3.11 or newer" in line
