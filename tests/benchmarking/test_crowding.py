"""Whether CPUs are shared: what they lose beside each other, and where that is not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnfold.benchmarking import crowding
from bnfold.benchmarking.crowding import CROWDED_SHARE, Crowding, have_own_cores
from bnfold.benchmarking.noise import Noise

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four CPUs of two cores: 0 and 2, 1 and 3."""
    monkeypatch.setattr(crowding, "CPUS", tmp_path)
    monkeypatch.setattr(crowding, "usable_cpus", lambda: (0, 1))
    for cpu in range(4):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    return tmp_path


def test_threads_of_one_core_are_known(cpus: Path, tmp_path: Path) -> None:
    assert have_own_cores((0, 1), cpus)
    assert not have_own_cores((0, 1, 2), cpus)
    assert not have_own_cores((0, 7), cpus)  # of 7 the system says nothing


@pytest.mark.parametrize(("together", "share"), [(1.0, 0.0), (2.0, 0.5), (0.5, 0.0)])
def test_what_they_lose(cpus: Path, monkeypatch: pytest.MonkeyPatch, together: float, share: float) -> None:
    monkeypatch.setattr(crowding, "_work_s", lambda threads: [1.0] if threads == 1 else [1.0, together])
    found = Crowding(2)
    for _ in range(3):
        found.take()
    assert found.lost == pytest.approx(share)
    assert Noise(crowded=found.lost).noisy == (share >= CROWDED_SHARE)


def test_the_median_counts(cpus: Path) -> None:
    assert Crowding(2, losses=[0.0, 0.5, 0.0]).lost == 0.0
    assert Crowding(2).lost == 0.0


def test_it_is_not_asked_of_one_thread_or_of_threads_of_one_core(cpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "_work_s", lambda _threads: pytest.fail("asked"))
    Crowding(1).take()
    monkeypatch.setattr(crowding, "usable_cpus", lambda: (0, 2))
    Crowding(2).take()


def test_the_work_is_timed(cpus: Path) -> None:
    found = Crowding(2)
    found.take()
    (loss,) = found.losses
    assert 0.0 <= loss < 1.0
