"""README.md says what is true: its code and commands run, its figures are those of the tables, its links lead on."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bnfold.workflows.fold_export import fold_export

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
SCRIPTS, COMMANDS = (block for language, block in BLOCKS if language == "bash")
(OWN_NETWORK,) = (block for language, block in BLOCKS if language == "python")
PROSE = " ".join(README.split())


def table(page: str) -> list[list[str]]:
    """The cells of the rows of a page's tables."""
    lines = (REPOSITORY / page).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]


def test_the_first_screen_is_short() -> None:
    assert len(README.splitlines()) < 120
    assert len([line for line in OWN_NETWORK.splitlines() if line and not line.startswith(("import", "from"))]) <= 10


def test_ones_own_network_from_module_to_int8(
    typed: Callable[[str], list[tuple[str, str]]],
    evaluated: Callable[[str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(inspect.unwrap(fold_export).__kwdefaults__, "budget_s", 0.2)  # as users have it, but shorter
    result, ledger = evaluated(OWN_NETWORK)
    assert "passed, 2 BatchNorms: 2 absorbed" in result
    assert 0.05 < float(result.split()[-1]) < 20
    assert "2 absorbed" in ledger
    printed = dict(typed(COMMANDS))
    assert list(printed) == ["verify", "bench", "quantize"]
    assert "equal" in printed["verify"]
    assert "ratio" in printed["bench"]
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.onnx")}
    assert files == {"exported/model.onnx", "exported/plain.onnx", "int8/model.int8.onnx"}


def test_figures_of_the_fold_are_those_of_the_survey() -> None:
    rows = [row for row in table("docs/survey.md") if ":" in row[0] and row[1].isdigit()]
    found, export, onnxsim, onnxslim, ort, ours = (sum(int(row[k]) for row in rows) for k in range(1, 7))
    assert f"Of {found:,} BatchNorms in {len(rows)} networks of timm and torchvision {ours} stay" in PROSE
    assert f"BatchNorms left of {found:,}" in README
    named = {row[0].split()[0]: row[1] for row in table("README.md")}
    expected = {"`torch.onnx.export`": export, "onnxsim": onnxsim, "onnxslim": onnxslim, "ONNX": ort, "bnfold": ours}
    assert {tool: named[tool] for tool in expected} == {tool: str(left) for tool, left in expected.items()}


def test_figures_of_time_proof_and_int8_are_those_of_the_tables() -> None:
    cpu = {row[0]: row for row in table("benchmarks/cpu.md") if row[2:3] == ["no"]}
    low, high = cpu["mobileone_s0"][6].split(" to ")
    assert f"mobileone_s0 takes {cpu['mobileone_s0'][5]} ({low} to {high})" in PROSE
    assert f"repvgg_a0 {cpu['repvgg_a0'][5]};" in PROSE
    int8 = (REPOSITORY / "docs" / "int8.md").read_text()
    (resnet,) = re.findall(r"\| resnet18 \| (0\.\d+ \(.*?\)) \|", int8)
    assert f"resnet18 takes {resnet} of the time" in PROSE
    mutations = " ".join((REPOSITORY / "docs" / "mutations.md").read_text().split())
    assert "**160 of 160," in mutations
    assert "Of the 143 faults that lie in a layer, the verdict names the right layer for 140" in mutations
    assert "Of 160 files made wrong on purpose all are caught, and the layer is named for 140 of 143" in PROSE
    judged = " ".join(int8.split())
    for decibels, same in (("30.1", "985"), ("17.8", "910")):
        assert re.search(rf"{decibels} dB and( the same class for)? {same}\b", judged)
        assert f"{decibels} dB, the class of the float file for {same} " in PROSE
    files = len([row for row in table("docs/field.md") if row[3:4] and row[3].isdigit()])
    assert f"Of {files} files and trained networks of others" in PROSE


def test_scripts_of_the_readme() -> None:
    # They make a virtual environment and run this very suite, so that they cannot run inside it. The first one is the
    # acceptance test of a release; the second is what continuous integration runs.
    scripts = [REPOSITORY / line.split()[0] for line in SCRIPTS.splitlines()]
    assert [script.name for script in scripts] == ["run.sh", "test.sh"]
    lanes = [REPOSITORY / "scripts" / name for name in ("test_zoo.sh", "docs.sh")]
    for script in (*scripts, *lanes, REPOSITORY / ".ci" / "run"):
        assert os.access(script, os.X_OK), script
        subprocess.run(["bash", "-n", script], check=True)
    assert {"./scripts/test.sh", "./scripts/test_zoo.sh"} <= set((REPOSITORY / ".ci" / "run").read_text().splitlines())


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(document: str) -> None:
    text = (REPOSITORY / document).read_text()
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    mentioned = re.findall(r"(?<=[`/])(scripts/[\w./-]+\w)", text)
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
