"""docs/rooms.svg: the packages of bnfold as floors, from the import contract in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pictures.drawing import Arrow, Box, Words, svg

__all__ = ["rooms"]

ROOT = Path(__file__).resolve().parents[2]
WIDTH, FLOOR, HEIGHT, LEFT, GAP = 1000.0, 66.0, 34.0, 12.0, 10.0


WORDS = {
    "cli": "one small file for each command: parse, call a workflow, render",
    "workflows": "what a command does, callable from Python",
    "evaluation": "scores on labelled samples, intervals, gates, predictions",
    "modules": "a PyTorch module without its BatchNorms",
    "training": "a network and its run",
    "export": "the ONNX file",
    "quantisation": "int8, float16",
    "verification": "is it equal",
    "benchmarking": "what it is worth",
    "report": "tables, pages",
    "bundles": "files to serve",
    "calibration": "running statistics: measured, adapted, judged",
    "derivation": "parameters of int8 files, computed a second time",
    "sources": "what the user names: a module, an exported program, a file",
    "runtime": "ONNX Runtime and the machine",
    "folding": "units of all tensors, branches, dead channels, the ledger",
    "graph": "the operator table; graphs read, matched, edited; shapes; float64 evaluation",
    "numerics": "affine and convolution algebra, error bounds: NumPy alone",
    "records": "the facts that are reported, and their JSON",
    "errors": "ends of work that the user can mend, with their exit codes",
    "version": "one string",
    "interrupts": "signals that end a command",
    "shown": "what a notebook shows of a record",
}


def _floors() -> list[list[str]]:
    """The packages of each layer, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["name"] == "Data flows down the layers")
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def rooms() -> str:
    """The picture, as SVG."""
    floors = _floors()
    parts: list[Box | Arrow | Words] = []
    for k, names in enumerate(floors):
        y = 26 + FLOOR * k
        each = (WIDTH - 2 * LEFT - GAP * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            x = LEFT + each / 2 + column * (each + GAP)
            parts.append(Box(x, y, each, HEIGHT, name, "takes" if name == "folding" else "plain", WORDS[name]))
    says = "; ".join(", ".join(names) for names in floors)
    return svg(
        parts, (WIDTH, 26 + FLOOR * len(floors) - 8), title="The packages of bnfold, imports only point down", says=says
    )
