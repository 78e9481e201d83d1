"""What every test may use: the command line in this process, and hypothesis without deadlines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from hypothesis import settings

from bnfold.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

# A deadline measures the machine, not the code.
settings.register_profile("bnfold", deadline=None)
settings.load_profile("bnfold")


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run `bnfold` with arguments in this process; the result has `exit_code`, `stdout` and `stderr`."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run
