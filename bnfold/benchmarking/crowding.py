"""Are the CPUs of this process really its own? What each computes alone, beside what all of them compute at once.

A virtual machine's CPUs may be threads of one core, or shared with other machines, without a sign of it: no stolen time
is counted, and one thread alone is as fast as ever. Two threads that wait for each other are then as slow as one, and
a session of one thread looks better than it is in the next minute. So the same work is timed alone and on all CPUs.

Work of the CPU alone is compared, which neither memory nor Python's lock holds back: SHA-256 of a few megabytes.
"""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from bnfold.runtime import usable_cpus

__all__ = ["CROWDED_SHARE", "Crowding", "have_own_cores"]

CROWDED_SHARE = 0.25
"""The share of its speed that a CPU loses beside the others, from which it counts as shared: the clock of a core falls
by up to a fifth where all of them are busy, two threads of one core lose 40 to 50 % (measured: SHA-256, AMD EPYC)."""

N_BYTES = 4 << 20  # 2 to 10 ms
CPUS = Path("/sys/devices/system/cpu")


@dataclass
class Crowding:
    """Collects what CPUs lose beside each other; nothing where one thread is used, or they share cores by themselves.

    Attributes:
        threads: how many run at once.
        losses: the share of its speed that the slowest of them lost, of each time it was asked.
    """

    threads: int
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._is_asked = self.threads > 1 and have_own_cores(usable_cpus(), CPUS)

    def take(self) -> None:
        """Time the work alone and at once."""
        if self._is_asked:
            alone, together = min(_work_s(1) + _work_s(1)), max(_work_s(self.threads))
            self.losses.append(max(0.0, 1 - alone / together))

    @property
    def lost(self) -> float:
        """The median share; 0 where it was not asked."""
        return statistics.median(self.losses) if self.losses else 0.0


def have_own_cores(cpus: tuple[int, ...], folder: Path) -> bool:
    """Whether the system says that no two of these CPUs are threads of one core; false where it says nothing.

    Args:
        cpus: by number.
        folder: of the system's CPUs (Linux: admin-guide/cputopology).
    """
    cores: list[str] = []
    for cpu in cpus:
        siblings = folder / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        if not siblings.is_file():
            return False
        cores.append(siblings.read_text(encoding="ascii").strip())
    return len(set(cores)) == len(cores)


def _work_s(threads: int) -> list[float]:
    """The seconds that each thread takes for the work, all at once."""
    data, gate, seconds = bytes(N_BYTES), threading.Barrier(threads), [0.0] * threads

    def work(index: int) -> None:
        gate.wait()
        start = time.perf_counter()
        hashlib.sha256(data).digest()  # leaves Python's lock to the others
        seconds[index] = time.perf_counter() - start

    workers = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return seconds
