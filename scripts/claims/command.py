"""What is said about BatchNorm, measured on small networks: docs/claims.md and docs/claims.svg.

    python scripts/claims.py [--output docs] [--processes 2]

Three seeds each, on the 8x8 digits of scikit-learn; deterministic, but for the time it takes. A claim counts as
reproduced if it holds for every seed; the criterion stands beside it.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common.tables import markdown_table

from claims import measures, statistics
from claims.picture import draw
from claims.verdicts import CLAIMS, Claim

SEEDS = (0, 1, 2)
SLOWEST_FIRST: tuple[Callable[[int], Any], ...] = (
    measures.batch_sizes,
    measures.learning_rates,
    measures.initialisations,
    measures.regularising,
    measures.steps_to_90,
    measures.along_the_gradient,
    statistics.shifted,
    statistics.few_steps,
    statistics.foldable,
)
PAGE = """\
# What is said about BatchNorm, measured

Small networks on the 8x8 digits of scikit-learn (1,259 images to train, 359 to test), three seeds, the median and in
brackets the range. The papers' figures are from other networks and data: what can be compared is the direction, not the
size. A claim counts as reproduced if its criterion holds for every seed. Made by

    python scripts/claims.py

in {seconds:.0f} s on {processes} cores, PyTorch {torch}.

{rows}

![Learning curves, batch sizes, few-step statistics, shifted data](claims.svg)

## Test accuracy over batch size, percent

{norms}

LayerNorm, InstanceNorm and GroupNorm normalize by statistics of the sample itself: no constant factor can stand for
them, so their nodes stay, and only what precedes and follows them can be folded.

## Shifted test data, accuracy in percent

Statistics are measured on the shifted test images, without labels. "Half" counts the old ones as much as the new.

{shifts}
"""


def run(job: tuple[int, int]) -> tuple[str, int, Any]:
    """One measurement with one seed."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    measure, seed = SLOWEST_FIRST[job[0]], job[1]
    return measure.__name__, seed, measure(seed)


def measured(processes: int) -> dict[str, list[Any]]:
    """The results by measurement, in the order of the seeds."""
    jobs = [(index, seed) for index in range(len(SLOWEST_FIRST)) for seed in SEEDS]
    results = []
    with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for name, seed, result in pool.map(run, jobs):
            print(f"{name}, seed {seed}", file=sys.stderr)
            results.append((name, seed, result))
    found: dict[str, list[Any]] = {}
    for name, _, result in results:
        found.setdefault(name, []).append(result)
    return found


def spread(values: list[float], digits: int = 1) -> str:
    """The median, and the range in brackets."""
    low, middle, high = sorted(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def claim_row(claim: Claim, results: dict[str, list[Any]]) -> tuple[str, ...]:
    """A line of the table."""
    here, holds = claim.judge(results)
    answer = "yes" if all(holds) else f"**no** ({sum(holds)} of {len(holds)} seeds)"
    return (claim.text, claim.paper, here, claim.criterion, answer)


def page(results: dict[str, list[Any]], *, seconds: float, processes: int) -> str:
    """docs/claims.md."""
    batch = results["batch_sizes"]
    left = results["foldable"][0]
    norms = [
        (
            norm,
            *(spread([one[norm][i] for one in batch]) for i in range(len(measures.BATCHES))),
            f"{left[norm][1]} of {left[norm][0]}" if norm in left else "-",
        )
        for norm in batch[0]
    ]
    shifts = [
        (name, *(spread([one[name][i] for one in results["shifted"]]) for i in range(3)))
        for name in results["shifted"][0]
    ]
    return PAGE.format(
        seconds=seconds,
        processes=processes,
        torch=torch.__version__.partition("+")[0],
        rows=markdown_table(
            ("claim", "the paper", "here", "criterion", "reproduced"), [claim_row(claim, results) for claim in CLAIMS]
        ),
        norms=markdown_table(
            ("normalization", *(f"batch {n}" for n in measures.BATCHES), "nodes left by folding"), norms
        ),
        shifts=markdown_table(("shift", "not adapted", "half", "new statistics alone"), shifts),
    )


def main() -> None:
    """Measure, and write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).resolve().parents[2] / "docs", metavar="FOLDER")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    arguments = parser.parse_args()
    start = time.perf_counter()
    results = measured(arguments.processes)
    draw(results, arguments.output / "claims.svg")
    seconds = time.perf_counter() - start
    text = page(results, seconds=seconds, processes=arguments.processes)
    (arguments.output / "claims.md").write_text(text, encoding="utf-8")
    print(f"{arguments.output / 'claims.md'} and claims.svg in {seconds:.0f} s")
