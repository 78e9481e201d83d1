"""docs/modules.md says what is true: its Python prints what stands under it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "modules.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$\n+^```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(4))
def test_examples_print_what_the_page_says(number: int, with_program: dict[str, str], tmp_path: Path) -> None:
    assert len(BLOCKS) == 4
    code, expected = BLOCKS[number]
    command = [sys.executable, "-W", "ignore", "-c", code]
    printed = subprocess.run(
        command, cwd=tmp_path, env=with_program, check=True, text=True, stdout=subprocess.PIPE
    ).stdout
    assert printed == expected
