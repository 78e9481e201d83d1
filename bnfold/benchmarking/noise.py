"""Was the machine quiet? What others took of the CPUs while we measured, and how much the times scatter."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from bnfold.benchmarking.crowding import CROWDED_SHARE
from bnfold.runtime import usable_cpus
from bnfold.runtime.cpus import group_folders

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NOISY_SHARE", "CpuMeter", "Noise", "merged_noise"]

NOISY_SHARE = 0.10
"""The share from which a measurement counts as noisy: pyperf calls a benchmark unstable where the standard deviation
reaches 10 % of the mean (pyperf.readthedocs.io, "pyperf check")."""

ROOT = Path("/")
CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Noise:
    """What disturbed a measurement.

    `dispersion` is the largest robust coefficient of variation of a file's rounds; `others`, the CPUs that other
    processes and the hypervisor kept busy, `steal` of them the hypervisor; `displaced`, the share of our threads' time
    without a CPU; `stolen`, the share of it that the hypervisor took at most; `throttled`, the share of time in which
    the control group held us back; `n_hot`, how often a CPU slowed down because it was hot.
    """

    dispersion: float = 0.0
    others: float = 0.0
    steal: float = 0.0
    displaced: float = 0.0
    stolen: float = 0.0
    throttled: float = 0.0
    crowded: float = 0.0
    n_hot: int = 0

    @property
    def noisy(self) -> bool:
        """Whether no winner may be named."""
        shares = (self.dispersion, self.displaced, self.stolen, self.throttled)
        return max(shares) >= NOISY_SHARE or self.crowded >= CROWDED_SHARE or self.n_hot > 0

    def causes(self) -> str:
        """What made it noisy, in words; empty where it was quiet."""
        found = [
            (self.dispersion >= NOISY_SHARE, f"rounds scatter by {self.dispersion:.0%}"),
            (self.displaced >= NOISY_SHARE, f"others kept {self.others:.1f} CPUs busy"),
            (self.stolen >= NOISY_SHARE, f"the hypervisor took {self.stolen:.0%} of our time"),
            (self.throttled >= NOISY_SHARE, f"the control group held us back for {self.throttled:.0%} of the time"),
            (self.crowded >= CROWDED_SHARE, f"CPUs lost {self.crowded:.0%} of their speed beside each other"),
            (self.n_hot > 0, f"CPUs were hot and slowed down (counted: {self.n_hot})"),
        ]
        return ", ".join(text for holds, text in found if holds)

    def reason(self) -> str | None:
        """Why no winner may be named; None where it was quiet."""
        return f"noisy machine: {self.causes()}" if self.noisy else None


def merged_noise(cells: Sequence[Noise]) -> dict[str, Any]:
    """Facts for the environment of a report, of the worst cells: `noise`, its causes, and the numbers behind them."""
    names = [own.name for own in fields(Noise) if own.name != "n_hot"]
    worst = Noise(
        **{name: max((getattr(cell, name) for cell in cells), default=0.0) for name in names},
        n_hot=sum(cell.n_hot for cell in cells),
    )
    return {
        "noise": "noisy" if worst.noisy else "quiet",
        "noise_causes": worst.causes() or None,
        "round_dispersion": round(worst.dispersion, 4),
        "cpus_taken_by_others": round(worst.others, 3),
        "cpus_stolen": round(worst.steal, 3),
        "throttled_share": round(worst.throttled, 4),
        "n_thermal_throttles": worst.n_hot,
    }


@dataclass(frozen=True)
class CpuMeter:
    """Counters at one moment: CPU seconds of this process, and of everybody on the CPUs this process may use."""

    clock: float
    own: float
    busy: float
    steal: float = 0.0
    throttled_s: float = 0.0
    n_hot: int = 0
    cpus: tuple[int, ...] = field(default_factory=usable_cpus)

    @classmethod
    def now(cls) -> CpuMeter:
        """Read the counters. `busy` holds the time a hypervisor stole, where the system counts it."""
        process = psutil.Process().cpu_times()
        every = psutil.cpu_times(percpu=True)
        cpus = tuple(cpu for cpu in usable_cpus() if cpu < len(every))
        return cls(
            clock=time.monotonic(),
            own=process.user + process.system,
            busy=sum(_busy_seconds(every[cpu]) for cpu in cpus),
            steal=sum(float(getattr(every[cpu], "steal", 0.0)) for cpu in cpus),
            throttled_s=throttled_seconds(),
            n_hot=sum(hot_count(cpu) for cpu in cpus),
            cpus=cpus,
        )

    def noise_since(self, dispersions: Sequence[float], threads: int) -> Noise:
        """What disturbed us since this reading.

        Args:
            dispersions: robust coefficient of variation of each file's rounds.
            threads: threads of one operator.
        """
        now = CpuMeter.now()
        seconds = max(now.clock - self.clock, 1e-9)
        others = max(0.0, (now.busy - self.busy) - (now.own - self.own)) / seconds
        steal = max(0.0, now.steal - self.steal) / seconds
        return Noise(
            dispersion=max(dispersions, default=0.0),
            others=others,
            steal=steal,
            stolen=min(1.0, steal / max(1, threads)),
            displaced=displaced_share(others, threads, len(usable_cpus())),
            throttled=max(0.0, now.throttled_s - self.throttled_s) / seconds / max(1, threads),
            n_hot=max(0, now.n_hot - self.n_hot),
        )


def _busy_seconds(times: Any) -> float:
    return float(times.user + times.system + getattr(times, "steal", 0.0) + getattr(times, "irq", 0.0))


def throttled_seconds() -> float:
    """Seconds for which a control group's quota stopped our threads (cpu.stat); 0 where none has.

    Of the groups that lie in each other the one that was stopped longest: it stops those inside with it. Version 1
    counts nanoseconds as `throttled_time`, version 2 microseconds as `throttled_usec`.
    """
    groups = group_folders(ROOT)
    return max(
        (_throttled(folder / "cpu.stat") for name in ("", "cpu") for folder in groups.get(name, ())), default=0.0
    )


def _throttled(stat: Path) -> float:
    if not stat.is_file():
        return 0.0
    fields = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
    return int(fields.get("throttled_usec", 0)) / 1e6 + int(fields.get("throttled_time", 0)) / 1e9


def hot_count(cpu: int) -> int:
    """How often a core slowed down because it was hot (Linux, x86: thermal_throttle); 0 where it is not counted."""
    path = CPUS / f"cpu{cpu}" / "thermal_throttle" / "core_throttle_count"
    return int(path.read_text(encoding="ascii")) if path.is_file() else 0


def displaced_share(others: float, threads: int, n_cpus: int) -> float:
    """The share of our threads' time for which there was no CPU left: (others + threads - CPUs) / threads, from 0."""
    return max(0.0, others + threads - n_cpus) / threads
