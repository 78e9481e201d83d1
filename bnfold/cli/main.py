"""The `bnfold` command: loads a command when it is called, turns every error into one line and an exit code."""

from __future__ import annotations

import difflib
import errno
import logging
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from bnfold import COMMANDS
from bnfold.cli.config import config_defaults
from bnfold.cli.log_lines import configure_logging, logging_kept
from bnfold.cli.options import VERBOSITY
from bnfold.cli.stdout import checked_stdout, silence_stdout
from bnfold.errors import FULL, BnfoldError, EnvironmentNotReady, InputRefused, unwritable
from bnfold.interrupts import Interrupted, handled_signals, interruptible
from bnfold.runtime.packages import EXTRAS, missing_package
from bnfold.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LazyGroup", "main"]

SIGNALLED = 128  # plus the number of the signal, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE
INTERNAL = 70  # EX_SOFTWARE of sysexits.h


class LazyGroup(click.Group):
    """Commands by name, imported when called: help stays fast, one broken import breaks one command.

    Args:
        lazy: command name -> (module with a click command named `command`, one line of help, ...).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the work, not of the alphabet."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module behind a name."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        command = import_module(self.lazy[cmd_name][0]).command
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.lazy[cmd_name][0]}.command is no click command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command; for a name that there is not, name the nearest."""
        close = difflib.get_close_matches(args[0], list(self.lazy), n=1)
        if close and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the lines given, without an import."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[1]) for name, entry in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every end other than success becomes one `error:` line and an exit code."""
        with logging_kept(), handled_signals():
            configure_logging(logging.INFO)
            return self._invoke_once(ctx)

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run as click does; what it prints outside of `invoke`, as --help, may meet a full disk too."""
        try:
            with checked_stdout():
                return super().main(*arguments, **options)
        except EnvironmentNotReady as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    def _invoke_once(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                result = super().invoke(ctx)
                sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            silence_stdout()
            ctx.exit(BROKEN_PIPE)
        except KeyboardInterrupt as error:
            _fail_interrupted(ctx, error)
        except BnfoldError as error:
            _fail(ctx, "; ".join([str(error), *_notes(error)]), error.exit_code)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in EXTRAS:
                _fail_internal(ctx, error)
            missing = missing_package(package)
            _fail(ctx, str(missing), missing.exit_code)
        except OSError as error:
            _fail_system(ctx, error)
        except Exception as error:  # noqa: BLE001  # the last net: every other error is ours, and still ends in one line
            _fail_internal(ctx, error)
        else:
            return result


def _fail_internal(ctx: click.Context, error: Exception) -> NoReturn:
    """End with the line for an error that is no BnfoldError."""
    message = " ".join(str(error).split())
    remedy = "this is a fault of bnfold: repeat with --verbose and report what it prints"
    _fail(ctx, "; ".join([f"internal error: {type(error).__name__}: {message}", remedy, *_notes(error)]), INTERNAL)


def _fail_system(ctx: click.Context, error: OSError) -> NoReturn:
    """End with the line for what the operating system refuses: a name too long, a full disk; else it is ours."""
    reason = error.strerror or str(error)
    if error.errno == errno.ENAMETOOLONG:
        name = Path(str(error.filename or "")).name
        refused = InputRefused(
            "cannot look for the file", where=f"{name[:40]}..." if name else None, found=reason,
            expected="at most 255 bytes in the name of a file", remedy="choose a shorter name",
        )  # fmt: skip
        _fail(ctx, "; ".join([str(refused), *_notes(error)]), refused.exit_code)
    if error.errno in FULL:
        full = unwritable("cannot write", error, where=error.filename, remedy="choose another place")
        _fail(ctx, "; ".join([str(full), *_notes(error)]), full.exit_code)
    _fail_internal(ctx, error)


def _fail_interrupted(ctx: click.Context, error: KeyboardInterrupt) -> NoReturn:
    """End with the line for Ctrl-C, or for a signal of another process."""
    signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
    verb = "interrupted" if signum == signal.SIGINT else "terminated"
    _fail(ctx, "; ".join([verb, *(_notes(error) or ["nothing half-written was kept"])]), SIGNALLED + signum)


def _notes(error: BaseException) -> list[str]:
    """What the work that ended adds to its error: where it left what it keeps, and how to go on.

    A signal may have been raised again behind a library's call: the notes are those of the first exception.
    """
    notes: list[str] = []
    step: BaseException | None = error
    while step is not None:
        notes += [note for note in getattr(step, "__notes__", []) if note not in notes]
        step = step.__context__ if isinstance(step, KeyboardInterrupt) else None
    return notes


def _fail(ctx: click.Context, sentence: str, code: int) -> NoReturn:
    """Print the line (the traceback before it, with --verbose) and leave."""
    if ctx.meta.get(VERBOSITY) == logging.DEBUG:
        click.echo(traceback.format_exc(), err=True, nl=False)
    click.echo(f"error: {sentence}", err=True)
    ctx.exit(code)


@click.group(
    name="bnfold",
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="bnfold")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="Options for each command.  [default: bnfold.toml, or [tool.bnfold] of pyproject.toml, in this folder]",
)  # fmt: skip
@click.pass_context
def main(ctx: click.Context, config: Path | None) -> None:
    """Fold BatchNorm out of a network, export ONNX, prove the result equal, and measure what it is worth."""
    if isinstance(ctx.command, click.Group):
        ctx.default_map = config_defaults(ctx, ctx.command, config)


if __name__ == "__main__":
    main()
