"""Noisy means: times that scatter, or threads without a CPU."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from bnfold.benchmarking import noise
from bnfold.benchmarking.noise import CpuMeter, displaced_share, noise_verdict


@pytest.mark.parametrize(
    ("others", "threads", "n_cpus", "share"), [(0.0, 2, 2, 0.0), (1.0, 1, 2, 0.0), (1.0, 2, 2, 0.5), (1.5, 1, 2, 0.5)]
)
def test_threads_without_a_cpu(others: float, threads: int, n_cpus: int, share: float) -> None:
    assert displaced_share(others, threads, n_cpus) == share


@pytest.mark.parametrize(
    ("dispersions", "others", "verdict"),
    [([0.01, 0.02], 0.0, "quiet"), ([0.01, 0.10], 0.0, "noisy"), ([0.01], 2.0, "noisy")],
)
def test_verdict(dispersions: list[float], others: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "usable_cpus", lambda: (0, 1))
    facts = noise_verdict(dispersions, others, threads=2)
    assert facts["noise"] == verdict
    assert facts["round_dispersion"] == max(dispersions)
    assert facts["cpus_taken_by_others"] == others


def test_others_are_everybody_else_and_the_hypervisor_on_our_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = [SimpleNamespace(user=10.0, system=2.0, steal=1.0, irq=0.0) for _ in range(3)]
    own = SimpleNamespace(user=5.0, system=1.0)
    monkeypatch.setattr(noise, "usable_cpus", lambda: (0, 2))
    monkeypatch.setattr(psutil, "cpu_times", lambda **_options: cpus)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(cpu_times=lambda: own))
    monkeypatch.setattr(noise.time, "monotonic", lambda: 100.0)
    before = CpuMeter.now()
    cpus[0].user += 3.0
    cpus[1].user += 50.0  # a CPU we may not use
    cpus[2].steal += 2.0
    own.user += 3.0
    monkeypatch.setattr(noise.time, "monotonic", lambda: 104.0)
    assert before.others_since() == 0.5
