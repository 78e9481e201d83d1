"""Every end of a command: one `error:` line and the exit code of the contract."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

import bnfold
from bnfold.cli.log_lines import configure_logging
from bnfold.cli.main import COMMANDS, LazyGroup
from bnfold.cli.options import verbosity_options
from bnfold.errors import EnvironmentNotReady, GateFailed, InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

ROOT = Path(bnfold.__file__).parents[1]


def end_with(error: BaseException | None, *arguments: str) -> Result:
    """Run a command that ends with an error, or with a line on standard output."""

    @click.command()
    @verbosity_options
    def command() -> None:
        logging.getLogger("bnfold.test").info("working")
        logging.getLogger("bnfold.test").debug("detail")
        if error is not None:
            raise error
        click.echo("result")

    return invoke(command, *arguments)


def invoke(command: click.Command, *arguments: str) -> Result:
    """Run a command as one of bnfold's."""
    group = LazyGroup(name="bnfold", lazy={}, commands={"do": command})
    return CliRunner().invoke(group, ["do", *arguments])


def python(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run this interpreter on the package."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, **options
    )


def test_success() -> None:
    result = end_with(None)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "result\n", "working\n")


def test_what_onnx_ir_says_of_types_is_shown_to_those_who_ask_for_details() -> None:
    @click.command()
    @verbosity_options
    def command() -> None:
        click.echo(logging.getLogger("onnx_ir.serde").isEnabledFor(logging.WARNING))

    assert invoke(command).stdout == "False\n"
    assert invoke(command, "-v").stdout == "True\n"


def test_quiet_leaves_the_result() -> None:
    result = end_with(None, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "result\n", "")


def test_verbose_adds_details_with_their_room() -> None:
    assert end_with(None, "--verbose").stderr == "bnfold.test: working\nbnfold.test: detail\n"


def test_one_call_does_not_quieten_the_next() -> None:
    end_with(None, "-q")
    assert end_with(None).stderr == "working\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (GateFailed("not equal", remedy="look"), 1, "error: not equal; look"),
        (InputRefused("damaged", where="a.onnx", found="1", expected="2"), 3,
         "error: damaged in a.onnx: found 1, expected 2"),
        (EnvironmentNotReady("no runtime", remedy="run `pip install x`"), 4, "error: no runtime; run `pip install x`"),
        (KeyboardInterrupt(), 130, "error: interrupted; nothing half-written was kept"),
        (ModuleNotFoundError("No module named 'timm.data'", name="timm.data"), 4,
         'error: the package timm is not installed; run `pip install "bnfold[zoo]"`'),
        (ModuleNotFoundError("No module named 'bnfold.nope'", name="bnfold.nope"), 70,
         "error: internal error: ModuleNotFoundError: No module named 'bnfold.nope'; this is a fault of bnfold: "
         "repeat with --verbose and report what it prints"),
        (ValueError("two\nlines"), 70,
         "error: internal error: ValueError: two lines; this is a fault of bnfold: "
         "repeat with --verbose and report what it prints"),
    ],
)  # fmt: skip
def test_errors_are_one_line(error: BaseException, code: int, line: str) -> None:
    result = end_with(error, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line + "\n")


@pytest.mark.parametrize("error", [ValueError("odd"), InputRefused("damaged")])
def test_verbose_shows_the_traceback_before_the_line(error: Exception) -> None:
    stderr = end_with(error, "-v").stderr
    assert "Traceback (most recent call last)" in stderr
    assert stderr.splitlines()[-1].startswith("error: ")
    assert stderr.count("error: ") == 1 or isinstance(error, ValueError)


def test_usage_errors_are_clicks() -> None:
    for arguments in (["--nope"], ["-q", "-v"]):
        result = end_with(None, *arguments)
        assert result.exit_code == 2
        assert "Usage:" in result.stderr


def test_unknown_commands(cli: Callable[..., Result]) -> None:
    result = cli("brew")
    assert result.exit_code == 2
    assert "No such command 'brew'" in result.stderr


def test_a_mistyped_command_is_told_the_nearest(cli: Callable[..., Result]) -> None:
    result = cli("fold-exprt")
    assert result.exit_code == 2
    assert "No such command 'fold-exprt'. Did you mean 'fold-export'?" in result.stderr


def test_a_module_without_a_command_is_our_fault() -> None:
    group = LazyGroup(name="bnfold", lazy={"do": ("types", "Not a command.")})
    result = CliRunner().invoke(group, ["do"])
    assert result.exit_code == 70
    assert "AttributeError" in result.stderr


def test_every_command_of_the_contract_is_there(cli: Callable[..., Result]) -> None:
    assert list(COMMANDS) == [
        "train",
        "recalibrate",
        "fold-export",
        "quantize",
        "bench",
        "tune",
        "verify",
        "evaluate",
        "predict",
        "bundle",
        "inspect",
        "doctor",
    ]
    listed = cli("--help").stdout
    for name in COMMANDS:
        assert name in listed
        assert cli(name, "--help").exit_code == 0


def test_version(cli: Callable[..., Result]) -> None:
    assert cli("--version").stdout == f"bnfold, version {bnfold.__version__}\n"


def test_help_imports_no_heavy_package() -> None:
    code = (
        "import sys; from bnfold.cli.main import main; main(['--help'], standalone_mode=False); "
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'onnx_ir', 'numpy', 'rich') if name in sys.modules])"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("module", ["bnfold", "bnfold.cli.main"])
def test_the_package_is_a_command(module: str) -> None:
    missing = python("-m", module, "bench", "absent.onnx", "-q")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert missing.stderr == "error: no such file in absent.onnx; check the path\n"


def test_a_reader_that_left_is_no_error(network: Path) -> None:
    """`bnfold inspect | head -0`: the pipe is closed before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:  # noqa: PTH123  # a descriptor
        run = subprocess.run(
            [sys.executable, "-m", "bnfold", "inspect", str(network), "-q"], cwd=ROOT, stdout=pipe,
            stderr=subprocess.PIPE, check=False, timeout=120,
        )  # fmt: skip
    assert (run.returncode, run.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full on this system")
@pytest.mark.parametrize(
    "arguments", ["inspect {net} -q", "inspect {net} -q --json -", "--help", "bench --help", "--version"]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output(arguments: str, unbuffered: str, network: Path) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        run = subprocess.run(
            [sys.executable, "-m", "bnfold", *arguments.format(net=network).split()], cwd=ROOT, env=environment,
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
    line = "error: cannot write to standard output: found No space left on device; make room, or send it elsewhere\n"
    assert (run.returncode, run.stderr) == (4, line)


LONG = "n" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", LONG),
        ("inspect", "bnnet", "--weights", f"{LONG}.pt"),
        ("inspect", "{net}", "--json", LONG),
        ("inspect", f"{LONG}.onnx"),
        ("inspect", f"{LONG}.py:build"),
        ("inspect", f"{LONG}.pt2"),
        ("bench", f"{LONG}.onnx"),
        ("bench", "{net}", "--baseline", LONG, "--fail-if-slower", "1%"),
        ("verify", "{net}", f"{LONG}.onnx"),
        ("verify", "{net}", "{net}", "--inputs", f"{LONG}.npz"),
        ("verify", "{net}", "--against-bundle", LONG),
        ("fold-export", "{net}", "-o", LONG),
        ("train", f"{LONG}.py"),
        ("recalibrate", LONG),
    ],
)
def test_a_name_too_long_for_a_file(arguments: tuple[str, ...], cli: Callable[..., Result], network: Path) -> None:
    result = cli(*(argument.format(net=network) for argument in arguments))
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert result.exit_code == 3, line
    assert "internal error" not in line
    if sys.version_info < (3, 14):  # from there on, pathlib says of such a name that there is no such file
        assert "too long" in line


def test_a_full_disk_elsewhere_is_no_fault_of_ours() -> None:
    result = end_with(OSError(errno.ENOSPC, "No space left on device", "out/model.onnx"), "-q")
    line = "error: cannot write in out/model.onnx: found No space left on device; make room, or choose another disk\n"
    assert (result.exit_code, result.stderr) == (4, line)


def test_other_errors_of_the_system_are_faults() -> None:
    assert end_with(OSError(errno.EIO, "Input/output error"), "-q").exit_code == 70


@pytest.mark.parametrize(
    "error", [None, InputRefused("no"), KeyboardInterrupt()], ids=["well", "refused", "interrupted"]
)
def test_who_calls_a_command_keeps_their_logging(error: BaseException | None) -> None:
    loggers = [logging.getLogger(name) for name in ("bnfold", "onnx_ir")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    end_with(error, "-v")
    assert [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers] == before


def test_logging_is_set_up_once() -> None:
    logger = logging.getLogger("bnfold")
    before = (logger.level, logger.propagate, list(logger.handlers))
    try:
        configure_logging(logging.INFO)
        configure_logging(logging.DEBUG)
        assert len(logger.handlers) - len([handler for handler in before[2] if handler in logger.handlers]) == 1
        assert logger.level == logging.DEBUG
    finally:
        logger.level, logger.propagate, logger.handlers = before
