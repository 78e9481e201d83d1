"""Reports to render, with names that would be markup or mathematics if they were not escaped."""

from __future__ import annotations

from typing import Any

import numpy as np

from bnfold.records import (
    BenchRatio,
    BenchReport,
    BenchRun,
    FoldExportReport,
    GraphFacts,
    GraphNodes,
    LayerTime,
    Ledger,
    LedgerEntry,
    MeasuredChoice,
    MergedBranches,
    NetworkFacts,
    NetworkNode,
    OutputFacts,
    OutputVerdict,
    RemovedChannels,
    SlowerPart,
    SourceFacts,
    Timing,
    Verdict,
    as_json,
)
from bnfold.records.causes import Cause, Held, Holder

SCRIPT = "<script>alert(1)</script>"
HELD = Held("scale", Holder(Cause.NONLINEAR, SCRIPT, "Gelu"))


def fold_export_report(*, passed: bool = True) -> FoldExportReport:
    entries = (
        LedgerEntry(SCRIPT, "absorbed", ("conv<1>&",), None, 3.14159, 812.125, 0),
        LedgerEntry("blocks.3.norm", "kept", (), HELD, 0.5, 1e-12, 17),
    )
    choice = MeasuredChoice("Max", True, "CPUExecutionProvider", 1.25, 1.5, 0.8331, 0.8123, 0.8456, "faster")
    outputs = (OutputVerdict("logits", 2.123456e-6, 1.9e-6, 4.2e-6),)
    parts = (SlowerPart("Conv", "operator", 1.75, 1.125), SlowerPart(SCRIPT, "layer", 0.375, 0.25))
    timing = Timing(
        "plain", 1.0571, 1.0432, 1.0713, "slower", median_ms=1.625, against_ms=1.5, threads=1, slower=parts,
        layers=(LayerTime("conv<1>&", 1.1875, None), LayerTime(f"{SCRIPT}.conv", 0.4375, 0.375)),
    )  # fmt: skip
    failure = None if passed else "output logits diverges"
    return FoldExportReport(
        passed,
        SourceFacts(f"./{SCRIPT}.onnx", "ab" * 32, 11689512),
        OutputFacts("model.onnx", "cd" * 32, 20, 10, 46700000) if passed else None,
        Ledger(
            entries,
            (),
            choice,
            (choice,),
            (RemovedChannels(f"{SCRIPT}.conv", 480, 448), RemovedChannels("head", 64, 48)),
            merged_branches=(MergedBranches("blocks.3", (f"{SCRIPT}.conv", "blocks.3.conv")),),
        ),
        GraphFacts(180, 49, 1, 1814073344, 1700073344),
        Verdict(passed, 42000, ("CPUExecutionProvider",), (1, 2, 3), outputs, "float64", failure),
        {"load": 0.412, "export": 2.9},
        timing,
        network=network(),
    )


def network() -> NetworkFacts:
    """Names that would be markup: a BatchNorm that went, one that stays, two branches that are one convolution."""
    before = (
        NetworkNode("a", "Conv", "conv<1>&", ("x",)),
        NetworkNode("b", "BatchNormalization", SCRIPT, ("a",), batchnorm=SCRIPT),
        NetworkNode("c", "Conv", f"{SCRIPT}.conv", ("b",)),
        NetworkNode("d", "Conv", "blocks.3.conv", ("b",)),
        NetworkNode("e", "Add", "blocks.3", ("c", "d")),
        NetworkNode("f", "BatchNormalization", "blocks.3.norm", ("e",), batchnorm="blocks.3.norm"),
    )
    after = (
        NetworkNode("conv<1>&/Conv", "Conv", "conv<1>&", ("x",)),
        NetworkNode("blocks.3/Conv", "Conv", "blocks.3", ("conv<1>&/Conv",)),
        NetworkNode("blocks.3.norm/BatchNormalization", "BatchNormalization", "blocks.3.norm", ("blocks.3/Conv",)),
    )
    return NetworkFacts(
        GraphNodes(("x",), before, {f"{SCRIPT}_out": "f"}),
        GraphNodes(("x",), after, {f"{SCRIPT}_out": "blocks.3.norm/BatchNormalization"}),
    )


def large_network(n_blocks: int, *, kept: bool = False) -> dict[str, Any]:
    """Of the JSON of `bnfold inspect` what a drawing is made of: a residual network of eight nodes a block."""
    before, after, entries = [], [], []
    last = was = "x"
    for k in range(n_blocks):
        block, entry = f"stages.{k // 8}.{k % 8}", was
        for layer, op in (
            ("conv1", "Conv"), ("bn1", "BatchNormalization"), ("act1", "Relu"), ("pad", "Pad"), ("conv2", "Conv"),
            ("bn2", "BatchNormalization"), ("", "Add"), ("act2", "Relu"),
        ):  # fmt: skip
            path = f"{block}.{layer}".strip(".")
            is_norm = op == "BatchNormalization"
            name, stays = f"n{len(before)}", kept and layer == "bn2"
            own = {"op": op, "layer": path, "parameters": None}
            reads = [was, entry] if op == "Add" else [was]
            before.append({"name": name, "reads": reads, "batchnorm": path if is_norm else None, **own})
            was = name
            if not is_norm or stays:
                after.append({"name": f"{path}/{op}", "reads": [last], "batchnorm": None, **own})
                last = f"{path}/{op}"
            if is_norm:
                outcome, reason = ("kept", "sign held by Relu") if stays else ("absorbed", None)
                entries.append({"name": path, "outcome": outcome, "into": [f"{block}.conv1"], "reason": reason})
    return {
        "ledger": {"entries": entries},
        "network": {
            "before": {"inputs": ["x"], "nodes": before, "outputs": {"y": was}},
            "after": {"inputs": ["x"], "nodes": after, "outputs": {"y": last}},
        },
    }


def bench_facts() -> dict[str, Any]:
    """The JSON of `bnfold bench`: three files at two batch sizes."""
    names = ("folded", "$plain$", SCRIPT)
    cpu = {"provider": "CPUExecutionProvider", "threads": 1}
    ratios = [
        BenchRatio("folded", b, batch, r, r - 0.0123, r + 0.0201, verdict, input_shapes={"x": (batch, 3, 8)}, **cpu)
        for batch in (1, 8)
        for b, r, verdict in (("$plain$", 0.7411, "faster"), (SCRIPT, 0.9953, "tie"))
    ]
    environment = {"cpu": "Some CPU", "threads": 1, "onnxruntime": "1.32.0", "noise": "quiet", "affinity": [0, 1]}
    runs = [run(name, batch, batch * (0.8 + 0.1 * k)) for batch in (1, 8) for k, name in enumerate(names)]
    return as_json(BenchReport(environment, tuple(runs), tuple(ratios)))  # type: ignore[no-any-return]


def open_loop_facts() -> dict[str, Any]:
    """The JSON of `bnfold bench --mode open-loop --profile`: two files, one whose rate is not confirmed."""
    facts = bench_facts()
    rates: dict[str, Any] = {"mode": "open-loop", "concurrency": 2, "slo_p95_ms": 10.0, "cuda_graph": False}
    runs = [
        {**run, **rates, "rate_per_s": 412.5, "rates_per_s": [400.0, 425.0], "rate_confirmed": run["name"] == "folded"}
        for run in facts["runs"][:2]
    ]
    entries = [{"name": f"{SCRIPT}.{index}", "ms": 0.5 / index, "share": 0.25, "n_nodes": 3} for index in (1, 2)]
    profile = {
        "name": "folded", "provider": "CPUExecutionProvider", "batch": 1, "threads": 1, "opt_level": "all",
        "optimize": "online", "n": 200, "run_ms": 1.25, "operators": entries, "layers": entries,
    }  # fmt: skip
    placement = {"name": "folded", "provider": "CPUExecutionProvider", "nodes": {"CPUExecutionProvider": 49}}
    return {**facts, "runs": runs, "ratios": [], "profiles": [profile], "placements": [placement]}


def run(name: str, batch: int, scale: float) -> BenchRun:
    times = scale * (1 + 0.05 * np.random.default_rng(batch).gamma(2, 1, 2000))
    median, p95, p99 = (float(np.quantile(times, p)) for p in (0.5, 0.95, 0.99))
    return BenchRun(
        name=name, path=f"files/{name}.onnx", provider="CPUExecutionProvider", batch=batch, n=2000, load_ms=12.345,
        first_ms=3.0, median_ms=median, p95_ms=p95, p99_ms=p99, images_per_s=batch / median * 1e3, peak_mb=61.25,
        threads=1, input_shapes={"x": (batch, 3, 8)}, intervals={"median_ms": (median * 0.99, median * 1.01)},
        n_starts=3,
    )  # fmt: skip
