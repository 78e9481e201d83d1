"""docs/ says what is true: the commands of batchnorm.md run, its Python prints what stands under it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "batchnorm.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_page_on_batchnorm(tmp_path: Path, with_program: dict[str, str], warm_python: list[str]) -> None:
    printed, n_compared = "", 0
    for language, block in BLOCKS:
        if language == "text":
            assert printed == block
            n_compared += 1
            continue
        program = ["bash", "-euo", "pipefail", "-c"] if language == "bash" else [*warm_python, "-c"]
        printed = subprocess.run(
            [*program, block], cwd=tmp_path, env=with_program, check=True, text=True, stdout=subprocess.PIPE
        ).stdout
    assert n_compared == 3
    accuracies = [
        json.loads((tmp_path / "runs" / run / "run.json").read_text())["metrics"]["test"]["accuracy"]
        for run in ("short", "repaired")
    ]
    stated = re.search(r"right on (\d+) % of the test images, the second on (\d+) %", " ".join(PAGE.split()))
    assert stated is not None
    assert [round(100 * accuracy) for accuracy in accuracies] == [int(number) for number in stated.groups()]


@pytest.mark.parametrize("document", sorted(DOCS.glob("*.md")), ids=lambda path: path.name)
def test_links_of_the_pages_lead_to_files(document: Path) -> None:
    text = document.read_text()
    links = [target for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    scripts = re.findall(r"`(scripts/[\w.]+)`", text)
    assert [link for link in links if not (document.parent / link).is_file()] == []
    assert [script for script in scripts if not (DOCS.parent / script).is_file()] == []
