"""docs/mutations.md from the outcomes of scripts/mutations.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.tables import markdown_table
from common.versions import versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mutations.outcomes import Outcome

__all__ = ["write_page"]

PAGE = """\
# What the verification catches

Every wrong file below is made from a right fold of one of {n_networks} small networks, and is shown to compute
something else before it counts. `bnfold verify` judges it with its defaults, and so does the gate of
`bnfold fold-export`:

{counts}

`np.allclose` compares the outputs of the file and of the unfolded graph in ONNX Runtime on one random sample, with atol
and rtol alike, as most conversion scripts do. Of the {n_named} faults that lie in a layer, the verdict names the right
layer for {n_right}.{exceptions}

`caught +` says that the layer is named right, `caught !` that another one is, or none; `caught` alone that the fault
lies in no layer. `equal` is a file that computes the same and does not count, `-` stands where a network has no place
for the fault.

    cd scripts && python mutations.py --markdown ../docs/mutations.md

On x86-64 with {versions}.

{table}
"""
PACKAGES = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime"}


def write_page(
    path: Path, cells: Mapping[str, Mapping[str, Outcome | str]], networks: Sequence[str], limits: Sequence[float]
) -> None:
    """Write the page on what was judged.

    Args:
        path: of the page; replaced where it exists.
        cells: outcomes, or the words for cases that do not count, by kind and network.
        networks: the columns.
        limits: the tolerances of `np.allclose`, as in `Outcome.close`.
    """
    outcomes = [cell for row in cells.values() for cell in row.values() if not isinstance(cell, str)]
    named = [outcome for outcome in outcomes if outcome.named is not None]
    wrong = [outcome for outcome in named if not outcome.named]
    lines: list[Sequence[object]] = []
    for kind, row in cells.items():
        judged = [cell for cell in row.values() if not isinstance(cell, str)]
        counts = [sum(not outcome.close[i] for outcome in judged) for i in range(len(limits))]
        texts = [cell if isinstance(cell, str) else cell.cell() for cell in (row[network] for network in networks)]
        lines.append((kind, *texts, f"{' / '.join(map(str, counts))} of {len(judged)}"))
    n_files = f"{len(outcomes)}, of {len({outcome.kind for outcome in outcomes})} kinds"
    judges = [("`bnfold verify`", f"**{sum(outcome.caught for outcome in outcomes)} of {n_files}**")]
    judges += [
        (f"`np.allclose` at {limit:.0e}", str(sum(not outcome.close[i] for outcome in outcomes)))
        for i, limit in enumerate(limits)
    ]
    text = PAGE.format(
        n_networks=len(networks),
        counts=markdown_table(("", "caught"), judges),
        n_named=len(named),
        n_right=len(named) - len(wrong),
        exceptions=f" The others: {', '.join(sorted({one.kind for one in wrong}))}." if wrong else "",
        versions=versions(PACKAGES),
        table=markdown_table(("", *networks, f"allclose {' / '.join(f'{limit:.0e}' for limit in limits)}"), lines),
    )
    path.write_text(text, encoding="utf-8")
