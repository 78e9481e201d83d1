"""Time folded modules against the modules that they were made of, in PyTorch: eager, and with torch.compile.

    python scripts/module_speed.py [--json FILE [--missing]] [--markdown FILE] [NETWORK@KIND ...]

KIND is `eager` or `compile`; without names, both, of the twelve networks below. Batch 1, one thread. The two modules
take turns, and are opened again and again (a copy with buffers of its own; with `compile` the default backend compiles
it again, from its cache on disk): the ratio is time(folded) / time(module) with a 99 % interval, as `bnfold bench` has
it (`bnfold.benchmarking.statistics`). The first run fills the cache. Half a minute for a row of
`eager`, three minutes for one of `compile`.
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from common.rows import measured_rows, parse
from modules.networks import build, randomise

import bnfold
from bnfold.benchmarking.noise import CpuMeter
from bnfold.benchmarking.schedule import time_files
from bnfold.benchmarking.statistics import dispersion, ratio_interval
from bnfold.benchmarking.timing import Runner
from bnfold.records.verdicts import decided, verdict_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

NETWORKS = (
    "timm:resnet18", "timm:resnetv2_50", "timm:levit_128s", "timm:repvgg_a0", "timm:mobileone_s0", "timm:fastvit_t8",
    "timm:swiftformer_xs", "timm:visformer_tiny", "timm:convmixer_768_32", "timm:densenet121",
    "torchvision:mobilenet_v3_small", "torchvision:shufflenet_v2_x0_5",
)  # fmt: skip
KINDS = ("eager", "compile")
BUDGET_S = 12.0
HEAD = """# Time of folded modules

Written by `python scripts/module_speed.py --json ROWS --missing --markdown docs/module_speed.md`: modules of timm and
torchvision beside what `bnfold.fold` makes of them, in PyTorch {torch}, eager and with `torch.compile` (its default
backend), batch 1, one thread. Gammas are drawn from 0.5 to 1.5, statistics are measured. Both take turns, on copies
that are made, and compiled, again and again; an interval that holds 1 is a tie.

An eager BatchNorm is a pass over its tensor, so small networks gain most; a compiler fuses it with what stands behind,
which leaves less to gain. A convolution without a bias gets one. PyTorch computes 1x1 depthwise convolutions of few
samples on one thread channel by channel, where a bias is one more slice and copy for each: FastViT, with 2,234 such
channels, becomes slower by it; with two threads, or 16 samples, PyTorch takes another kernel.

| network | kind | BatchNorms | kept | module | folded | ratio | 99 % interval | |
| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |"""


def opener(module: nn.Module, inputs: tuple[Any, ...], *, compiled: bool) -> Callable[[], Runner]:
    """Opens a copy of the module, with buffers of its own, compiled where that is asked for."""

    def opened() -> Runner:
        own: Any = copy.deepcopy(module)
        if compiled:
            torch.compiler.reset()  # else every copy would count as a recompilation of one module
            own = torch.compile(own)
        values = tuple(x.clone() for x in inputs)

        def call() -> None:
            with torch.inference_mode():
                own(*values)

        call()
        return Runner(call)

    return opened


def measure(key: str) -> dict[str, Any]:
    """The row of one network, eager or compiled."""
    name, _, kind = key.partition("@")
    module, inputs = build(name)
    randomise(module, inputs, "positive")
    inputs = tuple(x[:1] for x in inputs)
    folded, ledger = bnfold.fold(module, inputs)
    torch.set_num_threads(1)
    openers = [opener(each, inputs, compiled=kind == "compile") for each in (folded, module)]
    start = time.perf_counter()
    for each in openers:
        each()
    first_s = time.perf_counter() - start
    meter = CpuMeter.now()
    ours, theirs = time_files(openers, BUDGET_S, lambda _: None)
    noise = meter.noise_since([dispersion(times.rounds) for times in (ours, theirs)], threads=1)
    ratio, low, high = ratio_interval(ours.rounds / theirs.rounds, seed=0)
    verdict, leaning = decided(low, high, may_name=not noise.noisy)
    return {
        "network": key, "failure": None, "found": ledger.found, "kept": ledger.kept, "first_s": first_s,
        "folded_ms": float(np.median(ours.runs)), "module_ms": float(np.median(theirs.runs)), "ratio": ratio,
        "low": low, "high": high, "verdict": verdict, "leaning": leaning, "noise": noise.causes(),
        "torch": torch.__version__,
    }  # fmt: skip


def show(row: dict[str, Any]) -> str:
    """A row as a line."""
    ends = f"{row['low']:.3f} to {row['high']:.3f}"
    times = f"{row['module_ms']:9.2f} ms {row['folded_ms']:9.2f} ms"
    return f"{row['network']:42} {times} {row['ratio']:.3f} ({ends}) {verdict_in_words(row)} {row['noise']}"


def write_page(rows: Sequence[dict[str, Any]], target: Path) -> None:
    """The rows as a page."""
    lines = [
        f"| {' | '.join(row['network'].split('@'))} | {row['found']} | {row['kept']}"
        f" | {row['module_ms']:.2f} ms | {row['folded_ms']:.2f} ms"
        f" | {row['ratio']:.3f} | {row['low']:.3f} to {row['high']:.3f} | {verdict_in_words(row)} |"
        for row in rows
    ]
    (version,) = {row["torch"] for row in rows}
    target.write_text("\n".join([HEAD.format(torch=version.partition("+")[0]), *lines]) + "\n")


def main() -> None:
    """Print the table."""
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    arguments = parse(__doc__, [f"{name}@{kind}" for name in NETWORKS for kind in KINDS])
    rows = measured_rows(arguments, measure, show)
    if arguments.markdown:
        write_page(rows, arguments.markdown)


if __name__ == "__main__":
    main()
