"""The CPUs of a process: from its affinity mask and its control groups, as systems of both versions write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnfold.runtime import CpuLimits, available_threads, cpu_limits, cpus, usable_cpus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOME = Path(cpus.__file__).parents[2]
# As recorded: Docker on a host of version 1 without a namespace of its own, and with one of version 2.
V1_GROUPS = """\
12:cpuset:/docker/3f1a
5:cpu,cpuacct:/docker/3f1a
1:name=systemd:/docker/3f1a
0::/system.slice/containerd.service
"""
V1_MOUNTS = """\
820 814 0:63 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,mode=755
821 820 0:30 /docker/3f1a /sys/fs/cgroup/systemd ro,nosuid master:11 - cgroup cgroup rw,xattr,name=systemd
823 820 0:33 /docker/3f1a /sys/fs/cgroup/cpu,cpuacct ro,nosuid,nodev master:15 - cgroup cgroup rw,cpu,cpuacct
824 820 0:38 /docker/3f1a /sys/fs/cgroup/cpuset ro,nosuid,nodev master:20 - cgroup cgroup rw,cpuset
"""
V2_MOUNTS = """\
29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate
30 23 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
"""


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {5, 1, 3, 0, 2, 4, 6, 7}, raising=False)


def write(root: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "cgroup").write_text(groups)
    (root / "proc" / "self" / "mountinfo").write_text(mounts)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpu_max", "quota", "threads"),
    [
        ("max 100000\n", None, 8),
        ("100000 100000\n", 1.0, 1),
        ("250000 100000\n", 2.5, 2),
        ("25000 50000\n", 0.5, 1),
        ("1600000 100000\n", 16.0, 8),
    ],
)
def test_version_2_in_a_container(tmp_path: Path, cpu_max: str, quota: float | None, threads: int) -> None:
    """A namespace shows the container its own group as the root, with its limits in it."""
    found = cpu_limits(write(tmp_path, "0::/\n", V2_MOUNTS, {"cpu.max": cpu_max}))
    assert (found.quota, found.threads) == (quota, threads)


def test_the_smallest_quota_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "kubepods.slice/cpu.max": "600000 100000\n",
        "kubepods.slice/pod7.slice/cpu.max": "300000 100000\n",
        "kubepods.slice/pod7.slice/cri-9.scope/cpu.max": "max 100000\n",
        "kubepods.slice/other.slice/cpu.max": "100000 100000\n",
    }
    groups = "0::/kubepods.slice/pod7.slice/cri-9.scope\n"
    found = cpu_limits(write(tmp_path, groups, V2_MOUNTS, files))
    assert (found.quota, found.threads) == (3.0, 3)


def test_cpusets_of_version_2(tmp_path: Path) -> None:
    """A group without the controller says nothing, and has what the one around it has."""
    files = {
        "a/cpuset.cpus.effective": "0-2,6,9-11\n",
        "a/b/cpu.max": "max 100000\n",
        "cpuset.cpus.effective": "0-63\n",
    }
    found = cpu_limits(write(tmp_path, "0::/a/b\n", V2_MOUNTS, files))
    assert found.cpuset == (0, 1, 2, 6, 9, 10, 11)
    assert found.cpus == (0, 1, 2, 6)
    assert found.threads == 4


@pytest.mark.parametrize(("quota_us", "quota", "threads"), [("-1", None, 2), ("150000", 1.5, 1), ("99000", 0.99, 1)])
def test_version_1_in_a_container(tmp_path: Path, quota_us: str, quota: float | None, threads: int) -> None:
    """The mount shows the container's group, and /proc the path that it has on the host."""
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": f"{quota_us}\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "cpuset/cpuset.cpus": "2-3\n",
        "cpuset/cpuset.effective_cpus": "2-3\n",
    }
    found = cpu_limits(write(tmp_path, V1_GROUPS, V1_MOUNTS, files))
    assert (found.cpuset, found.quota, found.threads) == ((2, 3), quota, threads)


def test_nested_groups_of_version_1(tmp_path: Path) -> None:
    mounts = V1_MOUNTS.replace("/docker/3f1a", "/")
    files = {
        "cpu,cpuacct/docker/cpu.cfs_quota_us": "400000\n",
        "cpu,cpuacct/docker/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/docker/3f1a/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/docker/3f1a/cpu.cfs_period_us": "100000\n",
        "cpuset/docker/3f1a/cpuset.cpus": "\n",
        "cpuset/docker/cpuset.cpus": "1,4-5\n",
    }
    found = cpu_limits(write(tmp_path, V1_GROUPS, mounts, files))
    assert (found.cpuset, found.quota, found.threads) == ((1, 4, 5), 4.0, 3)


def test_both_versions_at_once_and_a_folder_with_a_blank(tmp_path: Path) -> None:
    mounts = V1_MOUNTS.replace("/sys/fs/cgroup/cpu,", "/sys/fs/cgroup/the\\040cpu,")
    mounts += "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
    files = {
        "the cpu,cpuacct/cpu.cfs_quota_us": "200000\n",
        "the cpu,cpuacct/cpu.cfs_period_us": "50000\n",
        "unified/system.slice/containerd.service/cpu.max": "700000 100000\n",
    }
    assert cpu_limits(write(tmp_path, V1_GROUPS, mounts, files)).quota == 4.0


def test_a_process_moved_out_of_what_is_mounted_has_the_mounts_limits(tmp_path: Path) -> None:
    found = cpu_limits(write(tmp_path, "0::/../other\n", V2_MOUNTS, {"cpu.max": "200000 100000\n"}))
    assert found.quota == 2.0


@pytest.mark.parametrize("text", ["", "max\n", "nonsense 100000\n", "100000 0\n"])
def test_what_is_no_limit_is_none(tmp_path: Path, text: str) -> None:
    assert cpu_limits(write(tmp_path, "0::/\n", V2_MOUNTS, {"cpu.max": text})).quota is None


def test_a_system_without_control_groups_has_its_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_limits(tmp_path) == CpuLimits(tuple(range(8)))
    monkeypatch.setattr(cpus, "ROOT", tmp_path)
    assert available_threads() == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3}, raising=False)
    assert usable_cpus() == (3,)
    assert available_threads() == 1


def test_the_threads_of_every_session_come_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "ROOT", write(tmp_path, "0::/\n", V2_MOUNTS, {"cpu.max": "100000 100000\n"}))
    assert available_threads() == 1


@pytest.fixture
def real_group() -> Iterator[Path]:
    """A control group of this machine with the time of one CPU; skipped where none can be made."""
    folder = next(iter(cpus.group_folders(Path("/")).get("cpu", [])), None)
    if folder is None:
        pytest.skip("no control group of version 1 with the cpu controller")
    group = folder / f"bnfold-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        (group / "cpu.cfs_quota_us").write_text("100000")
        (group / "cpu.cfs_period_us").write_text("100000")
        yield group
    finally:
        group.rmdir()


def test_one_cpu_of_a_real_group_is_one_thread(real_group: Path) -> None:
    code = "from bnfold.runtime import cpu_limits; own = cpu_limits(); print(own.quota, own.threads)"
    line = f'echo $$ > {real_group}/cgroup.procs && exec "{sys.executable}" -c "{code}"'
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(HOME)}
    )
    assert done.stdout.split() == ["1.0", "1"]
