"""Noisy means: times that scatter, or threads without a CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from bnfold.benchmarking import noise
from bnfold.benchmarking.noise import CpuMeter, Noise, displaced_share, merged_noise

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("others", "threads", "n_cpus", "share"), [(0.0, 2, 2, 0.0), (1.0, 1, 2, 0.0), (1.0, 2, 2, 0.5), (1.5, 1, 2, 0.5)]
)
def test_threads_without_a_cpu(others: float, threads: int, n_cpus: int, share: float) -> None:
    assert displaced_share(others, threads, n_cpus) == share


@pytest.mark.parametrize(
    ("noise", "says"),
    [
        (Noise(dispersion=0.02, others=1.0), None),
        (Noise(dispersion=0.10), "noisy machine: rounds scatter by 10%"),
        (Noise(others=1.5, displaced=0.5), "noisy machine: others kept 1.5 CPUs busy"),
        (Noise(steal=0.3, stolen=0.3), "noisy machine: the hypervisor took 30% of our time"),
        (Noise(throttled=0.2), "noisy machine: the control group held us back for 20% of the time"),
        (Noise(n_hot=2), "noisy machine: CPUs were hot and slowed down (counted: 2)"),
    ],
)
def test_reason(noise: Noise, says: str | None) -> None:
    assert noise.reason() == says
    assert noise.noisy == (says is not None)


def test_the_worst_cell_speaks_for_the_report() -> None:
    facts = merged_noise([Noise(dispersion=0.01, others=2.0), Noise(dispersion=0.3, steal=0.25, n_hot=1)])
    assert facts == {
        "noise": "noisy", "noise_causes": "rounds scatter by 30%, CPUs were hot and slowed down (counted: 1)",
        "round_dispersion": 0.3, "cpus_taken_by_others": 2.0, "cpus_stolen": 0.25,
        "throttled_share": 0.0, "n_thermal_throttles": 1,
    }  # fmt: skip
    assert (merged_noise([])["noise"], merged_noise([])["noise_causes"]) == ("quiet", None)


def test_the_meter_reads_what_happened_since(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpus = [SimpleNamespace(user=10.0, system=2.0, steal=1.0, irq=0.0) for _ in range(3)]
    own = SimpleNamespace(user=5.0, system=1.0)
    stat, hot = tmp_path / "cpu.stat", tmp_path / "cpu0" / "thermal_throttle" / "core_throttle_count"
    hot.parent.mkdir(parents=True)
    stat.write_text("usage_usec 7\nthrottled_usec 1000000\n")
    hot.write_text("5\n")
    monkeypatch.setattr(noise, "group_folders", lambda _root: {"": [tmp_path / "none", tmp_path]})
    monkeypatch.setattr(noise, "CPUS", tmp_path)
    monkeypatch.setattr(noise, "usable_cpus", lambda: (0, 2))
    monkeypatch.setattr(psutil, "cpu_times", lambda **_options: cpus)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=lambda: own))
    monkeypatch.setattr(noise.time, "monotonic", lambda: 100.0)
    before = CpuMeter.now()
    cpus[0].user += 3.0
    cpus[1].user += 50.0  # a CPU we may not use
    cpus[2].steal += 2.0
    own.user += 3.0
    stat.write_text("usage_usec 7\nthrottled_usec 3000000\n")
    hot.write_text("8\n")
    monkeypatch.setattr(noise.time, "monotonic", lambda: 104.0)
    found = before.noise_since([0.01, 0.03], threads=2)
    assert found == Noise(dispersion=0.03, others=0.5, steal=0.5, displaced=0.25, stolen=0.25, throttled=0.25, n_hot=3)


def test_what_version_1_counts_is_read_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for folder, nanoseconds in ((inner, 250_000_000), (outer, 1_500_000_000)):
        folder.mkdir()
        (folder / "cpu.stat").write_text(f"nr_periods 9\nnr_throttled 4\nthrottled_time {nanoseconds}\n")
    monkeypatch.setattr(noise, "group_folders", lambda _root: {"cpu": [inner, outer], "memory": [tmp_path]})
    assert noise.throttled_seconds() == 1.5
    monkeypatch.setattr(noise, "group_folders", lambda _root: {"memory": [tmp_path]})
    assert noise.throttled_seconds() == 0.0
