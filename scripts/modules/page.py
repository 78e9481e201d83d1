"""docs/module_networks.md: the rows of scripts/fold_modules.py as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from common.tables import markdown_table

from modules.networks import GAMMAS, names

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_page"]

HEAD = """# Networks folded in memory

Written by `python scripts/fold_modules.py --json ROWS --missing --markdown docs/module_networks.md`, with random
weights and statistics measured on random data. Gammas are drawn from 0.5 to 1.5 (`positive`); then 15 % of them are
made negative (`mixed`), and 3 % are set to 0 (`zeros`).

`kept` counts the BatchNorms that stay, `graph` those that the fold of the exported graph keeps without merging branches
and removing channels. `float64` is the largest difference before parameters are rounded, relative to the largest
output.
`error` is the root mean square error of the folded module in float32 against the module in float64, over the module's
own. Beside it `torch.fx.experimental.optimization.fuse` and timm's `reparameterize_model`: BatchNorms left, and the
largest difference in float32 relative to the largest output; `fuse` returns a `GraphModule`, the others the same class.
"""
HEADINGS = ("network", "gammas", "BatchNorms", "kept", "graph", "float64", "error", "fx", "timm")


def write_page(rows: Sequence[dict[str, Any]], target: Path) -> None:
    """Write the page of these rows: what holds for all, the table, why BatchNorms stay."""
    done = [row for row in rows if row["failure"] is None]
    parts = [HEAD, "\n".join(f"- {sentence}" for sentence in _claims(rows)), ""]
    parts += [markdown_table(HEADINGS, map(_cells, done), right=range(2, 7)), ""]
    failed = [row for row in rows if row["failure"] is not None]
    if failed:
        parts += ["## Not folded", "", *(f"- {row['network']}: {row['failure']}" for row in failed), ""]
    parts += ["## What stays", "", *_reasons(done), ""]
    known = {row["network"] for row in rows}
    missing = [key for key in (f"{name}@{gamma}" for name in names() for gamma in GAMMAS) if key not in known]
    if missing:
        parts += ["## Not measured yet", "", ", ".join(missing), ""]
    target.write_text("\n".join(parts))


def _claims(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What is promised of a fold in memory, counted."""
    done = [row for row in rows if row["failure"] is None]
    n = len(done)
    networks = len({row["network"].partition("@")[0] for row in done})
    return [
        f"{n} folds of {networks} networks; {len(rows) - n} were refused.",
        f"The same class: {_count(done, lambda row: row['same_class'])}. The module that was given is bit for bit as it"
        f" was: {_count(done, lambda row: row['unchanged'])}.",
        f"Kept no more than the graph's fold: {_count(done, lambda row: row['kept'] <= row['graph'])}; fewer:"
        f" {sum(row['kept'] < row['graph'] for row in done)}.",
        f"Within 1e-10 in float64: {_count(done, lambda row: row['float64'] <= 1e-10)}; largest difference"
        f" {max(row['float64'] for row in done):.0e}.",
        f"BatchNorms left in all: {sum(row['kept'] for row in done)} of {sum(row['found'] for row in done)};"
        f" torch.fx {_left(done, 'fx')}; timm {_left(done, 'timm')}.",
    ]


def _count(rows: Sequence[dict[str, Any]], holds: Any) -> str:
    n = sum(bool(holds(row)) for row in rows)
    return f"all {n}" if n == len(rows) else f"{n} of {len(rows)}"


def _left(rows: Sequence[dict[str, Any]], tool: str) -> str:
    ran = [row for row in rows if "failure" not in row["others"][tool]]
    left, found = sum(row["others"][tool]["left"] for row in ran), sum(row["found"] for row in ran)
    failed = len(rows) - len(ran)
    return f"{left} of {found}" + (f" where it ran, and it failed on {failed}" if failed else "")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    name, _, gamma = row["network"].partition("@")
    others = (_other(row["others"][tool]) for tool in ("fx", "timm"))
    error = "-" if row["error"] is None else f"{row['error']:.2f}"
    return name, gamma, row["found"], row["kept"], row["graph"], f"{row['float64']:.0e}", error, *others


def _other(result: dict[str, Any]) -> str:
    if "failure" in result:
        return str(result["failure"]).partition(":")[0]
    return f"{result['left']} left, {result['difference']:.0e}"


def _reasons(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For each network that keeps some, the first reason of each kind of gammas."""
    lines = []
    for row in rows:
        if row["reasons"]:
            name, _, gamma = row["network"].partition("@")
            more = f", and {len(row['reasons']) - 1} more" if len(row["reasons"]) > 1 else ""
            lines.append(f"- {name}, {gamma}: {row['reasons'][0]}{more}")
    return lines or [f"Nothing, with any of {', '.join(GAMMAS)}."]
