"""The claims that scripts/claims.py judges: what a paper says, what was found, whether it holds for each seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from claims.measures import BATCHES
from claims.statistics import SHIFTS, STEPS

__all__ = ["CLAIMS", "Claim"]

Results = dict[str, list[Any]]


@dataclass(frozen=True)
class Claim:
    """`judge` gives what was found, as text, and for each seed whether `criterion` is met."""

    text: str
    paper: str
    criterion: str
    judge: Callable[[Results], tuple[str, list[bool]]]


def _median(values: list[float], digits: int = 0) -> str:
    low, middle, high = sorted(values)
    if high == low:
        return f"{middle:.{digits}f}"
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _faster(results: Results) -> tuple[str, list[bool]]:
    pairs = [(one["without"]["steps"] or math.inf, one["with"]["steps"] or math.inf) for one in results["steps_to_90"]]
    without, with_norm = (_median([pair[k] for pair in pairs]) for k in (0, 1))
    return f"{without} steps without, {with_norm} with", [with_norm < without for without, with_norm in pairs]


def _rates(results: Results) -> tuple[str, list[bool]]:
    pairs = [(max(one["without"], default=0), max(one["with"], default=0)) for one in results["learning_rates"]]
    without, with_norm = (_median([pair[k] for pair in pairs], 3) for k in (0, 1))
    return f"{without} without, {with_norm} with", [with_norm >= 10 * without for without, with_norm in pairs]


def _decades(stds: list[float]) -> float:
    return math.log10(max(stds) / min(stds)) if stds else 0.0


def _inits(results: Results) -> tuple[str, list[bool]]:
    pairs = [(_decades(one["without"]), _decades(one["with"])) for one in results["initialisations"]]
    without, with_norm = (_median([pair[k] for pair in pairs], 2) for k in (0, 1))
    return (
        f"over {without} decades without, {with_norm} with",
        [with_norm > without for without, with_norm in pairs],
    )


def _smooth(results: Results) -> tuple[str, list[bool]]:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else math.inf

    pairs = [(mean(one["without"]), mean(one["with"])) for one in results["along_the_gradient"]]
    without, with_norm = (_median([pair[k] for pair in pairs], 3) for k in (0, 1))
    return f"{without} nats without, {with_norm} with", [with_norm < without for without, with_norm in pairs]


def _regularises(results: Results) -> tuple[str, list[bool]]:
    key = "{}, batch 8"
    tests = [[one[key.format(name)][1] for name in ("without", "with")] for one in results["regularising"]]
    fits = [one[key.format("with")][0] for one in results["regularising"]]
    text = (
        f"test {_median([pair[0] for pair in tests], 1)} % without, {_median([pair[1] for pair in tests], 1)} % with, "
        f"batch 8 (training {_median(fits, 1)} %)"
    )
    return text, [with_norm > without for without, with_norm in tests]


def _noise(results: Results) -> tuple[str, list[bool]]:
    tests = [[one[f"with, batch {batch}"][1] for batch in (64, 8)] for one in results["regularising"]]
    text = f"test {_median([p[0] for p in tests], 1)} % at batch 64, {_median([p[1] for p in tests], 1)} % at batch 8"
    return text, [small > large for large, small in tests]


def _small_batches(results: Results) -> tuple[str, list[bool]]:
    at, large = BATCHES.index(2), BATCHES.index(32)
    norm = [(one["BatchNorm"][at], one["BatchNorm"][large]) for one in results["batch_sizes"]]
    group = [(one["GroupNorm"][at], one["GroupNorm"][large]) for one in results["batch_sizes"]]
    text = (
        f"batch 32 to 2: BatchNorm {_median([b for _, b in norm], 1)} to {_median([a for a, _ in norm], 1)} %, "
        f"GroupNorm {_median([b for _, b in group], 1)} to {_median([a for a, _ in group], 1)} %"
    )
    return text, [g[0] > n[0] for n, g in zip(norm, group, strict=True)]


def _few(results: Results) -> tuple[str, list[bool]]:
    at = STEPS.index(20)
    pairs = [(one["moving average"][at], one["pooled"][at]) for one in results["few_steps"]]
    moving, pooled = (_median([pair[k] for pair in pairs], 1) for k in (0, 1))
    return f"after 20 steps {moving} % with moving averages, {pooled} % pooled", [b > a for a, b in pairs]


def _late(results: Results) -> tuple[str, list[bool]]:
    at = STEPS.index(160)
    pairs = [(one["moving average"][at], one["pooled"][at]) for one in results["few_steps"]]
    moving, pooled = (_median([pair[k] for pair in pairs], 1) for k in (0, 1))
    return f"after 160 steps {moving} % with moving averages, {pooled} % pooled", [abs(b - a) < 2 for a, b in pairs]


def _shifted(results: Results) -> tuple[str, list[bool]]:
    before, after = ([sum(one[name][k] for name in SHIFTS) / len(SHIFTS) for one in results["shifted"]] for k in (0, 2))
    text = f"mean of {len(SHIFTS)} shifts: {_median(before, 1)} % before, {_median(after, 1)} % after"
    return text, [b > a for a, b in zip(before, after, strict=True)]


CLAIMS = (
    Claim(
        "BN trains in fewer steps (Ioffe and Szegedy 2015, figure 1; sigmoid 3x100 network, steps to 90 %)",
        "figure 1a: higher accuracy at every step of 50,000; on ImageNet 14 times fewer steps",
        "fewer steps with BN",
        _faster,
    ),
    Claim(
        "BN allows larger learning rates (Bjorck et al. 2018; 8 hidden layers)",
        "ResNet-110: trained at 0.0001 without, at 0.1 with",
        "10 times larger with BN",
        _rates,
    ),
    Claim(
        "BN trains from more initialisations (Ioffe and Szegedy 2015, section 3.3: the scale of weights cancels)",
        "no figure",
        "over more decades of the weights' deviation with BN",
        _inits,
    ),
    Claim(
        "BN smooths the loss along the gradient (Santurkar et al. 2018, figure 4a; largest minus smallest loss)",
        "VGG: a visibly narrower band, no figure",
        "a narrower range with BN",
        _smooth,
    ),
    Claim(
        "BN regularises (Ioffe and Szegedy 2015, section 3.4; 300 images to train)",
        "dropout can be left out or reduced",
        "more accurate on test images with BN, both fitting the training images",
        _regularises,
    ),
    Claim(
        "the noise of small batches is what regularises (Luo et al. 2019)",
        "a smaller batch is a stronger regulariser",
        "more accurate at batch 8 than at 64 with BN",
        _noise,
    ),
    Claim(
        "BN suffers from small batches, GroupNorm does not (Wu and He 2018)",
        "ResNet-50, batch 32 to 2: BN 23.6 to 34.7 % error, GroupNorm 24.1 to 24.1 %",
        "GroupNorm more accurate than BN at batch 2",
        _small_batches,
    ),
    Claim(
        "moving averages lag behind in the first steps (Wu and Johnson 2021, section 3)",
        "a higher validation error with them early in training",
        "pooled statistics more accurate after 20 steps",
        _few,
    ),
    Claim(
        "later they agree (Wu and Johnson 2021, section 3)",
        "the curves meet as the learning rate falls",
        "less than 2 points apart after 160 steps",
        _late,
    ),
    Claim(
        "statistics of shifted data restore accuracy (Schneider et al. 2020)",
        "ResNet-50 on ImageNet-C: 76.7 to 62.2 % mean corruption error",
        "a higher mean accuracy with adaptation",
        _shifted,
    ),
)
