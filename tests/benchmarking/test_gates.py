"""Gates decide on the interval, on a noisy machine too, and never against another machine's numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from bnfold.benchmarking.gates import against_baseline, against_name, read_baseline
from bnfold.errors import InputRefused
from bnfold.records import BenchGate, BenchRatio, BenchReport, BenchRun, MissingPeer, as_json
from bnfold.report.bench_summaries import bench_junit, bench_markdown, gate_sentence

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"cpu": "Some CPU", "threads": 1, "noise": "quiet", "onnxruntime": "1.32.0"}


def run(median: float, half: float, **changes: Any) -> BenchRun:
    made = BenchRun(
        "net", "net.onnx", "CPUExecutionProvider", 1, 400, 1.0, 1.0, median, None, 1 / median, 1.0, threads=1
    )
    intervals = {"median_ms": (median / (1 + half), median * (1 + half))}
    return replace(made, **{"intervals": intervals, "input_shapes": {"x": (1, 3)}, **changes})


def report(*runs: BenchRun, noise: str = "quiet") -> BenchReport:
    return BenchReport({**FACTS, "noise": noise}, runs, ())


def baseline(*runs: BenchRun, noise: str = "quiet") -> dict[str, Any]:
    return json.loads(json.dumps(as_json(report(*runs, noise=noise))))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("median", "half", "verdict"),
    [
        (1.02, 0.001, "passed"),  # slower, but within 3 %
        (1.05, 0.04, "passed"),  # the point is beyond 3 %, the interval is not
        (1.05, 0.001, "failed"),
        (0.5, 0.001, "passed"),
    ],
)
def test_the_interval_decides(median: float, half: float, verdict: str) -> None:
    (gate,) = against_baseline(report(run(median, half)), baseline(run(1.0, 0.001)), 0.03, "old.json")
    assert (gate.verdict, gate.limit) == (verdict, 1.03)
    assert gate.ratio == pytest.approx(median)
    assert gate.low < gate.ratio < gate.high


def test_errors_of_both_reports_count() -> None:
    """An exact run of today against a loose one of then: 1.05 may be 1.00."""
    (gate,) = against_baseline(report(run(1.05, 0.001)), baseline(run(1.0, 0.05)), 0.03, "old.json")
    assert gate.verdict == "passed"
    assert gate.high / gate.low == pytest.approx(1.05**2, rel=1e-3)


@pytest.mark.parametrize(("now", "then"), [("noisy", "quiet"), ("quiet", "noisy")])
def test_the_interval_decides_whatever_the_noise(now: str, then: str) -> None:
    """A file 27 times as slow had passed as undecided, with exit code 0."""
    old = baseline(run(1.0, 0.001), noise=then)
    for median, half, verdict in ((27.0, 0.4, "failed"), (1.05, 0.04, "passed")):
        (gate,) = against_baseline(report(run(median, half), noise=now), old, 0.03, "old.json")
        assert gate.verdict == verdict
        assert "noisy" in (gate.note or "")


def test_too_few_runs_of_today_are_undecided() -> None:
    few = replace(run(2.0, 0.1), intervals={})
    (gate,) = against_baseline(report(few), baseline(run(1.0, 0.001)), 0.03, "old.json")
    assert (gate.verdict, gate.note) == ("undecided", "too few runs for an interval")


@pytest.mark.parametrize(
    "changes", [{"batch": 8}, {"threads": 2}, {"opt_level": "basic"}, {"input_shapes": {"x": (1, 4)}}]
)
def test_only_the_same_cell_is_compared(changes: dict[str, Any]) -> None:
    other = replace(run(9.0, 0.001), **changes)
    old = baseline(run(1.0, 0.001), replace(other, median_ms=9.0))
    gates = against_baseline(report(run(1.0, 0.001), other), old, 0.0, "old.json")
    assert [gate.ratio for gate in gates] == pytest.approx([1.0, 1.0])
    with pytest.raises(InputRefused, match=r"no run of today is in the baseline in old\.json"):
        against_baseline(report(other), baseline(run(1.0, 0.001)), 0.0, "old.json")


def test_baselines_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    with pytest.raises(InputRefused, match="cannot read the baseline"):
        read_baseline(path, FACTS)
    good = baseline(run(1.0, 0.001))
    for content, says in (
        ("{", "cannot read the baseline"),
        ("[]", "not a report of bnfold bench"),
        (json.dumps({**good, "schema": "bnfold.verify/1"}), "not a report of bnfold bench"),
        (json.dumps({**good, "runs": [{**good["runs"][0], "intervals": {}}]}), "without an interval"),
        (json.dumps({**good, "environment": {**FACTS, "cpu": "Other CPU"}}), "another machine"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputRefused, match=says):
            read_baseline(path, FACTS)
    path.write_text(json.dumps(good), encoding="utf-8")
    assert read_baseline(path, FACTS) == good


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"median_ms": "fast"}, r"median_ms is not above 0 .*run 0: found 'fast'"),
        ({"median_ms": 0}, "median_ms is not above 0"),
        ({"median_ms": True}, "median_ms is not above 0"),
        ({"intervals": None}, "median_ms must be an interval of two numbers"),
        ({"intervals": {"median_ms": None}}, "median_ms must be an interval of two numbers"),
        ({"intervals": {"median_ms": [0.9]}}, "median_ms must be an interval of two numbers"),
        ({"intervals": {"median_ms": [None, 1.1]}}, "median_ms must be an interval of two numbers"),
        ({"intervals": {"median_ms": [2, 3]}}, r"found \[2, 3\], expected two numbers, 1\.0 between them"),
        ({"input_shapes": {"x": None}}, "a run has no name, or no input shapes"),
    ],
)
def test_damaged_baselines_are_refused(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """They had ended as faults of the program."""
    path = tmp_path / "old.json"
    good = baseline(run(1.0, 0.001))
    path.write_text(json.dumps({**good, "runs": [{**good["runs"][0], **changes}]}), encoding="utf-8")
    with pytest.raises(InputRefused, match=says):
        read_baseline(path, FACTS)


@pytest.mark.parametrize("changes", [{"runs": {"a": 1}}, {"runs": [None]}, {"environment": None}, {"runs": [{}]}])
def test_baselines_of_another_form_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**baseline(run(1.0, 0.001)), **changes}), encoding="utf-8")
    with pytest.raises(InputRefused, match="the baseline"):
        read_baseline(path, FACTS)


def test_no_common_run_says_what_differs() -> None:
    with pytest.raises(InputRefused, match=r"found net \(.*batch 1,.*1x3\), expected net \(.*batch 8,.*1x3\)"):
        against_baseline(report(replace(run(1.0, 0.001), batch=8)), baseline(run(1.0, 0.001)), 0.0, "old.json")


def ratio(low: float, **changes: Any) -> BenchRatio:
    return replace(BenchRatio("new", "old", 1, low + 0.01, low, low + 0.02, "slower", threads=1), **changes)


def test_the_named_file_and_the_limit() -> None:
    every = (ratio(1.04), ratio(1.02), ratio(1.5, b="peer"), ratio(1.5, note="no winner is named: noisy machine: hot"))
    gates = against_name(BenchReport(FACTS, (), every), "old", 0.03)
    assert [(gate.verdict, gate.note) for gate in gates] == [
        ("failed", None), ("passed", None), ("failed", "noisy machine: hot"),
    ]  # fmt: skip
    (noisy,) = against_name(BenchReport({**FACTS, "noise": "noisy"}, (), (ratio(1.02),)), "old", 0.03)
    assert (noisy.verdict, noisy.note) == ("passed", "noisy machine")


def test_a_cell_without_a_ratio_is_undecided() -> None:
    """Two searches of the open loop make no ratio, and the gate had vanished: exit code 0, and nothing said."""
    rates = {"mode": "open-loop", "rate_per_s": 9.0}
    runs = [run(1.0, 0.1, name=name, batch=batch, **rates) for batch in (1, 8) for name in ("new", "old", "peer")]
    with_ratio = ratio(1.5, provider="CPUExecutionProvider", input_shapes={"x": (1, 3)})
    decided, undecided = against_name(BenchReport(FACTS, tuple(runs), (with_ratio,)), "old", 0.0)
    assert (decided.verdict, undecided.verdict) == ("failed", "undecided")
    assert undecided.name == "new / old (batch 8, 1 thread, all, cpu)"


GATES = (
    BenchGate("a <b>", 1.03, 1.1, 1.05, 1.2, "failed"),
    BenchGate("c", 1.03, 1.0, 0.9, 1.1, "passed"),
    BenchGate("d", 1.03, 1.5, 1.5, 1.5, "undecided", "too few runs for an interval"),
    BenchGate("e", 1.03, 1.5, 1.4, 1.6, "failed", "noisy machine"),
    BenchGate("f", 1.03, 1.0, 0.9, 1.1, "passed", "noisy machine"),
)


def test_junit() -> None:
    (suite,) = ElementTree.fromstring(bench_junit(BenchReport(FACTS, (), (), gates=GATES)))  # noqa: S314  # our own
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "5", "failures": "2", "skipped": "1",
    }  # fmt: skip
    assert [(case.get("name"), [child.tag for child in case]) for case in suite] == [
        ("a <b>", ["failure"]), ("c", []), ("d", ["skipped"]), ("e", ["failure"]), ("f", ["system-out"]),
    ]  # fmt: skip
    assert "1.050 to 1.200" in (suite[0][0].text or "")
    assert suite[3][0].get("message") == "slower than allowed (noisy machine)"
    assert (suite[4][0].text or "").endswith("passed: noisy machine")


def test_markdown() -> None:
    peers = (MissingPeer("openvino", "the package openvino is not installed", "run `pip install openvino`"),)
    text = bench_markdown(
        BenchReport(FACTS, (run(1.25, 0.1, name="a|b"),), (ratio(1.04),), complete=False, gates=GATES, missing=peers)
    )
    assert "| a\\|b | 1 | 1.25 |" in text
    assert "| new / old | 1 | 1.050 | 1.040 to 1.060 | slower |" in text
    assert "- a \\<b>: 1.100 (1.050 to 1.200), allowed 1.030, failed" in text
    assert "- d: undecided: too few runs for an interval" in text
    assert "- e: 1.500 (1.400 to 1.600), allowed 1.030, failed: noisy machine" in text
    assert "- missing: openvino: the package openvino is not installed; run \\`pip install openvino\\`" in text
    assert "Some CPU, 1 thread, onnxruntime 1.32.0, quiet machine" in text
    assert "Interrupted" in text


def test_names_are_no_markdown() -> None:
    text = bench_markdown(report(run(1.0, 0.1, name="<img src=x> **b** `c`\n| d")))
    assert "| \\<img src=x> \\*\\*b\\*\\* \\`c\\` \\| d | 1 |" in text


def test_a_grid_tells_its_cells_apart() -> None:
    """In every form for pipelines: two rows, or two test cases, of one name could not be told apart."""
    cells: tuple[dict[str, Any], ...] = (
        {"threads": 1}, {"threads": 2}, {"optimize": "offline"}, {"cuda_graph": True}, {"input_shapes": {"x": (1, 9)}},
        {"provider": "CUDAExecutionProvider"}, {"opt_level": "basic"}, {"batch": 8},
    )  # fmt: skip
    ratios = tuple(
        ratio(1.5, **{"provider": "CPUExecutionProvider", "input_shapes": {"x": (1, 3)}, **own}) for own in cells
    )
    runs = tuple(run(1.0, 0.1, **own) for own in cells)
    every = BenchReport(FACTS, runs, ratios)
    for gates in (against_name(every, "old", 0.0), against_baseline(every, baseline(*runs), 0.0, "old.json")):
        assert len({gate.name for gate in gates}) == len(cells)
        assert "1 thread, all, cpu" in gates[0].name
        assert "2 threads" in gates[1].name
    rows = [line for line in bench_markdown(every).splitlines() if line.startswith(("| net", "| new"))]
    assert len({row.split(" | ")[0] + row.split(" | ")[1] for row in rows}) == 2 * len(cells)


LOAD: dict[str, Any] = {"mode": "throughput", "concurrency": 2}


def served(per_s: float, half: float, **changes: Any) -> BenchRun:
    """A run under load: the time of a request says nothing of how many are served."""
    return replace(
        run(1.0, 0.001), images_per_s=per_s, intervals={"images_per_s": (per_s / (1 + half), per_s * (1 + half))},
        **{**LOAD, **changes},
    )  # fmt: skip


@pytest.mark.parametrize(("per_s", "verdict"), [(95.0, "failed"), (98.0, "passed"), (200.0, "passed")])
@pytest.mark.parametrize("mode", ["throughput", "open-loop"])
def test_under_load_what_was_served_decides(per_s: float, verdict: str, mode: str, tmp_path: Path) -> None:
    """A file that serves 28 % less had passed: the time of a request had been compared."""
    then = baseline(served(100.0, 0.001, mode=mode))
    (tmp_path / "old.json").write_text(json.dumps(then), encoding="utf-8")
    (gate,) = against_baseline(
        report(served(per_s, 0.001, mode=mode)), read_baseline(tmp_path / "old.json", FACTS), 0.03, "old.json"
    )
    assert gate.verdict == verdict
    assert gate.ratio == pytest.approx(100.0 / per_s)
    assert gate.low < gate.ratio < gate.high


def test_no_rate_at_all_fails() -> None:
    none = replace(served(1.0, 0.1, mode="open-loop"), images_per_s=0.0, intervals={})
    (gate,) = against_baseline(report(none), baseline(served(100.0, 0.001, mode="open-loop")), 0.03, "old.json")
    assert (gate.verdict, gate.note) == ("failed", "no rate keeps the limit")
    assert as_json(gate)["ratio"] is None


def test_a_run_that_the_baseline_has_not_is_told() -> None:
    old, new = against_baseline(
        report(run(1.0, 0.001), run(1.0, 0.001, batch=8)), baseline(run(1.0, 0.001)), 0.0, "old.json"
    )
    assert (old.verdict, new.verdict, new.note) == ("passed", "undecided", "the baseline has no such run")
    assert gate_sentence(new) == f"{new.name}: undecided: the baseline has no such run"


def pair(
    net: float, plain: float, *, noise: str = "quiet", digests: tuple[str | None, ...] = ("n", "p")
) -> BenchReport:
    """A network beside its plain export, the times within 0.1 % and their ratio within 0.2 %."""
    runs = tuple(
        run(time, 0.001, name=name, sha256=digest)
        for name, time, digest in zip(("net", "plain"), (net, plain), digests, strict=True)
    )
    both = BenchRatio(
        "net", "plain", 1, net / plain, net / plain / 1.002, net / plain * 1.002, "tie",
        provider="CPUExecutionProvider", threads=1, input_shapes={"x": (1, 3)},
    )  # fmt: skip
    return BenchReport({**FACTS, "noise": noise}, runs, (both,))


def held(now: BenchReport, then: BenchReport, limit: float = 0.03) -> list[BenchGate]:
    return against_baseline(now, json.loads(json.dumps(as_json(then))), limit, "old.json")


@pytest.mark.parametrize("plain_now", ["p", "of today's weights"])
def test_a_machine_twice_as_slow_is_no_regression(plain_now: str) -> None:
    """Both files took twice the time, and each had failed."""
    net, plain = held(pair(1.8, 2.0, digests=("changed", plain_now)), pair(0.9, 1.0))
    assert (net.verdict, plain.verdict) == ("passed", "passed" if plain_now == "p" else "undecided")
    assert net.ratio == pytest.approx(1.0)
    assert net.high / net.ratio == pytest.approx(1.002**2**0.5, rel=1e-6)  # of both ratios, and no time's
    assert net.note == "both over the time of plain"
    assert plain.note == ("it is the same file" if plain_now == "p" else "the other files are compared by it")


@pytest.mark.parametrize(
    ("machine", "limit", "verdict"), [(1, 0.03, "failed"), (2, 0.03, "failed"), (2, 0.11, "passed")]
)
def test_a_regression_is_one_on_a_slower_machine_too(machine: float, limit: float, verdict: str) -> None:
    net, _ = held(pair(0.99 * machine, 1.0 * machine, digests=("changed", "p")), pair(0.9, 1.0), limit)
    assert (net.verdict, net.ratio) == (verdict, pytest.approx(1.1))


def test_a_regression_on_a_faster_machine_is_found() -> None:
    """In milliseconds nothing was slower than the baseline, and it had passed."""
    net, _ = held(pair(0.55, 0.5, digests=("changed", "p")), pair(0.9, 1.0))
    assert (net.verdict, net.ratio) == ("failed", pytest.approx(1.1 / 0.9))


def test_one_digest_never_fails() -> None:
    """Nor do two files that are one, whichever time each took."""
    net, _ = held(pair(9.0, 1.0), pair(0.9, 1.0))
    assert (net.verdict, net.ratio) == ("passed", pytest.approx(10.0))
    assert net.note == "it is the same file; both over the time of plain"
    (alone,) = held(report(run(2.0, 0.001, sha256="n")), report(run(1.0, 0.001, sha256="n")))
    assert (alone.verdict, alone.note, alone.ratio) == ("passed", "it is the same file", pytest.approx(2.0))
    for digests, verdict in ((("n", "n"), "passed"), (("n", "p"), "failed"), ((None, None), "failed")):
        (gate,) = against_name(pair(1.2, 1.0, digests=digests), "plain", 0.03)
        assert gate.verdict == verdict


def test_an_older_baseline_has_no_digests() -> None:
    """It says nothing of what its files were: another file than the first is taken for the same."""
    then = pair(0.9, 1.0, digests=(None, None))
    assert [gate.verdict for gate in held(pair(1.98, 2.0), then)] == ["failed", "undecided"]
    assert [gate.verdict for gate in held(pair(1.8, 2.0), then)] == ["passed", "undecided"]


def test_a_file_that_changed_is_no_yardstick() -> None:
    """Two files that were both made again, neither called plain: each is held to its own time of then."""

    def renamed(made: BenchReport) -> BenchReport:
        runs = tuple(replace(one, name=one.name.replace("plain", "other")) for one in made.runs)
        return replace(made, runs=runs, ratios=tuple(replace(one, b="other") for one in made.ratios))

    gates = held(renamed(pair(0.9, 2.0, digests=("a", "b"))), renamed(pair(0.9, 1.0)))
    assert [(gate.verdict, gate.note) for gate in gates] == [("passed", None), ("failed", None)]


def test_of_three_files_each_is_compared_by_the_same_one() -> None:
    """The second is twice as slow as then, as is the machine; the third four times."""

    def three(net: float, plain: float, third: float, digest: str) -> BenchReport:
        made = pair(net, plain, digests=(digest, "p"))
        other = replace(made.ratios[0], b="third", ratio=net / third, low=net / third / 1.01, high=net / third * 1.01)
        runs = (*made.runs, run(third, 0.001, name="third", sha256=digest))
        return replace(made, runs=runs, ratios=(*made.ratios, other))

    gates = held(three(1.8, 2.0, 4.0, "now"), three(0.9, 1.0, 1.0, "then"))
    assert [(gate.name.partition(" ")[0], gate.verdict) for gate in gates] == [
        ("net", "passed"), ("plain", "passed"), ("third", "failed"),
    ]  # fmt: skip
    assert gates[2].ratio == pytest.approx(2.0)


@pytest.mark.parametrize(
    "ratios", [{}, [None], [{"a": "net"}], [{"ratio": 1.0, "low": 1.1, "high": 1.2, "a": "net", "b": "plain"}]]
)
def test_damaged_ratios_are_refused(tmp_path: Path, ratios: Any) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**baseline(run(1.0, 0.001)), "ratios": ratios}), encoding="utf-8")
    with pytest.raises(InputRefused, match="the baseline is damaged"):
        read_baseline(path, FACTS)


def test_undecided_in_pipelines() -> None:
    """A noisy machine names no winner, and says to which side it leans."""
    noisy = ratio(1.565, verdict="undecided", leaning="slower", note="no winner is named: noisy machine: hot")
    every = BenchReport({**FACTS, "noise": "noisy"}, (), (noisy, ratio(1.2)))
    assert "| undecided, leaning to slower (no winner is named: noisy machine: hot) |" in bench_markdown(every)
    (suite,) = ElementTree.fromstring(bench_junit(every))  # noqa: S314  # our own
    assert (suite[-1].text or "").splitlines() == [
        "new / old, batch 1: 1.575 (1.565 to 1.585), undecided, leaning to slower: no winner is named: "
        "noisy machine: hot",
        "new / old, batch 1: 1.210 (1.200 to 1.220), slower",
    ]
