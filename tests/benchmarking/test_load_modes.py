"""Several requests at a time, and requests at random moments: on a clock of our own, so that the numbers are exact."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfold.benchmarking import open_loop, workers
from bnfold.benchmarking.axes import Axes
from bnfold.benchmarking.load import Load
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.open_loop import highest_rate, n_requests
from bnfold.benchmarking.timing import Runner
from bnfold.benchmarking.workers import LEAST_EACH, Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SERVICE_S = 0.005


class Clock:
    """Time that passes only where somebody sleeps or serves; for one worker."""

    def __init__(self) -> None:
        self.now = 0.0
        self.n_served = 0
        self.stalls: dict[int, float] = {}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e9)

    def serve(self) -> None:
        self.now += self.stalls.get(self.n_served, SERVICE_S)
        self.n_served += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(workers, "time", made)
    return made


@pytest.fixture
def one_worker(clock: Clock) -> Workers:
    return Workers(Runner(clock.serve), 1)


def test_a_queue_is_part_of_the_time(clock: Clock, one_worker: Workers) -> None:
    """Requests every 10 ms, 5 ms each; the third stalls for 32 ms, and those behind it wait."""
    clock.stalls = {1 + 2: 0.032}  # one call comes before, not counted
    times = one_worker.serve(np.arange(1, 8) * 0.010, lambda _ms: False)
    np.testing.assert_allclose(times, [5, 5, 32, 27, 22, 17, 12])


def test_giving_up_ends_the_trial(clock: Clock, one_worker: Workers) -> None:
    times = one_worker.serve(np.zeros(50), lambda ms: ms > 4 * 5 + 1)
    np.testing.assert_allclose(times, [5, 10, 15, 20, 25])


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_the_highest_rate_is_that_of_queueing_theory(load: float, clock: Clock, one_worker: Workers) -> None:
    """M/D/1: the limit is the 95th percentile of the time in the system at this load, from a long simulation."""
    gaps = np.random.default_rng(7).exponential(SERVICE_S / load, 200_000)
    waits, wait = [], 0.0
    for gap in gaps:
        wait = max(0.0, wait + SERVICE_S - gap)  # Lindley's recursion
        waits.append(wait)
    limit_ms = 1e3 * (SERVICE_S + float(np.quantile(waits, 0.95)))
    found = [highest_rate(one_worker, limit_ms, 1 / SERVICE_S, 5000, seed) for seed in (0, 1)]
    for one in found:
        assert one.rate_per_s == pytest.approx(load / SERVICE_S, rel=0.07)
        assert np.quantile(one.times_ms, 0.95) <= limit_ms
        assert len(one.times_ms) == 5000
    assert found[1].rate_per_s == pytest.approx(found[0].rate_per_s, rel=0.1)


def test_a_limit_that_no_rate_keeps(clock: Clock, one_worker: Workers) -> None:
    found = highest_rate(one_worker, 4.0, 1 / SERVICE_S, 200, 0)
    assert found.rate_per_s == 0.0
    assert len(found.times_ms) == 200


def test_a_model_slower_than_the_limit_costs_no_trials(
    product: Callable[[int], Path], quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_loop, "highest_rate", lambda *_args: pytest.fail("searched"))
    load = Load("open-loop", 2, slo_p95_ms=1e-4)
    (run,) = bench_files([product(64)], Axes(threads=1, load=load), budget_s=0.01).runs
    assert (run.rate_per_s, run.images_per_s, run.rates_per_s) == (0.0, 0.0, (0.0, 0.0))
    assert run.median_ms > load.slo_p95_ms


def test_a_trial_is_long_against_the_limit() -> None:
    assert n_requests(1000.0, 10.0) == 500
    assert n_requests(10.0, 10.0) == open_loop.MIN_REQUESTS


def test_workers_run_at_the_same_time() -> None:
    """Four workers meet inside their calls: it would not end if only one ran."""
    meeting = threading.Barrier(4)
    served = Workers(Runner(lambda: meeting.wait(timeout=60)), 4)
    request_ms, times = served.round_ms(LEAST_EACH)
    assert len(times) == 4 * LEAST_EACH
    assert request_ms <= max(times)


def test_every_worker_has_inputs_and_outputs_of_its_own(double: Path) -> None:
    from bnfold.benchmarking.timing import BoundFile

    file = BoundFile(double, {"x": np.ones((2, 3), np.float32)}, provider="cpu", threads=1)
    calls = [file.another(), file.another()]
    for call in calls:
        call()
    bindings = [call.binding for call in calls]  # type: ignore[attr-defined]
    first, second = (binding.get_outputs()[0] for binding in bindings)
    assert first.data_ptr() != second.data_ptr()


def test_an_error_in_a_worker_ends_the_work() -> None:
    calls = iter(range(100))

    def fail_later() -> None:
        if next(calls) > 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Workers(Runner(fail_later), 2).round_ms(10)


def test_an_interrupt_leaves_no_worker_that_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes when the first worker stands at the barrier already: the end of the process would wait for it."""
    served = Workers(Runner(lambda: None), 2)
    submit, calls = served._pool.submit, []

    def interrupted(*job: Any) -> Any:
        calls.append(job)
        if len(calls) == 4:  # two that warm up, and the first of the workers
            raise KeyboardInterrupt
        return submit(*job)

    monkeypatch.setattr(served._pool, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        served.round_ms(LEAST_EACH)
    ended = threading.Thread(target=served._pool.shutdown, daemon=True)
    ended.start()
    ended.join(timeout=60)
    assert not ended.is_alive()


@pytest.mark.parametrize("wrong", [{"mode": "fast"}, {"concurrency": 2}, {"mode": "open-loop", "slo_p95_ms": 0}])
def test_loads_that_there_are_not(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="mode"):
        Load(**wrong)


def test_throughput_counts_all_workers(double: Path, quiet: None) -> None:
    load = Load("throughput", 2)
    report = bench_files([double, double], Axes(threads=1, batch=(3,), load=load), budget_s=0.3)
    for run in report.runs:
        assert (run.mode, run.concurrency, run.rate_per_s) == ("throughput", 2, None)
        assert run.images_per_s > 0
        assert run.end_to_end_ms is not None
    assert {(ratio.mode, ratio.concurrency) for ratio in report.ratios} == {("throughput", 2)}


def test_open_loop_searches_each_file_twice(
    double: Path, quiet: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    searched: list[int] = []

    def search(_workers: Workers, _limit: float, _capacity: float, n: int, seed: int) -> SimpleNamespace:
        searched.append(seed)
        return SimpleNamespace(rate_per_s=100.0 + 10 * len(searched), times_ms=[1.0] * n)

    monkeypatch.setattr(open_loop, "highest_rate", search)
    shares: list[float] = []
    load = Load("open-loop", 1, slo_p95_ms=0.5)
    report = bench_files(
        [double, double], Axes(threads=1, load=load), names=["a", "b"], budget_s=0.01, seed=5, progress=shares.append
    )
    a, b = report.runs
    assert searched == [5, 5, 6, 6]  # the same arrivals for both files, others in the second search
    assert (a.rates_per_s, b.rates_per_s) == (pytest.approx((110.0, 140.0)), pytest.approx((120.0, 130.0)))
    assert (a.rate_confirmed, b.rate_confirmed, a.slo_p95_ms) == (False, True, 0.5)
    assert [a.rate_per_s, b.rate_per_s, a.images_per_s] == pytest.approx([125.0] * 3)
    assert report.ratios == ()  # two searches make no interval
    assert shares == sorted(shares)
    from bnfold.report import render_bench

    render_bench(report)
    out = capsys.readouterr().out
    assert "a, batch 1: 125 requests/s keep p95 within 0.5 ms, NOT confirmed (searches: 110 and 140)" in out
    assert "b, batch 1: 125 requests/s keep p95 within 0.5 ms, confirmed" in out


def test_offline_is_an_axis(write: Callable[[str, str], Path]) -> None:
    graph = "{ a = Identity (x)\n b = Identity (a)\n y = Relu (b) }"
    path = write("chain.onnx", f"net (float[N, 3] x) => (float[N, 3] y) {graph}")
    report = bench_files([path], Axes(threads=1, optimize=("online", "offline")), budget_s=0.1)
    assert [(run.optimize, run.path) for run in report.runs] == [("online", str(path)), ("offline", str(path))]
    assert len({run.name for run in report.runs}) == 1


def test_weights_beside_the_file_go_with_the_offline_one(product: Callable[[int], Path], tmp_path: Path) -> None:
    """PyTorch's exporter writes them there, and the file made of such a one had looked for them in its own folder."""
    import onnx

    path = tmp_path / "beside" / "net.onnx"
    path.parent.mkdir()
    model = onnx.load(product(64))
    onnx.save(model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    report = bench_files([path], Axes(threads=1, optimize="offline"), budget_s=0.01, profile=True)
    assert [run.optimize for run in report.runs] == ["offline"]
    assert {file.name for file in path.parent.iterdir()} == {"net.onnx", "net.onnx.data"}


def test_the_offline_file_is_loaded_as_it_is(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    import onnx
    import onnxruntime as ort

    from bnfold.benchmarking.axes import Cell
    from bnfold.benchmarking.subjects import file_subject, optimized_offline

    path = write("chain.onnx", "net (float[N, 3] x) => (float[N, 3] y) { a = Identity (x)\n y = Relu (a) }")
    cell = Cell("cpu", 1, "basic", None, 1, optimize="offline")
    folder = tmp_path / "offline"
    folder.mkdir()
    subject = optimized_offline(file_subject("chain", path), cell, folder)
    assert subject.file is not None
    assert [node.op_type for node in onnx.load(subject.file).graph.node] == ["Relu"]
    session = subject.opener(cell, {"x": np.ones((1, 3), np.float32)}).session  # type: ignore[attr-defined]
    level = session.get_session_options().graph_optimization_level
    assert level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
