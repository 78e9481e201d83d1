"""docs/accuracy.md from the measurements of scripts/right_folds.py."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bnfold.runtime.packages import installed_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["versions", "write_page"]

PAGE = """\
# How accurate a folded file is

The error of a file is its distance from the network's answer in float64. Divided by the error of the network itself in
float32 it says what the file cost: 1 is as good as the source. Each number is the root mean square over all outputs and
all inputs of a verification, in ONNX Runtime on the CPU at full graph optimization, and the geometric mean over
verifications with {n_draws} draws of inputs: a single draw of a small network scatters between a third and three times.

- `ours`: the folded file;
- `plain`: what `torch.onnx.export` writes by default, its own optimizations included;
- `onnxsim`: the unoptimized export after onnxsim.

Parameters are random and statistics measured on random data; images are 128 x 128 where a network takes any size.
`+tiny` has variances of 1e-8 to 1e-4, `+mixed` gammas of both signs, `+zeros` also gammas of 0, and `+few` statistics
measured on 4 rows only.

    cd scripts && python right_folds.py --json right_folds.jsonl --markdown ../docs/accuracy.md

{networks} networks on a shared x86-64 machine, {versions}.

{table}

{passed} of {networks} pass with every draw.

Border inputs are the same in every draw, and decide the figure of a network whose output they make large. A merged
convolution (RepVGG) adds the terms of all its branches up in one long sum, and a Linear that has taken a BatchNorm adds
up inputs with their means, which its bias takes off again: both cost a part of a digit, the second the more the larger
a mean is against its deviation (`bnnet+few`).
"""
PACKAGES = {"torch": "PyTorch", "timm": "timm", "onnxruntime": "ONNX Runtime", "onnxsim": "onnxsim"}


def versions(packages: dict[str, str]) -> str:
    """Names and versions of those distributions that are installed, for a sentence."""
    found = {name: installed_version(package) for package, name in packages.items()}
    return ", ".join(f"{name} {version.split('+')[0]}" for name, version in found.items() if version)


def write_page(path: Path, rows: Sequence[dict[str, Any]], files: Sequence[str]) -> None:
    """Write the page on what was measured.

    Args:
        path: of the page; replaced where it exists.
        rows: of the measurements, one for each network.
        files: the columns; medians and maxima are over the networks that every file exists for.
    """
    whole = [row for row in rows if all(row[file] is not None for file in files)]
    lines = [f"| network | {' | '.join(files)} | passed | decided by |", f"|---|{'---|' * len(files)}---|---|"]
    for row in rows:
        cells = ["-" if row[file] is None else f"{row[file]:.2f}" for file in files]
        lines.append(f"| {row['network']} | {' | '.join(cells)} | {_yes(row['passed'])} | {row['decided_by']} |")
    for name, of in (("median", statistics.median), ("maximum", max)):
        cells = [f"{of(row[file] for row in whole):.2f}" for file in files]
        lines.append(f"| **{name}** | {' | '.join(cells)} | | |")
    numbers = sorted({len(row["draws"]) for row in rows})
    text = PAGE.format(
        n_draws=" or ".join(map(str, numbers)),
        networks=len(rows),
        versions=versions(PACKAGES),
        table="\n".join(lines),
        passed=sum(row["passed"] for row in rows),
    )
    path.write_text(text, encoding="utf-8")


def _yes(passed: bool) -> str:
    return "yes" if passed else "NO"
