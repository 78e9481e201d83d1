"""Reference pages of the site: every command from click, every public function and record by its docstring."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING

from common.tables import markdown_table

import bnfold
from bnfold.cli.main import main

if TYPE_CHECKING:
    import click

__all__ = ["command_reference", "python_reference"]

# What is public besides the functions: where it lies, and what it is for.
EXTENSIONS = {
    "bnfold.errors": "What the functions raise; each class is one exit code of the command line.",
    "bnfold.folding.FoldPass": "The fold as a pass of onnx_ir.",
    "bnfold.runtime.register_provider": "An execution provider of another package.",
    "bnfold.runtime.providers.spec.ProviderSpec": "What an execution provider is.",
}
RECORDS = (
    "ledger", "causes", "conversion", "verification", "certificate", "benchmark", "verdicts", "timing", "evaluation",
    "quantisation", "recalibration", "training", "file_facts", "input_format", "machine",
)  # fmt: skip


def command_reference() -> str:
    """Every command: its usage, what it does, its options."""
    parts = ["# Commands and options", "What `bnfold COMMAND --help` prints, made from the same texts."]
    with main.make_context("bnfold", ["doctor"]) as context:
        for name in main.list_commands(context):
            command = main.get_command(context, name)
            if command is None:
                raise LookupError(name)
            parts += _command(name, command)
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: click.Command) -> list[str]:
    with command.make_context(name, [], resilient_parsing=True) as context:
        usage = " ".join(["bnfold", name, *command.collect_usage_pieces(context)])
        records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [(f"`{_cell(option)}`", _words(text)) for option, text in filter(None, records) if text]
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    options = markdown_table(("option", ""), rows)
    return [f"## bnfold {name}", f"```text\n{usage}\n```", _paragraphs(help_text), options]


def _paragraphs(text: str) -> str:
    """Help as Markdown: a paragraph stays one, what is laid out by hand stays as it is."""
    shown = []
    for part in text.split("\n\n"):
        lines = part.splitlines()
        by_hand = any(line.startswith("  ") for line in lines)
        shown.append(f"```text\n{part}\n```" if by_hand else _words(" ".join(lines)))
    return "\n\n".join(shown)


def _cell(text: str) -> str:
    return " ".join(text.split())


def _words(text: str) -> str:
    """Words in which no sign is Markdown but `code`."""
    parts = " ".join(text.split()).split("`")
    for sign in ("\\", "*", "_", "<", "["):
        parts[::2] = [part.replace(sign, "\\" + sign) for part in parts[::2]]
    return "`".join(parts)


def python_reference() -> str:
    """Every public function and record, for mkdocstrings."""
    parts = [
        "# Functions and records",
        "The commands as functions, the records that they return, and what extends bnfold.",
    ]
    parts.append("## Functions")
    for name in bnfold.__all__:
        function = getattr(bnfold, name)
        if callable(function):
            parts.append(f"::: {function.__module__}.{function.__name__}\n    options:\n      heading_level: 3")
    parts.append("## Records")
    for module in RECORDS:
        import_module(f"bnfold.records.{module}")
        parts.append(f"::: bnfold.records.{module}\n    options:\n      heading_level: 3")
    parts.append("## Errors and extensions")
    for path, words in EXTENSIONS.items():
        parts += [words, f"::: {path}\n    options:\n      heading_level: 3"]
    return "\n\n".join(parts) + "\n"
