"""What the command line has to say of bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def refused(cli: Callable[..., Result], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must end with a code, one `error:` line and nothing in the output folder; give the line."""

    def run(*arguments: object, code: int, output: Path | None = None) -> str:
        folder = tmp_path / "output" if output is None else output
        before = sorted(folder.rglob("*")) if folder.is_dir() else folder.exists()
        result = cli(*arguments, "-o", folder) if arguments[0] == "fold-export" else cli(*arguments)
        assert result.exit_code == code, result.output
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, result.stderr
        assert "Traceback" not in result.output
        assert result.stdout == ""
        assert (sorted(folder.rglob("*")) if folder.is_dir() else folder.exists()) == before
        return lines[0]

    return run
