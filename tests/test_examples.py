"""examples/ is true: its workflow's steps and its hooks run, and its bnfold.toml is understood."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "examples"
WORKFLOW = (EXAMPLES / "github-actions.yml").read_text()
HOOKS = (EXAMPLES / "pre-commit-config.yaml").read_text()

pytestmark = pytest.mark.slow


def steps() -> list[str]:
    """The commands of the workflow, step by step, without its indentation."""
    blocks = re.findall(r"^ {8}run: \|\n((?: {10}.*\n)+)", WORKFLOW, re.MULTILINE)
    return [re.sub(r"^ {10}", "", block, flags=re.MULTILINE) for block in blocks]


def test_the_workflow_and_the_hooks_run(tmp_path: Path, with_program: dict[str, str]) -> None:
    install, *rest = steps()
    assert install.splitlines() == ['pip install "bnfold[cpu,evaluate,torch]"', "mkdir gates"]
    assert len(rest) == WORKFLOW.count("run: |") - 1 == 4
    (tmp_path / "gates").mkdir()
    (tmp_path / "bnfold.toml").write_text((EXAMPLES / "bnfold.toml").read_text())
    source = re.search(r"^  SOURCE: (\S+)", WORKFLOW, re.MULTILINE)
    assert source is not None
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    env = {**with_program, "SOURCE": source[1], "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}

    def run(command: str, code: int = 0) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=tmp_path, env=env, check=False, text=True,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"

    run("bnfold train vgg_bn")
    for step in rest:
        run(step)
    assert {path.name for path in (tmp_path / "gates").iterdir()} == {"fold-export.xml", "quantize.xml", "evaluate.xml"}
    for file in (tmp_path / "gates").iterdir():
        (suite,) = ElementTree.parse(file).getroot()  # noqa: S314 - our own
        assert (suite.get("failures"), suite.get("tests") != "0") == ("0", True)
    headings = re.findall(r"^### (bnfold \S+)", (tmp_path / "summary.md").read_text(), re.MULTILINE)
    assert headings == ["bnfold fold-export", "bnfold quantize", "bnfold evaluate"]

    verify, fold = re.findall(r"^ +entry: (.*)$", HOOKS, re.MULTILINE)
    model = tmp_path / "exported" / "model.onnx"
    pattern = re.search(r"^ +files: (\S+model\S+)$", HOOKS, re.MULTILINE)
    assert pattern is not None
    assert re.search(pattern[1], model.relative_to(tmp_path).as_posix())
    run(f"{verify} {shlex.quote(model.relative_to(tmp_path).as_posix())}")
    run(fold)
    run(f"cp int8/model.int8.onnx {model}")
    run(f"{verify} exported/model.onnx", code=1)  # another model than its golden values are of
