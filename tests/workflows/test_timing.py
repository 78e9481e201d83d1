"""fold-export measures what it made, says what lost, and keeps no file that is slower than allowed."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.benchmarking import bench_files
from bnfold.errors import InputRefused
from bnfold.records import BenchProfile, BenchReport, LayerTime, MeasuredChoice, ProfileEntry, SlowerPart
from bnfold.workflows import measured
from bnfold.workflows.measured import BRANCHES_LEFT, CHANNELS_LEFT
from bnfold.workflows.timing import layer_times, slower_parts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

BRIEF = 0.2
FIELDS = {"against", "ratio", "low", "high", "verdict", "leaning"}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the measurement at the end find a verdict; everything else of it is as it was measured."""

    def found(
        low: float, high: float, verdict: str, leaning: str | None = None, noise: dict[str, str] | None = None
    ) -> None:
        def measure(*given: Any, **options: Any) -> BenchReport:
            report = bench_files(*given, **{**options, "budget_s": 0.05})
            changes: dict[str, Any] = {"verdict": verdict, "leaning": leaning}
            ratio = replace(report.ratios[0], ratio=(low + high) / 2, low=low, high=high, **changes)
            return replace(report, ratios=(ratio,), environment={**report.environment, **(noise or {})})

        monkeypatch.setattr("bnfold.benchmarking.bench_files", measure)

    return found


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_onnx_file_is_measured_against_itself(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    out, untimed = tmp_path / "out", tmp_path / "untimed"
    result = cli("fold-export", network, "-o", out, "--budget", "200ms", "--threads", 1, "--html")
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())
    timing = report["timing"]
    assert set(timing) >= FIELDS
    assert (timing["against"], timing["batch"], timing["threads"], timing["failed"]) == ("source", 1, 1, False)
    assert 0 < timing["low"] <= timing["ratio"] <= timing["high"]
    assert timing["median_ms"] > 0 < timing["against_ms"]
    assert list(report["seconds"])[-1] == "bench"
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("time: ")]
    assert f"{timing['ratio']:.3f} ({timing['low']:.3f} to {timing['high']:.3f}) of the time of the source" in line
    assert f"{timing['ratio']:.3f} × the time of the source" in (out / "report.html").read_text(encoding="utf-8")
    assert cli("fold-export", network, "-o", untimed, "--budget", 0).exit_code == 0
    assert json.loads((untimed / "report.json").read_text())["timing"] is None
    assert (out / "model.onnx").read_bytes() == (untimed / "model.onnx").read_bytes()


STATEFUL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch, W] x, float[2, batch, 1] state, float gain) => (float[2, batch, W] y) {
  s = Add (x, state) y = Mul (s, gain)
}
"""


def test_a_file_whose_state_counts_the_samples_on_another_axis_is_measured(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    onnx.save(onnx.parser.parse_model(STATEFUL), tmp_path / "net.onnx")
    result = cli("fold-export", tmp_path / "net.onnx", "-o", tmp_path / "out", "--budget", "100ms", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "was not measured" not in result.output
    assert json.loads((tmp_path / "out/report.json").read_text())["timing"]["batch"] == 1
    (sizes,) = [line for line in result.stdout.splitlines() if line.startswith("sizes: ")]
    assert "state at 2x1" in sizes
    assert "gain" not in sizes  # a single number has none


def test_the_default_is_three_seconds() -> None:
    """Asked of another process: in this one the tests have set it to none."""
    code = "import bnfold, inspect; print(inspect.signature(bnfold.fold_export).parameters['budget_s'].default)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "3.0\n"


def test_slower_is_a_warning_that_names_what_lost(
    cli: Callable[..., Result], network: Path, tmp_path: Path, pretend: Callable[..., None]
) -> None:
    pretend(1.5, 1.6, "slower")
    result = cli("fold-export", network, "-o", tmp_path / "out", "--budget", "1s", "--html")
    assert (result.exit_code, names(tmp_path / "out")) == (0, ["model.onnx", "report.html", "report.json"])
    assert "time: 1.550 (1.500 to 1.600) of the time of the source, slower" in result.stdout
    assert "warning: the file is slower than the source: " in result.stdout
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "the file is slower than the source: " in page
    assert "Slower than allowed" not in page
    timing = json.loads((tmp_path / "out" / "report.json").read_text())["timing"]
    for part in timing["slower"]:
        assert part["ms"] > part["against_ms"]
        assert part["name"] in result.stdout


@pytest.mark.parametrize("kept", [False, True])
def test_slower_than_allowed_leaves_no_file(
    cli: Callable[..., Result], network: Path, tmp_path: Path, pretend: Callable[..., None], *, kept: bool
) -> None:
    pretend(1.04, 1.06, "slower")
    options = ("--budget", "1s", "--fail-if-slower", "3%", "--keep-plain", "--golden", "--html")
    result = cli("fold-export", network, "-o", tmp_path / "out", *options, *(["--keep-failed"] if kept else []))
    assert result.exit_code == 1
    assert names(tmp_path / "out") == ["model.failed.onnx"] * kept + ["report.html", "report.json"]
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"error: the folded file is slower than allowed in {network}: found 1.040 to 1.060 of the")
    assert "expected at most 1.030" in line
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["passed"], report["output"], report["verify"]["passed"]) == (False, None, True)
    assert (report["timing"]["failed"], report["timing"]["limit"]) == (True, 1.03)
    assert "Slower than allowed (at most 1.030)." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("low", "high", "verdict", "leaning"),
    [
        (1.5, 1.6, "undecided", "slower"),  # a noisy machine
        (1.01, 1.2, "slower", None),  # not all of the interval is beyond the limit
        (0.9, 1.2, "tie", None),
    ],
)
def test_what_does_not_fail(
    network: Path, tmp_path: Path, pretend: Callable[..., None], *, low: float, high: float, verdict: str, leaning: str
) -> None:
    pretend(low, high, verdict, leaning)
    report = bnfold.fold_export(network, tmp_path / "out", budget_s=1.0, fail_if_slower=0.03)
    assert report.passed
    assert report.timing is not None
    assert (report.timing.verdict, report.timing.leaning, report.timing.failed) == (verdict, leaning, False)
    assert (tmp_path / "out" / "model.onnx").is_file()


def test_undecided_is_said_with_its_leaning(
    cli: Callable[..., Result], network: Path, tmp_path: Path, pretend: Callable[..., None]
) -> None:
    pretend(1.5, 1.6, "undecided", "slower")
    result = cli("fold-export", network, "-o", tmp_path / "out", "--budget", "1s", "--fail-if-slower", "0")
    assert (result.exit_code, "undecided, leaning to slower (batch 1, " in result.stdout) == (0, True)
    assert "warning: the file is slower" not in result.stdout


def test_a_noisy_machine_is_said_whatever_the_verdict(
    cli: Callable[..., Result], network: Path, tmp_path: Path, pretend: Callable[..., None]
) -> None:
    """An interval of 0.65 to 2.6 had been called a tie, and nothing else."""
    pretend(0.65, 2.6, "tie", None, {"noise": "noisy", "noise_causes": "rounds scatter by 41%"})
    result = cli("fold-export", network, "-o", tmp_path / "out", "--budget", "1s")
    assert "noisy machine: rounds scatter by 41%)" in result.stdout


def test_one_digest_never_fails(network: Path, tmp_path: Path, pretend: Callable[..., None]) -> None:
    """A file that is what was folded, byte for byte, is not slower than itself."""
    bnfold.fold_export(network, tmp_path / "first")
    pretend(1.5, 1.6, "slower")
    again = tmp_path / "first" / "model.onnx"
    report = bnfold.fold_export(again, tmp_path / "second", budget_s=1.0, fail_if_slower=0.03)
    assert (tmp_path / "second" / "model.onnx").read_bytes() == again.read_bytes()
    assert report.passed


def test_a_file_that_is_not_equal_is_not_measured(
    cli: Callable[..., Result], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnfold.folding import fold_model

    def fold_wrongly(model: Any, **_: bool) -> Any:
        ledger = fold_model(model)
        weight = model.graph.initializers["weight"]
        weight.const_value = type(weight.const_value)(weight.const_value.numpy() * np.float32(1.1), name="weight")
        return ledger

    monkeypatch.setattr("bnfold.folding.fold_model", fold_wrongly)
    monkeypatch.setattr("bnfold.benchmarking.bench_files", lambda *_, **__: pytest.fail("measured"))
    result = cli("fold-export", network, "-o", tmp_path / "out", "--budget", "1s", "--fail-if-slower", "3%")
    assert (result.exit_code, "is not equal" in result.stderr) == (1, True)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["timing"] is None


def test_what_cannot_be_measured(
    cli: Callable[..., Result], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning; but a limit that cannot be held is refused, and never passes for kept."""

    def refuse(*_: object, **__: object) -> None:
        raise InputRefused("cannot make values for input x")

    monkeypatch.setattr("bnfold.benchmarking.bench_files", refuse)
    result = cli("fold-export", network, "-o", tmp_path / "out", "--budget", "1s")
    assert (result.exit_code, json.loads((tmp_path / "out" / "report.json").read_text())["timing"]) == (0, None)
    assert "the time was not measured: cannot make values for input x" in result.stderr
    result = cli("fold-export", network, "-o", tmp_path / "other", "--budget", "1s", "--fail-if-slower", "3%")
    assert (result.exit_code, (tmp_path / "other").exists()) == (3, False)


def test_budgets_and_limits_that_are_none(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    for options in (("--budget", "0", "--fail-if-slower", "3%"), ("--budget", "-1s"), ("--budget", "soon")):
        assert cli("fold-export", network, "-o", tmp_path / "out", *options).exit_code == 2
    wrong: list[dict[str, Any]] = [
        {"budget_s": -1.0}, {"budget_s": float("nan")}, {"budget_s": True}, {"budget_s": "3s"},
        {"budget_s": 1.0, "fail_if_slower": -0.1}, {"budget_s": 0, "fail_if_slower": 0.03},
    ]  # fmt: skip
    for arguments in wrong:
        with pytest.raises(InputRefused, match=r"must be a number|needs a measurement"):
            bnfold.fold_export(network, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("graph", "shapes", "batch"),
    [
        ("(float[4, 2, 9] x) => (float[4, 2, 9] y) { y = Relu (x) }", None, 4),
        ("(float[N, 2, L] x) => (float[N, 2, L] y) { y = Relu (x) }", [(1, 2, 7)], 1),
        ("(float[N, 2, L] x, float s) => (float[N, 2, L] y) { y = Mul (x, s) }", [(1, 2, 7), ()], 1),
    ],
)
def test_it_is_measured_at_the_sizes_of_the_source(tmp_path: Path, graph: str, shapes: Any, batch: int) -> None:
    text = f'<ir_version: 9, opset_import: ["" : 17]> net {graph}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    seen: list[dict[str, Any]] = []

    report = bnfold.fold_export(
        tmp_path / "net.onnx", tmp_path / "out", input_shapes=shapes, budget_s=BRIEF, threads=1, progress=seen.append
    )
    assert report.timing is not None
    assert report.timing.batch == batch
    assert seen[-1] == "bench"


def entries(**ms: float) -> tuple[ProfileEntry, ...]:
    total = sum(ms.values())
    return tuple(ProfileEntry(name, value, value / total, 1) for name, value in ms.items())


def test_the_parts_that_lost_most() -> None:
    """By how much, not by how long they take; what lost less than a tenth of all that was lost is not named."""
    one = BenchProfile("folded", "CPU", 1, 1, "all", "online", 9, 1.0, (), ())
    made = replace(one, operators=entries(Conv=12.0, Reorder=1.0, Relu=0.2), layers=entries(a=9.0, b=4.0, c=1.0, d=0.5))
    other = replace(one, operators=entries(Conv=8.0, Relu=0.1, Clip=3.0), layers=entries(a=9.0, b=1.0, c=0.5, e=2.0))
    assert slower_parts(made, other) == (
        SlowerPart("Conv", "operator", 12.0, 8.0),
        SlowerPart("Reorder", "operator", 1.0, 0.0),
        SlowerPart("b", "layer", 4.0, 1.0),
        SlowerPart("c", "layer", 1.0, 0.5),
        SlowerPart("d", "layer", 0.5, 0.0),
    )
    assert slower_parts(other, other) == ()
    assert layer_times(made, other) == (
        LayerTime("a", 9.0, 9.0), LayerTime("b", 4.0, 1.0), LayerTime("e", None, 2.0), LayerTime("c", 1.0, 0.5),
        LayerTime("d", 0.5, None),
    )  # fmt: skip


def branches_and_dead_channels(path: Path) -> None:
    """conv(x) + BN(x), of which half of the channels are multiplied by 0, then a 1x1 convolution."""
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17]>
        net (float[N, 64, 6, 6] x) => (float[N, 4, 6, 6] y) {
          c = Conv <pads = [1, 1, 1, 1]> (x, w)
          b = BatchNormalization (x, gamma, beta, mean, var)
          s = Add (c, b)
          d = Conv (s, v)
          e = BatchNormalization (d, gamma2, beta, mean, var)
          r = Relu (e)
          y = Conv (r, u)
        }""")
    random = np.random.default_rng(3)
    values = {
        "w": random.normal(size=(64, 64, 3, 3)), "v": random.normal(size=(64, 64, 1, 1)),
        "u": random.normal(size=(4, 64, 1, 1)), "gamma": random.uniform(0.5, 2, 64),
        "gamma2": np.where(np.arange(64) < 32, 1.5, 0.0), "beta": random.normal(size=64),
        "mean": random.normal(size=64), "var": random.uniform(0.5, 2, 64),
    }  # fmt: skip
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, path)


@pytest.mark.parametrize("faster", [(), (CHANNELS_LEFT,), (BRANCHES_LEFT,), (CHANNELS_LEFT, BRANCHES_LEFT)])
def test_a_measurement_decides_about_channels_and_branches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: tuple[str, ...]
) -> None:
    """Whichever variant is taken, its parameters are those of a second fold made in the same way."""
    branches_and_dead_channels(tmp_path / "net.onnx")

    def pretended(rewrite: str, *_: Any, **__: Any) -> MeasuredChoice:
        found = (0.8, 0.7, 0.9, "faster") if rewrite in faster else (1.2, 1.1, 1.3, "slower")
        return MeasuredChoice(rewrite, rewrite in faster, "CPUExecutionProvider", 1.0, 1.0, *found)  # type: ignore[arg-type]  # a verdict

    monkeypatch.setattr(measured, "_measured", pretended)
    report = bnfold.fold_export(tmp_path / "net.onnx", tmp_path / "out", measure=True, threads=1)
    assert [(choice.rewrite, choice.taken) for choice in report.ledger.choices] == [
        (name, name in faster) for name in (CHANNELS_LEFT, BRANCHES_LEFT)
    ]
    written = onnx.load(tmp_path / "out" / "model.onnx").graph
    weights = sorted(tuple(tensor.dims) for tensor in written.initializer if len(tensor.dims) == 4)
    assert ((64, 64, 1, 1) in weights) == (CHANNELS_LEFT in faster)
    assert any(node.op_type == "Add" for node in written.node) == (BRANCHES_LEFT in faster)
    assert report.passed
    assert report.certificate is not None
    assert report.certificate.certified == report.certificate.regions


def test_without_measure_nothing_is_tried(tmp_path: Path) -> None:
    branches_and_dead_channels(tmp_path / "net.onnx")
    report = bnfold.fold_export(tmp_path / "net.onnx", tmp_path / "out")
    assert report.ledger.choices == ()
    assert (report.ledger.merged, report.ledger.absorbed) == (1, 1)
