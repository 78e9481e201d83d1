"""docs/modules.md says what is true: its Python prints what stands under it."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "modules.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$\n+^```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(4))
def test_examples_print_what_the_page_says(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(BLOCKS) == 4
    code, expected = BLOCKS[number]
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as printed:
        warnings.simplefilter("ignore")
        exec(compile(code, "docs/modules.md", "exec"), {"__name__": "__main__"})  # noqa: S102  # our own page
    assert printed.getvalue() == expected
