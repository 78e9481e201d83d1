"""Options that mean the same everywhere: what is read, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from bnfold.cli.options import (
    batch_option,
    json_option,
    provider_option,
    seed_option,
    source_options,
    threads_option,
)
from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from pathlib import Path


def parse(*arguments: str) -> Any:
    """The values a command gets, or the text of the refusal."""
    seen: dict[str, Any] = {}

    @click.command()
    @source_options
    @batch_option((1, 8))
    @provider_option
    @threads_option
    @seed_option
    @json_option
    def command(**values: Any) -> None:
        seen.update(values)

    result = CliRunner().invoke(command, arguments)
    if result.exit_code == 0:
        return seen
    assert result.exit_code == 2
    return result.stderr


def test_defaults() -> None:
    assert parse() == {
        "batch": (1, 8), "provider": "cpu", "threads": None, "seed": 0, "json_file": None, "weights": None,
        "pretrained": False, "input_shapes": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("--batch", "4"), "batch", (4,)),
        (("--batch", "1,2,64"), "batch", (1, 2, 64)),
        (("--input-shape", "1x3x8x9", "--input-shape", "1x7"), "input_shapes", ((1, 3, 8, 9), (1, 7))),
        (("--provider", "cuda"), "provider", "cuda"),
        (("--threads", "3"), "threads", 3),
        (("--seed", "4294967295"), "seed", 2**32 - 1),
        (("--json", "-"), "json_file", "-"),
    ],
)
def test_values(arguments: tuple[str, ...], name: str, value: object) -> None:
    assert parse(*arguments)[name] == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "one"), "'one' is not of the form 1,8."),
        (("--batch", "1,,2"), "'1,,2' is not of the form 1,8."),
        (("--batch", "0"), "'0' holds a number below 1."),
        (("--batch", "2,1,2"), "'2,1,2' names a batch size twice."),
        (("--input-shape", "1,3,8"), "'1,3,8' is not of the form 1x3x224x224."),
        (("--input-shape", "1x0"), "'1x0' holds a number below 1."),
        (("--provider", "cudda"), "'cudda' is not one of"),
        (("--threads", "0"), "0 is not in the range"),
        (("--seed", "-1"), "-1 is not in the range"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    assert message in parse(*arguments)


def test_a_report_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    @click.command()
    @json_option
    def command(json_file: str) -> None:
        raise AssertionError(json_file)

    for place in ("missing/report.json", "missing/deeper/report.json"):
        found = CliRunner().invoke(command, ["--json", str(tmp_path / place)]).exception
        assert isinstance(found, InputRefused)
        assert found.remedy
    assert not list(tmp_path.iterdir())
