"""docs/modules.md says what is true: its Python prints what stands under it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "modules.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$\n+^```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
DEPLOYMENT = ("coremltools", "executorch", "torchao")


def needed(code: str) -> list[str]:
    """The packages of the deployment lane that an example imports."""
    return [package for package in DEPLOYMENT if re.search(rf"^(import|from) {package}\b", code, flags=re.MULTILINE)]


EXAMPLES = [
    pytest.param(code, expected, id=str(number), marks=[pytest.mark.deployment] if needed(code) else [])
    for number, (code, expected) in enumerate(BLOCKS)
]


def test_every_example_has_its_answer() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 8
    assert sorted(package for code, _ in BLOCKS for package in needed(code)) == sorted(DEPLOYMENT)
    assert all(expected for _, expected in BLOCKS)


@pytest.mark.parametrize(("code", "expected"), EXAMPLES)
def test_examples_print_what_the_page_says(
    code: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if needed(code):
        for package in needed(code):
            pytest.importorskip(package, reason=f"{package} is not installed: scripts/test_deployment.sh installs it")
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-W", "ignore", "-c", code]
        answer = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE).stdout
        assert answer == expected
        return
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as printed:
        warnings.simplefilter("ignore")
        exec(compile(code, "docs/modules.md", "exec"), {"__name__": "__main__"})  # noqa: S102  # our own page
    assert printed.getvalue() == expected
