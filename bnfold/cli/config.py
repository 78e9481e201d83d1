"""Options from a file: `bnfold.toml`, or `[tool.bnfold]` of `pyproject.toml`; the command line wins.

A table for each command, a key for each of its options, by the name that it has on the command line:

    [fold-export]
    fail-if-slower = "3%"
    batch = [1, 8]
    golden = true
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["config_defaults"]

FILE, PROJECT = Path("bnfold.toml"), Path("pyproject.toml")
ELSEWHERE = ("help", "version")


def config_defaults(ctx: click.Context, group: click.Group, path: Path | None) -> dict[str, dict[str, Any]]:
    """What click takes in the place of the defaults of the command that is called.

    Args:
        ctx: of the group.
        group: the commands.
        path: the file; None takes `bnfold.toml` of the working folder, else its `pyproject.toml`.

    Raises:
        click.UsageError: the file cannot be read, or names a command, an option or a value that there is not.
    """
    where, tables = _read(path, ctx)
    for name, table in tables.items():
        if name not in group.list_commands(ctx):
            raise _unknown(ctx, f"{where}: there is no command", name, group.list_commands(ctx))
        if not isinstance(table, dict):
            raise click.UsageError(f"{where}: {name} must be a table of options, got {table!r}.", ctx)
    called = ctx.invoked_subcommand
    if called is None or called not in tables:
        return {}
    command = group.get_command(ctx, called)
    if command is None:
        return {}
    return {called: _values(tables[called], command, f"{where}, [{called}]", ctx)}


def _read(path: Path | None, ctx: click.Context) -> tuple[str, Mapping[str, Any]]:
    """The tables, and the name of where they stand."""
    found = path or next((each for each in (FILE, PROJECT) if each.is_file()), None)
    if found is None:
        return "", {}
    try:
        content = tomllib.loads(found.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise click.UsageError(f"cannot read {found}: {error}.", ctx) from error
    if found.name != PROJECT.name:
        return str(found), content
    tables = content.get("tool", {}).get("bnfold", {})
    return f"[tool.bnfold] of {found}", tables if isinstance(tables, dict) else {}


def _values(table: Mapping[str, Any], command: click.Command, where: str, ctx: click.Context) -> dict[str, Any]:
    options = {
        name.removeprefix("--"): param
        for param in command.params
        if isinstance(param, click.Option)
        for name in param.opts
        if name.startswith("--") and name.removeprefix("--") not in ELSEWHERE
    }
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in options:
            raise _unknown(ctx, f"{where}: there is no option", key, options)
        param = options[key]
        if param.name is None:
            raise TypeError(f"--{key} has no name")
        values[param.name] = _as_given(value, param, f"{where}: {key}", ctx)
    return values


def _as_given(value: Any, option: click.Option, where: str, ctx: click.Context) -> Any:
    """A value as the command line would have it: a text, which the option then reads; of a flag whether it is set."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.UsageError(f"{where} must be true or false, got {value!r}.", ctx)
        return value
    several = value if isinstance(value, list) else [value]
    wrong = next((each for each in several if isinstance(each, bool) or not isinstance(each, str | int | float)), None)
    if wrong is not None or not several:
        raise click.UsageError(f"{where} must be a text, a number, or a list of these, got {value!r}.", ctx)
    texts = [str(each) for each in several]
    return texts if option.multiple else ",".join(texts)


def _unknown(ctx: click.Context, what: str, name: str, known: Iterable[str]) -> click.UsageError:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return click.UsageError(f"{what} {name!r}; the nearest is {close[0]!r}.", ctx)
