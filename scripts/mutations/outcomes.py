"""Outcomes of scripts/mutations.py: what they say in a table, and as lines of a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["TOLERANCES", "Outcome", "known", "summary", "table"]

# Of `np.allclose` in conversion scripts: what the page shows bnfold beside. Nothing is judged by them.
TOLERANCES = (1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Outcome:
    """Of one kind on one network; `named` is None where there is no layer to name."""

    kind: str
    network: str
    caught: bool
    named: bool | None
    close: tuple[bool, ...]
    expected: str
    found: str

    def cell(self) -> str:
        """For the table."""
        return ("caught" if self.caught else "MISSED") + {None: "", True: " +", False: " !"}[self.named]


def table(cells: dict[str, dict[str, Outcome | str]], networks: Sequence[str]) -> None:
    """Print a row for each kind."""
    print(f"{'':28}" + "".join(f"{name:12}" for name in networks) + "".join(f"{t:>9.0e}" for t in TOLERANCES))
    for kind, row in cells.items():
        outcomes = [cell for cell in row.values() if isinstance(cell, Outcome)]
        texts = [cell if isinstance(cell, str) else cell.cell() for cell in row.values()]
        counts = [
            f"{sum(not outcome.close[i] for outcome in outcomes)}/{len(outcomes)}" for i in range(len(TOLERANCES))
        ]
        print(f"{kind:28}" + "".join(f"{text:12}" for text in texts) + "".join(f"{count:>9}" for count in counts))


def summary(outcomes: Sequence[Outcome], n_kinds: int) -> bool:
    """Print the counts and every case that is not as it should be; whether all is well."""
    caught = [outcome for outcome in outcomes if outcome.caught]
    named = [outcome for outcome in outcomes if outcome.named is not None]
    right = [outcome for outcome in named if outcome.named]
    print(f"\ncaught: {len(caught)} of {len(outcomes)} wrong files, of {n_kinds} kinds")
    for i, tolerance in enumerate(TOLERANCES):
        n_caught = sum(not outcome.close[i] for outcome in outcomes)
        print(f"np.allclose at {tolerance:.0e}: {n_caught} of {len(outcomes)}")
    print(f"layer named right: {len(right)} of {len(named)}")
    for outcome in outcomes:
        if not outcome.caught or outcome.named is False:
            print(f"  {outcome.network}, {outcome.kind}: expected {outcome.expected}; found {outcome.found[:300]}")
    return len(caught) == len(outcomes) and len(right) >= 0.9 * len(named)


def known(file: Path | None) -> dict[tuple[str, str], Outcome | str]:
    """What a file holds of earlier runs, by network and kind."""
    lines = file.read_text().splitlines() if file and file.exists() else []
    cells: dict[tuple[str, str], Outcome | str] = {}
    for line in lines:
        network, kind, cell = json.loads(line)
        cells[network, kind] = cell if isinstance(cell, str) else Outcome(**{**cell, "close": tuple(cell["close"])})
    return cells
