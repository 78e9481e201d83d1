"""Count the BatchNorms that each tool leaves in the networks of timm and torchvision.

    python scripts/survey.py [--json FILE] [--missing] [--measured] [--markdown FILE] [NAME ...]

NAME is `timm:NAME` or `torchvision:NAME`; without names, the list of scripts/survey/networks.txt. Weights are random,
gamma and beta are drawn and statistics measured as in scripts/fold_zoo.py. What is counted are the nodes
BatchNormalization: those of the unoptimized export are `found`, the others are what is left in

    export              what `torch.onnx.export` writes by default: its graph after onnxscript's optimizer and fusions,
    onnxsim, onnxslim   the unoptimized export after either,
    ort                 the file that ONNX Runtime writes of `export` at its level "extended",
    bnfold              the folded file, proven operator by operator by its certificate, and loaded by ONNX Runtime.

A tool that fails on a network is told on standard error and has a dash there; totals are over the networks that every
tool handled. Each network has a process of its own, with a limit of memory and of CPU time, and the reason where it
has no counts. --json appends a line for every network, so that several runs may share a file; --missing takes up what
it has, but failures; --measured measures nothing and writes the page of what it has; --markdown writes docs/survey.md.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.rewriter.onnx_fusions
import torch
from common.isolated import Limits, isolated
from common.networks import calibrate, names, randomise, source_of
from common.rows import measured_rows, parse

from bnfold.benchmarking.offline import write_offline
from bnfold.export import finish, plain_graph, save
from bnfold.folding import fold_model
from bnfold.graph.inlined import inlined
from bnfold.records.causes import Held
from bnfold.runtime import open_session
from bnfold.sources.library import build_timm, build_torchvision
from bnfold.verification.certificate import prove
from bnfold.verification.certificate.joined import with_joined
from survey.networks import NETWORKS
from survey.page import OTHERS, TOOLS, line, totals, write_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.records import Ledger
    from bnfold.records.causes import Stays
    from bnfold.verification.certificate import Proof

ROW = "{:40} {:>6}" + " {:>8}" * len(TOOLS)
LIMITS = Limits(memory_gib=10, cpu_s=600)


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
    """What each tool leaves of the BatchNorms of one network, and whether the folded file is proven."""
    start = time.process_time()
    module, inputs = build(name)
    model = plain_graph(source_of(name, module, inputs))
    unfolded = ir.to_proto(model)
    with tempfile.TemporaryDirectory() as folder:
        left = {tool: _left(name, tool, unfolded, Path(folder)) for tool in OTHERS}
    began = time.process_time()
    ledger = fold_model(model)
    fold_s = time.process_time() - began
    file = finish(model)
    proof = _proof(file, unfolded, ledger, inputs)
    if proof.failed is not None and not proof.failed.is_known:  # as `fold-export` does
        file = finish(model, simplify=False)
        proof = _proof(file, unfolded, ledger, inputs)
    with tempfile.TemporaryDirectory() as folder:
        (path, *_) = save(file, Path(folder) / "model.onnx")
        open_session(path, threads=1)
    left["bnfold"] = n_batchnorms(file)
    return {
        "network": name, "found": ledger.found, "left": left, "kept": ledger.kept, "reasons": reasons(ledger),
        "proven": True if proof.failed is None else proof.failed.reason,
        "n_parameters": sum(weight.numel() for weight in module.parameters()),
        "fold_s": round(fold_s, 2), "cpu_s": round(time.process_time() - start, 1),
    }  # fmt: skip


def _proof(file: onnx.ModelProto, unfolded: onnx.ModelProto, ledger: Ledger, inputs: tuple[torch.Tensor, ...]) -> Proof:
    """That the folded file computes the unfolded graph, by the fold's certificate; its parameters to half a ULP."""
    sizes = {name: (None, *x.shape[1:]) for name, x in zip(names(inputs), inputs, strict=True)}
    certificate = with_joined(ledger.certificate, file, unfolded)
    return prove(file, inlined(unfolded), certificate, sizes=sizes, seed=0, max_ulps=0.5)


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


def main() -> None:
    """Count, print the table, and write JSON and Markdown."""
    arguments = parse(__doc__, list(NETWORKS))
    print(ROW.format("network", "found", *TOOLS), flush=True)
    rows = measured_rows(arguments, partial(isolated, measure, limits=LIMITS), lambda row: ROW.format(*line(row)))
    print(ROW.format(*totals(rows)))
    if arguments.markdown:
        write_page(arguments.markdown, rows)
