"""Count the BatchNorms that each tool leaves in the networks of timm and torchvision.

    python scripts/survey.py [--json FILE] [--missing] [--markdown FILE] [NAME ...]

NAME is `timm:NAME` or `torchvision:NAME`; without names, the list of scripts/survey/networks.py. Weights are random,
gamma and beta are drawn and statistics measured as in scripts/fold_zoo.py. What is counted are the nodes
BatchNormalization: those of the unoptimized export are `found`, the others are what is left in

    export              what `torch.onnx.export` writes by default: its graph after onnxscript's optimizer and fusions,
    onnxsim, onnxslim   the unoptimized export after either,
    ort                 the file that ONNX Runtime writes of `export` at its level "extended",
    bnfold              the folded file.

A tool that fails on a network is told on standard error and has a dash there; totals are over the networks that every
tool handled. --json appends a line for every network, so that several runs may share a file; --missing takes up what it
has; --markdown writes docs/survey.md.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.rewriter.onnx_fusions
import torch
from common.networks import calibrate, randomise, source_of
from common.rows import measured_rows, parse
from common.tables import markdown_table
from common.versions import versions

from bnfold.benchmarking.offline import write_offline
from bnfold.export import finish, plain_graph, save
from bnfold.folding import fold_model
from bnfold.records.causes import Held
from bnfold.sources.library import build_timm, build_torchvision
from survey.networks import NETWORKS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.records import Ledger
    from bnfold.records.causes import Stays

OTHERS = ("export", "onnxsim", "onnxslim", "ort")
TOOLS = (*OTHERS, "bnfold")
ROW = "{:40} {:>6}" + " {:>8}" * len(TOOLS)
PACKAGES = {
    "torch": "PyTorch", "torchvision": "torchvision", "timm": "timm", "onnxscript": "onnxscript",
    "onnxsim": "onnxsim", "onnxslim": "onnxslim", "onnxruntime": "ONNX Runtime",
}  # fmt: skip
PAGE = """\
# BatchNorms that stay

Of the networks of timm and torchvision: nodes BatchNormalization in the unoptimized export (`found`), and what is left
of them in the default file of `torch.onnx.export`, after onnxsim or onnxslim, in what ONNX Runtime writes at its level
"extended", and in the file of bnfold. Taken are the smallest network with BatchNorms of each module of timm and of each
family of torchvision (classification, video, segmentation), and those of scripts/fold_zoo.py. Weights are random,
gammas from 0.5 to 1.5, statistics measured on random data.

    cd scripts && python survey.py --json survey.jsonl --markdown ../docs/survey.md

{n_networks} networks, {versions}.

{table}

Why bnfold leaves these, by cause (docs/causes.md) and by the operators that hold them:

{reasons}
"""


def build(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    """The network with drawn parameters and measured statistics, and what these were measured on."""
    torch.manual_seed(0)
    library, _, network = name.partition(":")
    make: Callable[..., Any] = {"timm": build_timm, "torchvision": build_torchvision}[library]
    module, shape = make(network, pretrained=False)
    inputs = (torch.randn(4, *shape[1:]),)
    module.eval()
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    return module, inputs


def measure(name: str) -> dict[str, Any]:
    """What each tool leaves of the BatchNorms of one network."""
    module, inputs = build(name)
    model = plain_graph(source_of(name, module, inputs))
    unfolded = ir.to_proto(model)
    with tempfile.TemporaryDirectory() as folder:
        left = {tool: _left(name, tool, unfolded, Path(folder)) for tool in OTHERS}
    ledger = fold_model(model)
    left["bnfold"] = n_batchnorms(finish(model))
    return {"network": name, "found": ledger.found, "left": left, "kept": ledger.kept, "reasons": reasons(ledger)}


def _left(name: str, tool: str, unfolded: onnx.ModelProto, folder: Path) -> int | None:
    try:
        return n_batchnorms(optimized(tool, unfolded, folder))
    except Exception as error:  # noqa: BLE001 - other projects' tools may raise anything; it is told, and counts as none
        print(f"{name}: {tool}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr, flush=True)
        return None


def optimized(tool: str, unfolded: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """What a tool makes of the unoptimized export."""
    if tool == "onnxsim":
        model: onnx.ModelProto = import_module("onnxsim").simplify(unfolded)[0]
        return model
    if tool == "onnxslim":
        slim: onnx.ModelProto = import_module("onnxslim").slim(onnx.ModelProto.FromString(unfolded.SerializeToString()))
        return slim
    plain = ir.from_proto(unfolded)
    onnxscript.optimizer.optimize_ir(plain)
    onnxscript.rewriter.onnx_fusions.fuse(plain)
    if tool == "export":
        return ir.to_proto(plain)
    before, after = folder / "export.onnx", folder / "ort.onnx"
    save(ir.to_proto(plain), before)
    write_offline(before, after, "extended")
    return onnx.load(after)


def n_batchnorms(model: onnx.ModelProto) -> int:
    """The nodes BatchNormalization of a model, those in subgraphs and functions included."""
    found = ir.from_proto(model)
    nodes = [
        *found.graph.all_nodes(),
        *(node for function in found.functions.values() for node in function.all_nodes()),
    ]
    return sum(node.op_type == "BatchNormalization" for node in nodes)


def reasons(ledger: Ledger) -> dict[str, int]:
    """How many BatchNorms stayed for each cause, by the types of the operators that hold them."""
    return dict(Counter(kind(entry.stays) for entry in ledger.entries if entry.stays is not None))


def kind(stays: Stays) -> str:
    """`` `nonlinear`: offset held by Relu and Conv (padding) ``, and so on: the cause in front, and those of others."""
    if not isinstance(stays, Held):
        return f"`{stays.cause}`"
    holders = [holder for holder in (stays.before, stays.after) if holder is not None]
    texts = [
        f"{holder.operator} ({holder.cause})" if holder.operator and holder.cause != stays.cause
        else holder.operator or holder.cause.replace("_", " ")
        for holder in holders
    ]  # fmt: skip
    return f"`{stays.cause}`: {stays.units} held by {' and '.join(texts) or 'a cycle'}"


def totals(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The last line: sums over the networks that every tool handled."""
    whole = [row for row in rows if all(row["left"][tool] is not None for tool in TOOLS)]
    sums = (sum(row["left"][tool] for row in whole) for tool in TOOLS)
    return (f"total of {len(whole)}", str(sum(row["found"] for row in whole)), *map(str, sums))


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """One network of the table."""
    return (row["network"], str(row["found"]), *("-" if row["left"][t] is None else str(row["left"][t]) for t in TOOLS))


def write_page(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the page on what was counted."""
    lines = [cells(row) for row in rows] + [tuple(f"**{cell}**" for cell in totals(rows))]
    table = markdown_table(("network", "found", *TOOLS), lines, right=range(1, 2 + len(TOOLS)))
    why: Counter[str] = sum((Counter(row["reasons"]) for row in rows), Counter())
    text = PAGE.format(
        n_networks=len(rows), versions=versions(PACKAGES), table=table,
        reasons="\n".join(f"- {n}: {reason}" for reason, n in why.most_common()),
    )  # fmt: skip
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Count, print the table, and write JSON and Markdown."""
    arguments = parse(__doc__, NETWORKS)
    print(ROW.format("network", "found", *TOOLS), flush=True)
    rows = measured_rows(arguments, measure, lambda row: ROW.format(*cells(row)))
    print(ROW.format(*totals(rows)))
    if arguments.markdown:
        write_page(arguments.markdown, rows)
