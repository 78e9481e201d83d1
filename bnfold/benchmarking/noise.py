"""Was the machine quiet? What others took of the CPUs while we measured, and how much the times scatter."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psutil

from bnfold.runtime import usable_cpus

__all__ = ["NOISY_SHARE", "CpuMeter", "noise_verdict"]

NOISY_SHARE = 0.10
"""The share from which a measurement counts as noisy: pyperf calls a benchmark unstable where the standard deviation
reaches 10 % of the mean (pyperf.readthedocs.io, "pyperf check")."""


@dataclass(frozen=True)
class CpuMeter:
    """CPU seconds at one moment: of this process, and of everybody on the CPUs this process may use."""

    clock: float
    own: float
    busy: float

    @classmethod
    def now(cls) -> CpuMeter:
        """Read the counters. `busy` holds the time a hypervisor stole, where the system counts it."""
        process = psutil.Process().cpu_times()
        every = psutil.cpu_times(percpu=True)
        busy = sum(_busy_seconds(every[cpu]) for cpu in usable_cpus() if cpu < len(every))
        return cls(clock=time.monotonic(), own=process.user + process.system, busy=busy)

    def others_since(self) -> float:
        """How many CPUs others kept busy, on average, since this reading."""
        now = CpuMeter.now()
        seconds = max(now.clock - self.clock, 1e-9)
        return max(0.0, (now.busy - self.busy) - (now.own - self.own)) / seconds


def _busy_seconds(times: Any) -> float:
    return float(times.user + times.system + getattr(times, "steal", 0.0) + getattr(times, "irq", 0.0))


def displaced_share(others: float, threads: int, n_cpus: int) -> float:
    """The share of our threads' time for which there was no CPU left: (others + threads - CPUs) / threads, from 0."""
    return max(0.0, others + threads - n_cpus) / threads


def noise_verdict(dispersions: list[float], others: float, threads: int) -> dict[str, Any]:
    """Facts for the environment of a report: `noise`, and the numbers it was decided on.

    Noisy when the times of a file scatter by 10 % (robust coefficient of variation of its rounds), or when others
    left our threads without a CPU for 10 % of the time.

    Args:
        dispersions: robust coefficient of variation of each file's rounds.
        others: CPUs that others kept busy, on average.
        threads: threads of one operator.
    """
    displaced = displaced_share(others, threads, len(usable_cpus()))
    noisy = max([displaced, *dispersions]) >= NOISY_SHARE
    return {
        "noise": "noisy" if noisy else "quiet",
        "round_dispersion": round(max(dispersions, default=0.0), 4),
        "cpus_taken_by_others": round(others, 3),
    }
