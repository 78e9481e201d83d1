"""How many CPUs this process may use: its affinity mask, its control groups' cpusets and quotas, versions 1 and 2.

`os.cpu_count` counts the machine's CPUs. A container that may use one of 64 would get 64 threads, which take turns on
that one, and are stopped for the rest of each period once its quota is spent.

A process's groups are in /proc/self/cgroup, where each hierarchy is mounted in /proc/self/mountinfo (proc(5),
cgroups(7); kernel.org/doc, admin-guide/cgroup-v2 and cgroup-v1/cpusets, scheduler/sched-bwc):

| | version 1 | version 2 |
|---|---|---|
| quota | cpu.cfs_quota_us (-1: none), cpu.cfs_period_us | cpu.max: "max 100000" or "150000 100000" |
| cpuset | cpuset.effective_cpus, cpuset.cpus | cpuset.cpus.effective |

Groups lie in each other, and each holds back what is inside: the smallest quota on the way up counts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CpuLimits", "cpu_limits", "group_folders", "usable_cpus"]

ROOT = Path("/")
CPUSETS = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")


@dataclass(frozen=True)
class CpuLimits:
    """What holds a process's threads back.

    `affinity`: the CPUs of its mask, in order. `cpuset`: those that its control groups leave it, None where they say
    nothing. `quota`: how many CPUs' time they leave it, None for no limit.
    """

    affinity: tuple[int, ...]
    cpuset: tuple[int, ...] | None = None
    quota: float | None = None

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that it may run on: those of both; the mask's where they have none in common."""
        both = self.affinity if self.cpuset is None else tuple(cpu for cpu in self.affinity if cpu in self.cpuset)
        return both or self.affinity

    @property
    def threads(self) -> int:
        """How many threads run at once: whole CPUs of the quota, since a thread more is stopped in every period."""
        n_cpus = len(self.cpus)
        return max(1, n_cpus if self.quota is None else min(n_cpus, int(self.quota)))


def usable_cpus() -> tuple[int, ...]:
    """The CPUs this process may run on, in order; every CPU where the system has no affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_limits(root: Path | None = None) -> CpuLimits:
    """What holds this process back.

    Args:
        root: the folder in which proc and sys lie, None for `ROOT`. Files that are missing or that hold something else
            are no limit: not every system has them.
    """
    quotas: list[float] = []
    cpuset = None
    for controller, folders in group_folders(ROOT if root is None else root).items():
        if controller in ("cpu", ""):
            quotas += [quota for folder in folders for quota in _quota(folder)]
        if controller in ("cpuset", "") and cpuset is None:
            found = (own for folder in folders for own in _cpuset(folder))
            cpuset = next(found, None)
    return CpuLimits(usable_cpus(), cpuset, min(quotas, default=None))


def group_folders(root: Path) -> dict[str, list[Path]]:
    """For each controller the folders of this process's group and of those that it lies in, the innermost first.

    The controller of version 2, which has all of them in one hierarchy, is "".
    """
    mounts = list(_mounts(root))
    found: dict[str, list[Path]] = {}
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        for name in controllers.split(","):
            for controller, inside, place in mounts:
                if controller == name and name not in found:
                    found[name] = _upwards(root / place.lstrip("/"), _below(group, inside))
    return found


def _mounts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Of each hierarchy that is mounted: a controller, the group that is seen there, and where."""
    for line in _lines(root / "proc" / "self" / "mountinfo"):
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        inside, place = map(_unescaped, fields[3:5])
        if kind[0] == "cgroup2":
            yield "", inside, place
        elif kind[0] == "cgroup":
            yield from ((option, inside, place) for option in kind[2].split(","))


def _below(group: str, inside: str) -> list[str]:
    """The names from the mounted group down to the process's.

    None where it lies elsewhere: a container sees its own group as the root of the mount, and in /proc the host's path.
    """
    names, top = _names(group), _names(inside)
    return names[len(top) :] if names[: len(top)] == top and ".." not in names else []


def _upwards(mount: Path, names: list[str]) -> list[Path]:
    return [mount.joinpath(*names[:length]) for length in range(len(names), -1, -1)]


def _quota(folder: Path) -> Iterator[float]:
    """CPUs that a group's quota is worth; nothing where it has none."""
    own = " ".join(_lines(folder / "cpu.max")).split()
    if not own:
        own = [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    if len(own) == 2 and all(map(str.isdigit, own)) and int(own[1]) > 0:
        yield int(own[0]) / int(own[1])


def _cpuset(folder: Path) -> Iterator[tuple[int, ...]]:
    """The CPUs of a group, "0-2,7" in a file; nothing where it has no list of its own."""
    for name in CPUSETS:
        text = ",".join(_lines(folder / name))
        if re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", text):
            ends = [part.partition("-") for part in text.split(",")]
            cpus = {cpu for low, _, high in ends for cpu in range(int(low), int(high or low) + 1)}
            yield tuple(sorted(cpus))


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name]


def _unescaped(text: str) -> str:
    r"""Blanks and the like are written as `\040` in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _lines(path: Path) -> list[str]:
    """The lines of a file that the kernel writes; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
