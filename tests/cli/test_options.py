"""Options that mean the same everywhere: what is read, what is refused."""

from __future__ import annotations

import os
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
from bnfold.cli.outputs import WRITTEN, refuse_overwriting
from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


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
        "pretrained": False, "input_shapes": (), "input_dtypes": None, "dims": {}, "batch_dim": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("--batch", "4"), "batch", (4,)),
        (("--batch", "1,2,64"), "batch", (1, 2, 64)),
        (("--input-shape", "1x3x8x9", "--input-shape", "1x7"), "input_shapes", ((1, 3, 8, 9), (1, 7))),
        (("--provider", "cuda"), "provider", "cuda"),
        (("--threads", "3"), "threads", 3),
        (("--threads", "1024"), "threads", 1024),
        (("--batch", "65536"), "batch", (65536,)),
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
        (("--threads", "1025"), "1025 is not in the range 1<=x<=1024"),
        (("--batch", "1,65537"), "'1,65537' holds a number that is not in the range 1 to 65536."),
        (("--weights", ""), "the name is empty"),
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

    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to(tmp_path / "missing" / "report.json")
    before = sorted(tmp_path.iterdir())
    for place in ("missing/report.json", "missing/deeper/report.json", "folder", "link.json"):
        found = CliRunner().invoke(command, ["--json", str(tmp_path / place)]).exception
        assert isinstance(found, InputRefused)
        assert found.remedy
    assert sorted(tmp_path.iterdir()) == before


def test_a_pipe_can_be_written_where_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert parse("--json", str(tmp_path / "pipe"))["json_file"] == str(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["source", "weights", "inputs", "files", "baseline", "model", "run"])
@pytest.mark.parametrize(("written", "option"), list(WRITTEN.items()))
def test_what_a_command_reads_is_not_written(name: str, written: str, option: str, tmp_path: Path) -> None:
    read = tmp_path / "read"
    read.touch()
    (tmp_path / "link").symlink_to(read)
    values = (str(read), f"{read}:build", (tmp_path / "absent", read))
    for value in values:
        with pytest.raises(click.UsageError, match=f"{option} names .*, which this command reads"):
            refuse_overwriting({name: value, written: tmp_path / "link"})
        refuse_overwriting({name: value, written: tmp_path / "other"})


def test_standard_output_and_flags_are_no_files() -> None:
    refuse_overwriting({"source": "-", "json_file": "-", "html": True})


@pytest.mark.parametrize("arguments", [
    ("fold-export", "net.onnx", "-o", ""),
    ("recalibrate", "run", "-o", ""),
    ("train", "bnnet", "-o", ""),
    ("verify", "net.onnx", "out.onnx", "--reproduction", ""),
    ("verify", "net.onnx", "out.onnx", "--inputs", ""),
    ("bench", ""),
])  # fmt: skip
def test_an_empty_name_is_not_the_working_folder(arguments: tuple[str, ...], cli: Callable[..., Result]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "the name is empty" in result.stderr


@pytest.mark.parametrize("arguments", [
    ("fold-export", "net.onnx", "-o", "out", "--threads", "100000"),
    ("fold-export", "net.onnx", "-o", "out", "--static-batch", "99999999"),
    ("fold-export", "net.onnx", "-o", "out", "--batch", "99999999"),
    ("verify", "net.onnx", "out.onnx", "--threads", "100000"),
    ("verify", "net.onnx", "out.onnx", "--batch", "99999999"),
    ("bench", "net.onnx", "--threads", "1,100000"),
    ("bench", "net.onnx", "--batch", "99999999"),
    ("bench", "net.onnx", "--mode", "throughput", "--concurrency", "100000"),
    ("train", "bnnet", "--threads", "100000"),
])  # fmt: skip
def test_numbers_that_no_machine_can_serve(arguments: tuple[str, ...], cli: Callable[..., Result]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "is not in the range 1" in result.stderr
