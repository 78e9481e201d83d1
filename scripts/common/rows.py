"""Rows of a table, one for each network, measured one after the other: the command line of scripts that do so."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["measured_rows", "parse"]


def parse(description: str | None, names: Sequence[str]) -> argparse.Namespace:
    """The arguments `names` (those given, or `names`), `json`, `missing`, `measured` and `markdown`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(names))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--measured", action="store_true")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args()


def measured_rows(
    arguments: argparse.Namespace, measure: Callable[[str], dict[str, Any]], show: Callable[[dict[str, Any]], str]
) -> list[dict[str, Any]]:
    """Measure each network that the file lacks, or all without --missing, and print its row.

    Args:
        arguments: from `parse`. With --measured none is measured, and those that the file lacks have no row.
        measure: the row of a network; it holds the name as `network`. One that also holds a `failure` is measured again
            by the next run.
        show: a row as a line.
    """
    lines = arguments.json.read_text().splitlines() if arguments.json and arguments.json.exists() else []
    rows = {row["network"]: row for row in map(json.loads, lines)}
    if getattr(arguments, "measured", False):
        return [rows[name] for name in arguments.names if name in rows]
    for name in arguments.names:
        if not (arguments.missing and rows.get(name, {"failure": ""}).get("failure") is None):
            rows[name] = measure(name)
            if arguments.json:
                with arguments.json.open("a") as file:
                    file.write(json.dumps(rows[name]) + "\n")
        print(show(rows[name]), flush=True)
    return [rows[name] for name in arguments.names]
