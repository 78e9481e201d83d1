"""What a command writes for pipelines: JUnit XML, Markdown, and the summary of a step of GitHub Actions."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from bnfold.cli.outputs import require_writable, writable
from bnfold.cli.parameter_types import NamedPath
from bnfold.errors import unwritable

__all__ = ["append_to_step_summary", "check_step_summary", "summary_options", "write_summaries"]

F = TypeVar("F", bound=Callable[..., Any])


def summary_options(function: F) -> F:
    """Add --junit (`junit: Path | None`) and --markdown (`markdown_file: Path | None`).

    A step summary that cannot be written is refused before the command runs.
    """

    @wraps(function)
    def checked(*arguments: Any, **parameters: Any) -> Any:
        check_step_summary()
        return function(*arguments, **parameters)

    junit = click.option(
        "--junit", type=NamedPath(), metavar="FILE", callback=writable, help="Write the gates as JUnit XML."
    )
    markdown = click.option(
        "--markdown", "markdown_file", type=NamedPath(), metavar="FILE", callback=writable,
        help="Write a summary in Markdown; it is appended to $GITHUB_STEP_SUMMARY, too, where that is set.",
    )  # fmt: skip
    return junit(markdown(cast("F", checked)))


def write_summaries(markdown: str, gates: bytes, *, junit: Path | None, markdown_file: Path | None) -> None:
    """Write what is asked for, and append to the summary of the step; what cannot be written leaves the rest.

    Args:
        markdown: the summary.
        gates: the JUnit XML.
        junit: its file, None for none.
        markdown_file: the summary's, likewise.
    """
    from bnfold.report import write_bytes

    with ExitStack() as rest:  # from the last to the first, whichever of them fails
        rest.callback(append_to_step_summary, markdown)
        if markdown_file is not None:
            rest.callback(write_bytes, markdown.encode(), markdown_file)
        if junit is not None:
            rest.callback(write_bytes, gates, junit)


def check_step_summary() -> None:
    """Refuse a summary of a step that cannot be written.

    Raises:
        InputRefused: it is a folder, or lies in none that can be written to.
    """
    summary = _step_summary()
    if summary is not None:
        require_writable(summary)


def _step_summary() -> Path | None:
    """The file that a step of GitHub Actions adds its summary to, where there is one."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    return Path(name) if name else None


def append_to_step_summary(text: str) -> None:
    """Add to the summary of the step, where there is one.

    Raises:
        InputRefused: it cannot be written.
    """
    path = _step_summary()
    if path is None:
        return
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        where, remedy = (
            f"{path} ($GITHUB_STEP_SUMMARY)",
            "name a file in a folder that exists and that you can write to",
        )
        raise unwritable("cannot write the summary", error, where=where, remedy=remedy) from error
