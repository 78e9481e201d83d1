"""docs/peers.md: by tool, case by case, and in words what was changed, refused, or said."""

from __future__ import annotations

import re
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

from common.tables import markdown_table
from common.versions import versions

from peers.cases import CASES, FIELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["line", "write_page"]

NAMES = {
    "export": "torch.onnx.export", "onnxsim": "onnxsim", "onnxslim": "onnxslim", "ort": "ONNX Runtime, offline",
    "bnfold": "bnfold",
}  # fmt: skip
PACKAGES = {
    "torch": "PyTorch", "torchvision": "torchvision", "timm": "timm", "onnxscript": "onnxscript",
    "onnxsim": "onnxsim", "z3-solver": "z3-solver", "onnxslim": "onnxslim", "onnxruntime": "ONNX Runtime",
}  # fmt: skip
PAGE = """\
# Beside other tools

{n_files} files and trained networks of the field ([field](field.md)) and {n_networks} networks of timm and torchvision,
{n_cases} cases of the {n_listed} of scripts/peers/cases.py, through five tools. Each is given the same file: that of
the field, or the unoptimized export of the network, with gammas from 0.5 to 1.5 and measured statistics;
`torch.onnx.export` is given the network. `bnfold.verify` holds each file that comes out against what the tool was given
([what is compared](verification.md)): the source in float64, the file in ONNX Runtime, without graph optimizations and
as deployed.

    ./scripts/fetch_field.sh
    cd scripts && python peers.py --json peers.jsonl --missing --markdown ../docs/peers.md

{versions}.

{tools}

- **written**: files that the tool wrote;
- **do not run**: files that ONNX Runtime refuses, or that cannot be compared;
- **change the function**: files that are not equal to their source;
- **own check**: what the tool says of its file: `onnxsim.simplify(certify=True)` (SMT over real numbers),
  `onnxslim.slim(model_check=True)` (one random input), `torch.onnx.verification` with the exporter's limits, the proof
  of bnfold; ONNX Runtime has none;
- **BatchNorms left**: of {n_found} in the networks of which every tool wrote a file;
- **time**: median of CPU time on one thread, without the check; **check**: the same for the check.

What the networks take to run, side by side: [times](../benchmarks/cpu.md), and
`bnfold bench --against onnxsim,onnxslim,ort-offline --source SOURCE` for your own.

## Files that do not run, or change the function

{changed}

## What the own checks said

{said}

## Case by case

BatchNorms in the given file and left in each. `x`: the file changes the function or does not run; `!`: the tool wrote
none; `-`: not given to it.

{cases}
"""


def line(row: Mapping[str, Any]) -> str:
    """One case on a terminal."""
    return "  ".join(_cells(row)) if "tools" in row else f"{row['network']}: {row['failure']}"


def write_page(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the page on what was measured."""
    whole = [row for row in rows if all("left" in row["tools"][tool] for tool in NAMES)]
    text = PAGE.format(
        n_files=sum(row["network"] in FIELD for row in rows),
        n_networks=sum(row["network"] not in FIELD for row in rows),
        n_cases=len(rows), n_listed=len(CASES),
        versions=versions(PACKAGES), n_found=sum(row["found"] for row in whole),
        tools=markdown_table(
            (
                "tool", "given", "written", "do not run", "change the function", "own check: equal", "different",
                "undecided", "BatchNorms left", "time, s", "check, s",
            ),
            [_tool(tool, rows, whole) for tool in NAMES], right=range(1, 11),
        ),
        changed=_list(
            f"{NAMES[tool]}, `{row['network']}`: {one['verdict']}"
            + (f"; its own check says {one['own']}" if one.get("own") else "")
            for row in rows for tool, one in row["tools"].items() if one.get("equal") is False
        ),
        said=_said(rows),
        cases=markdown_table(("case", "found", *NAMES.values()), map(_cells, rows), right=range(1, 7)),
    )  # fmt: skip
    path.write_text(_FOLDERS.sub("", text), encoding="utf-8")


_FOLDERS = re.compile(r"(?<=\s)/(?:[\w.+-]+/)+")  # of files on the machine that measured, in what tools said


def _given(row: Mapping[str, Any], tool: str) -> bool:
    one = row["tools"][tool]
    return "failure" in one or "tool_s" in one


def _tool(tool: str, rows: Sequence[Mapping[str, Any]], whole: Sequence[Mapping[str, Any]]) -> tuple[object, ...]:
    given = [row["tools"][tool] for row in rows if _given(row, tool)]
    made = [one for one in given if "left" in one]
    own = Counter(one["own"] for one in made)
    checked = [one["check_s"] for one in made if one["own"] is not None]
    return (
        NAMES[tool], len(given), len(made), sum(not one["runs"] for one in made),
        sum(one["runs"] and not one["equal"] for one in made),
        *((own["equal"], own["different"], own["undecided"]) if checked else ("-", "-", "-")),
        sum(row["tools"][tool]["left"] for row in whole),
        f"{median(one['tool_s'] for one in made):.1f}" if made else "-",
        f"{median(checked):.1f}" if checked else "-",
    )  # fmt: skip


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (row["network"], str(row["found"]), *(_cell(row["tools"][tool]) for tool in NAMES))


def _cell(one: Mapping[str, Any]) -> str:
    if "left" not in one:
        return "!" if "failure" in one else "-"
    return f"{one['left']}{'' if one['equal'] else ' x'}"


def _said(rows: Sequence[Mapping[str, Any]]) -> str:
    """Exceptions, and what the checks said other than that the file is equal, with how often each was said."""
    words: Counter[tuple[str, str]] = Counter()
    for row in rows:
        for tool, one in row["tools"].items():
            if "failure" in one:
                words[NAMES[tool], f"no file: {one['failure']}"] += 1
            elif one.get("own") in ("different", "undecided"):
                words[NAMES[tool], _without_names(one["detail"])] += 1
            if one.get("said"):
                words[NAMES[tool], f"on standard error: {_without_names(one['said'])}"] += 1
    return _list(
        f"{name}, {n} of {len(rows)}: {text}" for (name, text), n in sorted(words.items(), key=lambda one: -one[1])
    )


def _without_names(text: str) -> str:
    """What is said of several files alike: onnxsim names values on the way to its reason, and adds a second attempt."""
    status, _, rest = text.partition("; zonotope")[0].partition(": ")
    reason = re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "N", rest.rpartition(": ")[2])
    return f"{status}: {reason}"[:200] if reason and "~" not in reason else status


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {' '.join(text.split())}" for text in lines) or "None."
