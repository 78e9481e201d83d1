"""The page of scripts/survey.py: by family, by cause, and network by network."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from common.tables import markdown_table
from common.versions import versions

from survey.networks import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["OTHERS", "TOOLS", "cells", "line", "totals", "write_page"]

OTHERS = ("export", "onnxsim", "onnxslim", "ort")
TOOLS = (*OTHERS, "bnfold")
PACKAGES = {
    "torch": "PyTorch", "torchvision": "torchvision", "timm": "timm", "onnxscript": "onnxscript",
    "onnxsim": "onnxsim", "onnxslim": "onnxslim", "onnxruntime": "ONNX Runtime",
}  # fmt: skip
PAGE = """\
# BatchNorms that stay

Of the networks of timm and torchvision: nodes BatchNormalization in the unoptimized export (`found`), and what is left
of them in the default file of `torch.onnx.export`, after onnxsim or onnxslim, in what ONNX Runtime writes at its level
"extended", and in the file of bnfold. Weights are random, gammas from 0.5 to 1.5, statistics measured on random data.
Each file of bnfold is proven operator by operator by its certificate (docs/certificate.md), and loaded by ONNX Runtime.

    cd scripts && python survey.py --json survey.jsonl --missing --markdown ../docs/survey.md

{n_networks} networks of {n_families} families, {versions}. The list, scripts/survey/networks.txt, has {n_listed}: all
with a BatchNorm of timm, and of torchvision for classification, segmentation and video; one of each family first, then
by size. {proven}

## By family

{n_clean} families, {n_clean_found} BatchNorms of {n_clean_networks} networks, are clear with every tool. Of the others:

{families}

## Why bnfold leaves some

By cause (docs/causes.md) and by the operators that hold them:

{reasons}

## Network by network

{table}
{failures}"""
FAILURES = """
## Networks without counts

{reasons}
"""


def totals(rows: Sequence[dict[str, Any]], name: str = "total of {}") -> tuple[str, ...]:
    """Sums over the networks that every tool handled."""
    whole = [row for row in rows if "left" in row and all(row["left"][tool] is not None for tool in TOOLS)]
    sums = (sum(row["left"][tool] for row in whole) for tool in TOOLS)
    return (name.format(len(whole)), str(sum(row["found"] for row in whole)), *map(str, sums))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One network of the table."""
    return (row["network"], str(row["found"]), *("-" if row["left"][t] is None else str(row["left"][t]) for t in TOOLS))


def line(row: dict[str, Any]) -> tuple[str, ...]:
    """One network on a terminal, also one without counts."""
    return cells(row) if "left" in row else (f"{row['network']}: {row['failure']}", "-", *("-" for _ in TOOLS))


def write_page(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the page on what was counted."""
    counted = sorted((row for row in rows if "left" in row), key=lambda row: row["network"])
    bold = tuple(f"**{cell}**" for cell in totals(counted))
    why: Counter[str] = sum((Counter(row["reasons"]) for row in counted), Counter())
    clean, others = _families(counted)
    right = range(1, 2 + len(TOOLS))
    unproven = [f"{row['network']} ({row['proven']})" for row in counted if row.get("proven", True) is not True]
    text = PAGE.format(
        n_networks=len(counted), n_listed=len(NETWORKS), n_families=len(clean) + len(others),
        versions=versions(PACKAGES),
        proven=f"Not proven: {', '.join(unproven)}." if unproven else "All are proven.",
        n_clean=len(clean), n_clean_networks=sum(map(len, clean)),
        n_clean_found=sum(row["found"] for family in clean for row in family),
        families=markdown_table(
            ("family", "networks", "found", *TOOLS),
            [(_family(family[0]), len(family), *totals(family)[1:]) for family in others],
            right=range(1, 3 + len(TOOLS)),
        ),
        reasons="\n".join(f"- {n}: {reason}" for reason, n in why.most_common()) or "It leaves none.",
        table=markdown_table(("network", "found", *TOOLS), [*map(cells, counted), bold], right=right),
        failures=_failures([row for row in rows if "left" not in row]),
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")


def _family(row: dict[str, Any]) -> str:
    name: str = row["network"]
    return NETWORKS.get(name, name)


def _families(rows: Sequence[dict[str, Any]]) -> tuple[list[list[dict[str, Any]]], list[list[dict[str, Any]]]]:
    """The networks of the families in which no tool leaves a BatchNorm, and those of the others, most found first."""
    families: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        families.setdefault(_family(row), []).append(row)
    clean = [family for family in families.values() if not any(any(row["left"].values()) for row in family)]
    others = [family for family in families.values() if family not in clean]
    return clean, sorted(others, key=lambda family: -sum(row["left"]["export"] or 0 for row in family))


def _failures(rows: Sequence[dict[str, Any]]) -> str:
    return FAILURES.format(reasons="\n".join(f"- {row['network']}: {row['failure']}" for row in rows)) if rows else ""
