"""`bnfold bench`: tables or JSON on standard output, progress on standard error, the contract's exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import onnx.parser
import pytest

import bnfold
from bnfold.benchmarking.noise import Noise
from bnfold.cli.quantities import Seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

QUICK = ("--budget", "0.1", "--threads", "1")


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.onnx"
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def test_tables_and_a_json_file(cli: Callable[..., Result], relu: Path, tmp_path: Path) -> None:
    result = cli("bench", relu, relu, *QUICK, "--json", tmp_path / "bench.json")
    assert result.exit_code == 0
    assert "relu / relu#2" in result.stdout
    assert "bench: 100 %" in result.stderr
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert report["schema"] == "bnfold.bench/1"
    assert [run["name"] for run in report["runs"]] == ["relu", "relu#2"]


def test_json_on_standard_output_is_alone(cli: Callable[..., Result], relu: Path) -> None:
    result = cli("bench", relu, *QUICK, "--batch", "1,2", "--json", "-")
    assert [run["batch"] for run in json.loads(result.stdout)["runs"]] == [1, 2]


@pytest.mark.parametrize("command", ["bench", "inspect", "fold-export", "verify"])
def test_a_file_that_is_read_is_not_overwritten(
    command: str, cli: Callable[..., Result], relu: Path, tmp_path: Path
) -> None:
    before = relu.read_bytes()
    other = {"fold-export": ("-o", tmp_path / "out"), "verify": (relu,)}.get(command, ())
    result = cli(command, relu, *other, "--json", relu)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--json names" in result.stderr
    assert relu.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["relu.onnx"]


def test_a_budget_that_is_not_kept_is_said(cli: Callable[..., Result], relu: Path) -> None:
    assert "more than the budget: 6 session restarts are the least" in cli("bench", relu, "--budget", "1ms").stderr


def test_a_grid(cli: Callable[..., Result], relu: Path) -> None:
    result = cli(
        "bench", relu, "--threads", "1,2", "--opt-level", "basic", "--provider", "cpu", "--input-shape", "1x3",
        "--budget", "200ms", "--json", "-",
    )  # fmt: skip
    report = json.loads(result.stdout)
    assert report["environment"]["budget_s"] == 0.2
    assert [(run["threads"], run["opt_level"]) for run in report["runs"]] == [(1, "basic"), (2, "basic")]
    table = cli("bench", relu, "--opt-level", "basic,all", *QUICK).stdout
    assert "relu [basic]" in table
    assert "relu [all]" in table


@pytest.mark.parametrize(
    "options",
    [
        ("--threads", "0"),
        ("--opt-level", "fast"),
        ("--opt-level", "all,all"),
        ("--provider", "cpu,tpu"),
        ("--budget", "0s"),
        ("--budget", "soon"),
        ("--input-shape", "1x3,1x4", "--input-shape", "1x3"),
        ("--mode", "fast"),
        ("--concurrency", "2"),
        ("--slo-p95", "5ms"),
        ("--optimize", "never"),
        ("--cuda-graph",),
        ("--threads", "1,1"),
        ("--baseline", "then.json"),
        ("--baseline", "then.json", "--fail-if-slower-than", "plain"),
        ("--source", "net.onnx"),
        ("--weights", "net.safetensors"),
        ("--pretrained",),
        ("--cuda-graph", "--provider", "cuda", "--mode", "throughput"),
    ],
)
def test_wrong_axes_are_usage_errors(options: tuple[str, ...], cli: Callable[..., Result], relu: Path) -> None:
    result = cli("bench", relu, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


def test_load_modes_and_the_offline_axis(cli: Callable[..., Result], relu: Path) -> None:
    result = cli("bench", relu, *QUICK, "--mode", "open-loop", "--slo-p95", "500us", "--json", "-")
    assert result.exit_code == 2  # not a unit
    result = cli(
        "bench", relu, *QUICK, "--mode", "open-loop", "--slo-p95", "0.5ms", "--concurrency", "1", "--json", "-"
    )
    (run,) = json.loads(result.stdout)["runs"]
    assert (run["mode"], run["slo_p95_ms"], run["concurrency"], len(run["rates_per_s"])) == ("open-loop", 0.5, 1, 2)
    table = cli("bench", relu, *QUICK, "--mode", "throughput", "--optimize", "online,offline").stdout
    assert "relu [offline]" in table


@pytest.mark.parametrize(("text", "seconds"), [("60", 60.0), ("60s", 60.0), ("1.5m", 90.0), ("500ms", 0.5), (2, 2.0)])
def test_times_with_a_unit(text: str, seconds: float) -> None:
    assert Seconds().convert(text, None, None) == seconds


@pytest.mark.slow
@pytest.mark.alone
def test_ctrl_c_prints_what_was_measured_so_far(relu: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bnfold", "bench", relu, relu, "--budget", "600", "--threads", "1", "-v"]
    process = subprocess.Popen(
        [*command, "--json", tmp_path / "part.json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(bnfold.__file__).parents[1])},
    )  # fmt: skip
    assert process.stderr is not None
    assert any("session 1 of" in line for line in process.stderr)  # reads on until there is such a line
    time.sleep(2)  # a round takes some hundredths of a second
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "relu / relu#2" in stdout
    assert "interrupted: this is what was measured so far" in stdout
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    report = json.loads((tmp_path / "part.json").read_text(encoding="utf-8"))
    assert (report["complete"], len(report["runs"])) == (False, 2)
    assert report["ratios"][0]["verdict"] in {"tie", "undecided"}  # too few session restarts to name a winner


@pytest.mark.alone
def test_gates(cli: Callable[..., Result], relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a baseline of ten times and of a tenth of today's time: clear cases, if the machine is quiet."""
    monkeypatch.setattr("bnfold.benchmarking.noise.CpuMeter.noise_since", lambda *_args: Noise())
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    (tmp_path / "step.md").write_text("before\n")
    now = tmp_path / "now.json"
    assert cli("bench", relu, *QUICK, "--json", now).exit_code == 0
    report = json.loads(now.read_text(encoding="utf-8"))
    gate = ("--fail-if-slower", "3%", "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m.md")
    for factor, code in ((10.0, 0), (0.1, 1)):
        (run,) = json.loads(json.dumps(report["runs"]))
        run["sha256"] = "of another file"
        run["median_ms"] *= factor
        run["intervals"]["median_ms"] = [value * factor for value in run["intervals"]["median_ms"]]
        then = tmp_path / "then.json"
        then.write_text(json.dumps({**report, "runs": [run]}), encoding="utf-8")
        result = cli("bench", relu, *QUICK, "--baseline", then, *gate)
        assert result.exit_code == code, result.stderr
        assert ("failed" if code else "passed") in result.stdout.splitlines()[-1]
        assert (b"<failure" in (tmp_path / "j.xml").read_bytes()) == bool(code)
        assert (tmp_path / "step.md").read_text().endswith((tmp_path / "m.md").read_text())
    assert result.stderr.splitlines()[-1].startswith("error: slower than allowed in relu / baseline")
    assert (tmp_path / "step.md").read_text().startswith("before\n")
    then.write_text(json.dumps({**report, "runs": [{**run, "sha256": report["runs"][0]["sha256"]}]}), encoding="utf-8")
    result = cli("bench", relu, *QUICK, "--baseline", then, *gate)
    assert (result.exit_code, "passed: it is the same file" in result.stdout) == (0, True), result.stdout


@pytest.mark.parametrize("place", ["absent/file.svg", "folder.svg"])
@pytest.mark.parametrize("option", ["--junit", "--markdown", "--html", "--picture", "--json", "GITHUB_STEP_SUMMARY"])
def test_files_are_checked_before_the_measurement(
    option: str, place: str, *, cli: Callable[..., Result], relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_files: object, **_options: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("bnfold.workflows.benchmark.bench", measure)
    (tmp_path / "folder.svg").mkdir()
    path = tmp_path / place
    if option.startswith("--"):
        result = cli("bench", relu, option, path)
    else:
        monkeypatch.setenv(option, str(path))
        result = cli("bench", relu)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: cannot write the report in {path}: found ")


WRITTEN = ("--junit", "--markdown", "--json", "--html", "--picture")


@pytest.mark.parametrize("absent", [*WRITTEN, "GITHUB_STEP_SUMMARY"])
def test_what_cannot_be_written_leaves_the_rest(
    absent: str, cli: Callable[..., Result], relu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of one file goes while the measurement runs."""
    monkeypatch.setattr("bnfold.cli.outputs.require_writable", lambda _path: None)
    monkeypatch.setattr("bnfold.cli.summaries.require_writable", lambda _path: None)
    (tmp_path / "there").mkdir()
    places = {name: tmp_path / ("absent" if name == absent else "there") / f"{name}.svg" for name in WRITTEN}
    summary = tmp_path / ("there" if absent in WRITTEN else "absent") / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = cli("bench", relu, *QUICK, *(part for name, path in places.items() for part in (name, path)))
    assert result.exit_code == 3
    assert "relu" in result.stdout
    assert "error: cannot write the " in result.stderr
    written = {path.name for path in (tmp_path / "there").iterdir()}
    assert written == {path.name for path in (*places.values(), summary) if path.parent.name == "there"}


def test_gates_without_a_rival(cli: Callable[..., Result], relu: Path) -> None:
    assert cli("bench", relu, "--fail-if-slower", "3%").exit_code == 2
    assert cli("bench", relu, "--fail-if-slower", "much", "--baseline", "x").exit_code == 2
    unknown = cli("bench", relu, relu, "--fail-if-slower-than", "plain")
    assert unknown.exit_code == 3
    assert "expected relu#2" in unknown.stderr


def test_no_files_is_a_usage_error(cli: Callable[..., Result]) -> None:
    assert cli("bench").exit_code == 2


def test_a_truncated_file(cli: Callable[..., Result], relu: Path) -> None:
    relu.write_bytes(relu.read_bytes()[:-20])
    result = cli("bench", relu, "-q")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: ONNX Runtime does not load it in {relu}: found ")
    assert result.stderr.count("\n") == 1


def test_a_provider_that_does_not_load(cli: Callable[..., Result], relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    result = cli("bench", relu, "--provider", "cuda", "-q")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("error: the provider CUDAExecutionProvider does not load: found a build with ")


@pytest.mark.parametrize(
    ("builds", "says"), [({}, "is not installed"), ({"onnxruntime": "1", "onnxruntime-gpu": "1"}, "more than once")]
)
def test_no_build_or_two(
    builds: dict[str, str], says: str, cli: Callable[..., Result], relu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfold.runtime.packages.installed_builds", lambda: builds)
    monkeypatch.setattr("bnfold.runtime.packages.find_spec", lambda _name: None)
    result = cli("bench", relu, "-q")
    assert result.exit_code == 4
    assert says in result.stderr
    assert 'pip install "bnfold[cpu]"`' in result.stderr
