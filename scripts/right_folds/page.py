"""docs/accuracy.md from the measurements of scripts/right_folds.py."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from common.tables import markdown_table
from common.versions import versions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["write_page"]

PAGE = """\
# How accurate a folded file is

The error of a file is its distance from the network's answer in float64. Divided by the error of the network itself in
float32 it says what the file cost: 1 is as good as the source. Both are root mean squares over all outputs, in ONNX
Runtime on the CPU at full graph optimization.

- **each input**: the median of this ratio over the inputs of {n_draws} verifications: what the file costs on a typical
  input;
- **all inputs**: what a verification judges, both errors pooled over its inputs, and the geometric mean over the
  verifications. The input of the largest output decides it, often one that excites the borders, far from anything that
  the statistics were measured on: there, one draw of roundings scatters between a third and three times.

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

A merged convolution (RepVGG) adds the terms of all its branches up in one long sum, and a Linear that has taken a
BatchNorm adds up inputs with their means, which its bias takes off again: both cost a part of a digit, the second the
more the larger a mean is against its deviation (`bnnet+few`).
"""
PACKAGES = {"torch": "PyTorch", "timm": "timm", "onnxruntime": "ONNX Runtime", "onnxsim": "onnxsim"}


def write_page(path: Path, rows: Sequence[dict[str, Any]], files: Sequence[str]) -> None:
    """Write the page on what was measured.

    Args:
        path: of the page; replaced where it exists.
        rows: of the measurements, one for each network.
        files: the columns; medians and maxima are over the networks that every file exists for.
    """
    whole = [row for row in rows if all(row[file] is not None for file in files)]
    headings = [f"{file}, {of} input{'s' if of == 'all' else ''}" for of in ("each", "all") for file in files]
    lines: list[Sequence[object]] = []
    for row in rows:
        cells = ["-" if ratio is None else f"{ratio:.2f}" for ratio in _ratios(row, files)]
        lines.append((row["network"], *cells, _yes(row["passed"]), row["decided_by"]))
    for name, of in (("median", statistics.median), ("maximum", max)):
        cells = [f"{of(column):.2f}" for column in zip(*(_ratios(row, files) for row in whole), strict=True)]
        lines.append((f"**{name}**", *cells, "", ""))
    numbers = sorted({len(row["draws"]) for row in rows})
    text = PAGE.format(
        n_draws=" or ".join(map(str, numbers)),
        networks=len(rows),
        versions=versions(PACKAGES),
        table=markdown_table(("network", *headings, "passed", "decided by"), lines, right=range(1, 1 + len(headings))),
        passed=sum(row["passed"] for row in rows),
    )
    path.write_text(text, encoding="utf-8")


def _ratios(row: dict[str, Any], files: Sequence[str]) -> list[Any]:
    return [of[file] for of in (row["typical"], row) for file in files]


def _yes(passed: bool) -> str:
    return "yes" if passed else "NO"
