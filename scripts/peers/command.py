"""Give the same networks and files to bnfold and to other tools, and judge what each has written.

    python scripts/peers.py [--json FILE] [--missing] [--measured] [--markdown FILE] [NAME ...]

NAME is one of scripts/peers/cases.py: the files and trained networks of the field (./scripts/fetch_field.sh), and 31
networks of timm and torchvision, gammas from 0.5 to 1.5, statistics measured. Each tool is given the same file, that of
the field or the unoptimized export, and its own check is asked for (scripts/peers/tools.py says which): onnxsim,
onnxslim, ONNX Runtime's optimizer, bnfold; of a network also `torch.onnx.export` as it is by default. Every file is
then compared with what the tool was given by `bnfold.verify`: the source in float64, the file in ONNX Runtime.

onnxslim and z3-solver are no packages of bnfold (`pip install onnxslim z3-solver`); without the second one onnxsim's
check does not run. --json appends a line for every case, so that a run may be interrupted; --missing takes up what it
has; --measured measures nothing and writes the page of what it has; --markdown writes docs/peers.md.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from common.isolated import Limits, isolated
from common.networks import names as input_names
from common.rows import measured_rows, parse
from survey.command import n_batchnorms

import bnfold
from bnfold.errors import BnfoldError
from peers.cases import CASES, module_of, written
from peers.page import line, write_page
from peers.tools import TOOLS, Task, made

if TYPE_CHECKING:
    from peers.cases import Network

OF_A_TOOL = Limits(memory_gib=12, cpu_s=900)
OF_A_CASE = Limits(memory_gib=12, cpu_s=3600)


def measure(case: str) -> dict[str, Any]:
    """What each tool makes of one network or file."""
    network = module_of(case)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as name:
        given = written(case, network, Path(name))
        tools = {}
        for tool in TOOLS:
            folder = Path(name) / tool
            folder.mkdir()
            target = folder / "made.onnx"
            row = isolated(partial(made, task=Task(case, given, target)), tool, OF_A_TOOL)
            tools[tool] = {key: value for key, value in row.items() if key != "network"}
            if target.exists() and "failure" not in row:
                tools[tool] |= judged(target, given, network if tool == "export" else None)
        return {"network": case, "found": n_batchnorms(onnx.load(given)), "tools": tools}


def judged(file: Path, given: Path, network: Network | None) -> dict[str, Any]:
    """The BatchNorms of a file, and whether it computes what its source does; why not, in `verdict`.

    Args:
        file: that a tool wrote.
        given: what it was given, unless
        network: was given to it.
    """
    start = time.process_time()
    facts: dict[str, Any] = {"left": n_batchnorms(onnx.load(file))}
    try:
        if network is None:
            verdict = bnfold.verify(str(given), file)
        else:
            module, inputs = network
            verdict = bnfold.verify(module, file, inputs, input_names=input_names(inputs), output_names=["output"])
    except BnfoldError as error:
        return {**facts, "runs": False, "equal": False, "verdict": str(error)[:300]}
    return {
        **facts, "runs": True, "equal": verdict.passed, "verdict": verdict.failure,
        "error": max((one.e_output / one.allowed for one in verdict.outputs if one.allowed), default=0.0),
        "verify_s": round(time.process_time() - start, 1),
    }  # fmt: skip


def main() -> None:
    """Measure, print a line for each case, and write JSON and Markdown."""
    arguments = parse(__doc__, list(CASES))
    rows = measured_rows(arguments, partial(isolated, measure, limits=OF_A_CASE), line)
    if arguments.markdown:
        write_page(arguments.markdown, [row for row in rows if "tools" in row])
