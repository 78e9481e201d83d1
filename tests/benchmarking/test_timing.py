"""An opened file: bound inputs give the session's own answers, runs are timed, warm-up ends."""

from __future__ import annotations

import gc
import time
import weakref
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnfold.benchmarking.timing import BLOCK_MS, BoundFile, bind, garbage_collection_paused, n_runs_for
from bnfold.errors import InputRefused
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_bound_inputs_and_outputs_are_the_sessions(double: Path) -> None:
    session = open_session(double, threads=1)
    binding = bind(session, {"x": X}, "cpu")
    session.run_with_iobinding(binding)
    (answer,) = binding.get_outputs()
    assert answer.device_name() == "cpu"
    np.testing.assert_array_equal(answer.numpy(), 2 * X)


def test_runs_are_timed_one_by_one(double: Path) -> None:
    start = time.perf_counter()
    file = BoundFile(double, {"x": X}, provider="cpu", threads=1)
    times = file.block_ms(20)
    elapsed_ms = (time.perf_counter() - start) * 1e3
    assert len(times) == 20
    assert min(times) > 0
    assert file.load_ms + file.first_ms + sum(times) < elapsed_ms


def test_an_opened_file_goes_with_its_last_user(double: Path) -> None:
    """Not only when Python collects its garbage: ten sessions of two gigabytes would wait for that."""
    with garbage_collection_paused():
        file = BoundFile(double, {"x": X}, provider="cpu", threads=1)
        session = weakref.ref(file)
        del file
        assert session() is None


def test_warm_up_ends(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = BoundFile(double, {"x": X}, provider="cpu", threads=1)
    blocks = iter([5.0, 4.0, 3.0, 3.5, 1.0])
    monkeypatch.setattr(file, "block_ms", lambda _n_runs: [next(blocks)])
    file.warm_up(limit_s=60)
    assert next(blocks) == 1.0
    monkeypatch.setattr(file, "block_ms", lambda _n_runs: pytest.fail("the limit is over"))
    file.warm_up(limit_s=0)


def test_a_file_that_does_not_run_is_refused(write: Callable[[str, str], Path]) -> None:
    path = write("bad.onnx", "net (float[N, 3] x) => (float[M] y) <int64[1] s = {7}> { y = Reshape (x, s) }")
    with pytest.raises(InputRefused, match=r"does not run it in .*bad\.onnx"):
        BoundFile(path, {"x": X}, provider="cpu", threads=1)


@pytest.mark.parametrize(("run_ms", "n_runs"), [(0.001, 5000), (BLOCK_MS, 1), (4.9, 2), (80.0, 1), (float("inf"), 1)])
def test_runs_of_a_block(run_ms: float, n_runs: int) -> None:
    assert n_runs_for(run_ms) == n_runs


def test_garbage_collection_comes_back() -> None:
    assert gc.isenabled()
    with garbage_collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_file_that_declares_a_false_rank_is_timed(write: Callable[[str, str], Path]) -> None:
    """ONNX Runtime runs it, but not twice into the same tensor."""
    path = write("false", "g (float[2, 3] x) => (float[3] y) { y = Relu (x) }")
    opened = BoundFile(path, {"x": np.ones((2, 3), np.float32)}, provider="cpu", threads=1)
    assert len(opened.block_ms(3)) == 3
