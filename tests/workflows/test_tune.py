"""`bnfold tune`: what it recommends, refuses and writes, and that the lines it prints are those of the session."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import bnfold
from bnfold.benchmarking import session_runs
from bnfold.benchmarking.axes import Cell
from bnfold.benchmarking.cold_start import ColdStart
from bnfold.benchmarking.halving import Measured, Tried
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.noise import CpuMeter, Noise
from bnfold.benchmarking.session_runs import SessionRuns
from bnfold.errors import InputRefused
from bnfold.records import InputSpec
from bnfold.records.tuning import SessionSettings
from bnfold.records.verdicts import decided
from bnfold.report.session_lines import session_lines
from bnfold.workflows import tune_decision
from bnfold.workflows.same_numbers import SameNumbers
from bnfold.workflows.session_files import session_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

DEFAULT = SessionSettings(threads=1)
OFFLINE = dataclasses.replace(DEFAULT, optimize="offline")
FLUSHED = dataclasses.replace(DEFAULT, denormals_as_zero=True)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs here, the machine is taken for quiet."""
    monkeypatch.setattr(CpuMeter, "noise_since", lambda *_arguments: Noise())


@pytest.mark.alone
def test_a_file_is_tuned_and_the_session_read_again(
    network: Path, tmp_path: Path, cli: Callable[..., Result], quiet: None
) -> None:
    session = tmp_path / "session.json"
    result = cli("tune", network, "--threads", "1", "--budget", "0.3", "--no-cold-starts", "-o", session, "-q")
    assert result.exit_code == 0, result.stderr
    assert "options.intra_op_num_threads = 1" in result.stdout
    assert "options.SetIntraOpNumThreads(1);" in result.stdout
    assert 'key: "intra_op_thread_count"' in result.stdout
    report = json.loads(session.read_text("utf-8"))
    assert report["schema"] == "bnfold.tune/1"
    (file,) = report["files"]
    names = {own["name"]: own for own in file["options"]}
    assert {"arena off", "mem_pattern off"} <= names.keys()
    assert file["n_measured"] >= 2
    measured = [own for own in file["options"] if own["outcome"] in ("tie", "slower", "faster", "recommended")]
    assert measured
    for own in measured:
        assert own["low"] <= own["ratio"] <= own["high"]
    if file["session"] != file["default"]:
        assert file["steady"]["high"] < 1
    assert session_settings(session, [network]).threads == 1
    assert bnfold.verify(network, network, session=session).passed


def test_an_existing_session_is_not_replaced(network: Path, cli: Callable[..., Result]) -> None:
    (network.parent / "session.json").write_text("mine")
    result = cli("tune", network, "--budget", "0.1", "-q")
    assert result.exit_code == 3
    assert "give --force to replace it" in result.stderr
    assert (network.parent / "session.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["none.onnx"], 3, "no such file"),
        (["--concurrency", "2"], 2, "--concurrency wants --mode throughput"),
        (["--budget", "0"], 2, "is not a time above 0"),
        (["--provider", "tensorrt"], 4, 'pip install "bnfold[tensorrt]"'),
        (["-o", "no/such/folder.json"], 3, "cannot write the report"),
    ],
)
def test_bad_input(network: Path, cli: Callable[..., Result], options: list[str], code: int, says: str) -> None:
    result = cli("tune", network, *options, "-q")
    assert result.exit_code == code
    assert says in result.stderr


def test_what_python_refuses(network: Path) -> None:
    with pytest.raises(InputRefused, match="nothing to tune"):
        bnfold.tune()
    with pytest.raises(InputRefused, match="one batch size"):
        bnfold.tune(network, batch=(1, 2))
    with pytest.raises(InputRefused, match="the mode must be"):
        bnfold.tune(network, mode="open-loop")


# Numbers


def numbers_of(file: Path, **options: Any) -> SameNumbers:
    (value,) = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_inputs()
    spec = InputSpec(value.name, tuple(size if isinstance(size, int) else None for size in value.shape), "float32")
    inputs = random_inputs([spec], {spec.name: spec.with_batch(1)}, 0)
    return SameNumbers(file, DEFAULT, inputs, None, {}, 1, 0, **options)


def test_a_session_that_computes_the_same_bits_is_accepted_without_more(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SameNumbers, "_by_criterion", lambda *_arguments: pytest.fail("asked"))
    assert numbers_of(network).refusal(dataclasses.replace(DEFAULT, arena=False)) is None


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sessions without a pattern of memory give outputs that are off by this factor."""

    def spoil(factor: float) -> None:
        real = ort.InferenceSession

        class Spoilt:
            def __init__(self, model: Any, **more: Any) -> None:
                self._own = real(model, **more)
                options = more.get("sess_options", ort.SessionOptions())
                self._is_spoilt = options.enable_cpu_mem_arena and not options.enable_mem_pattern

            def run(self, names: Any, feed: Any) -> Any:
                outputs = self._own.run(names, feed)
                return [output * output.dtype.type(factor) for output in outputs] if self._is_spoilt else outputs

            def __getattr__(self, name: str) -> Any:
                return getattr(self._own, name)

        monkeypatch.setattr(ort, "InferenceSession", Spoilt)

    return spoil


def test_other_bits_are_judged_by_the_criterion_of_verify(network: Path, rounding: Callable[[float], None]) -> None:
    changed = dataclasses.replace(DEFAULT, mem_pattern=False)
    rounding(1 + 2**-23)
    assert numbers_of(network).refusal(changed) is None
    rounding(1 + 2**-10)  # as much as TF32 leaves
    assert "its numbers leave the proof" in (numbers_of(network).refusal(changed) or "")


def test_a_session_is_judged_once(network: Path, rounding: Callable[[float], None]) -> None:
    rounding(1 + 2**-10)
    numbers, changed = numbers_of(network), dataclasses.replace(DEFAULT, mem_pattern=False)
    first = numbers.refusal(changed)
    numbers.file = network.parent / "gone.onnx"
    assert numbers.refusal(changed) == first


# Decisions


class Search:
    """A search that has run: what the last round measured, by session."""

    def __init__(self, *tried: tuple[SessionSettings, float, str], again: dict[str, float] | None = None) -> None:
        self.default, self.default_ms = DEFAULT, 10.0
        self.again = again or {}
        self.last = [
            Tried(own, 3, np.full((6, 2), ratio), Measured(ratio, ratio - 0.01, ratio + 0.01, 10 * ratio, verdict))
            for own, ratio, verdict in tried
        ]

    def confirm(self, settings: SessionSettings, _budget_s: float) -> Measured | None:
        """What the last round said, but for those of which `again` says another ratio."""
        (first,) = (own.measured for own in self.last if own.settings == settings)
        assert first is not None
        ratio = self.again.get(settings.name(DEFAULT), first.ratio)
        if ratio > 3:
            return None
        low, high = ratio - 0.01, ratio + 0.01
        return Measured(ratio, low, high, 10 * ratio, decided(low, high, may_name=True)[0])


class Runs:
    """Starts that take these milliseconds: the cold start, the steady state, and what the answers are."""

    def __init__(self, **times: tuple[float, float, str]) -> None:
        self._times = times
        self.asked: list[str] = []

    def cold_starts(self, sessions: Any, _budget_s: float) -> Any:
        self.asked = [own.name(DEFAULT) for own in sessions]
        found = []
        for own in sessions:
            key = "offline" if own.optimize == "offline" else "flushed" if own.denormals_as_zero else "other"
            load, steady, answers = self._times.get(key, self._times["other"])
            jitter = np.linspace(0.999, 1.001, 6)
            found.append([ColdStart(load * j, 1.0 * j, 30.0, steady_ms=steady * j, answers=answers) for j in jitter])
        return found


def decide(search: Search, runs: Runs) -> tune_decision.Decision:
    return tune_decision.decide(search, runs, seed=0, budget_s=1.0, confirmed_s=1.0)  # type: ignore[arg-type]


def test_a_graph_that_loads_faster_is_taken_offline_where_it_answers_no_slower() -> None:
    runs = Runs(other=(100.0, 10.0, "a"), offline=(20.0, 10.0, "a"))
    found = decide(Search((OFFLINE, 1.0, "tie")), runs)
    assert found.settings == OFFLINE
    assert found.cold is not None
    assert (found.cold.verdict, round(found.cold.ratio, 2)) == ("faster", 0.21)
    assert runs.asked == ["default", "optimize=offline", "denormals_as_zero on"]
    assert decide(Search((OFFLINE, 1.1, "slower")), runs).settings == DEFAULT
    assert decide(Search((OFFLINE, 1.0, "tie")), Runs(other=(100.0, 10.0, "a"))).settings == DEFAULT


def test_the_steady_state_decides_before_the_cold_start() -> None:
    faster = dataclasses.replace(DEFAULT, arena=False)
    twin = dataclasses.replace(faster, optimize="offline")
    runs = Runs(other=(100.0, 10.0, "a"), offline=(20.0, 10.0, "a"))
    search = Search((faster, 0.9, "faster"), (OFFLINE, 1.0, "tie"), (twin, 1.0, "tie"))
    assert decide(search, runs).settings == faster  # offline, it is not known to be faster than the default
    search = Search((faster, 0.9, "faster"), (OFFLINE, 1.0, "tie"), (twin, 0.9, "faster"))
    found = decide(search, runs)
    assert (found.settings, found.steady.verdict, found.steady.ratio) == (twin, "faster", 0.9)


TWO_THREADS = dataclasses.replace(DEFAULT, threads=2)


@pytest.mark.parametrize(
    ("again", "says"),
    [
        (1.6, "0.900 of the default's time at first, 1.600 (1.590 to 1.610) when it was measured again"),
        (1.0, "1.000 (0.990 to 1.010) when it was measured again"),
        (4.0, "several times slower when it was measured again"),
    ],
)
def test_what_is_not_faster_again_is_not_recommended(again: float, says: str) -> None:
    """A machine that others share for one period made a session of fewer threads look better than it is."""
    search = Search((TWO_THREADS, 0.9, "faster"), again={"threads=2": again})
    found = decide(search, Runs(other=(100.0, 10.0, "a")))
    assert (found.settings, found.steady.verdict) == (DEFAULT, "tie")
    assert says in found.unconfirmed["threads=2"]


def test_the_time_that_is_told_is_that_of_the_second_period() -> None:
    search = Search((TWO_THREADS, 0.9, "faster"), again={"threads=2": 0.95})
    found = decide(search, Runs(other=(100.0, 10.0, "a")))
    assert (found.settings, found.steady.ratio, found.unconfirmed) == (TWO_THREADS, 0.95, {})


def test_behind_one_that_is_not_confirmed_the_next_has_its_say() -> None:
    runs = Runs(other=(100.0, 10.0, "a"), offline=(20.0, 10.0, "a"))
    twin = dataclasses.replace(TWO_THREADS, optimize="offline")
    search = Search(
        (TWO_THREADS, 0.9, "faster"), (OFFLINE, 1.0, "tie"), (twin, 0.9, "faster"),
        again={twin.name(DEFAULT): 1.5, TWO_THREADS.name(DEFAULT): 1.5},
    )  # fmt: skip
    found = decide(search, runs)
    assert (found.settings, found.steady.verdict) == (OFFLINE, "tie")
    assert found.unconfirmed.keys() == {"threads=2, optimize=offline", "threads=2"}
    search = Search((OFFLINE, 1.0, "tie"), again={"optimize=offline": 1.2})
    assert decide(search, runs).settings == DEFAULT


def test_denormals_are_confirmed_in_processes_of_their_own() -> None:
    runs = Runs(other=(100.0, 10.0, "a"), flushed=(100.0, 5.0, "a"))
    real, n_asked = runs.cold_starts, 0

    def cold_starts(sessions: Any, budget_s: float) -> Any:
        nonlocal n_asked
        n_asked += 1
        if n_asked == 2:
            runs._times["flushed"] = (100.0, 10.0, "a")
        return real(sessions, budget_s)

    runs.cold_starts = cold_starts  # type: ignore[method-assign]
    found = decide(Search(), runs)
    assert found.settings == DEFAULT
    assert (found.denormals.outcome, n_asked) == ("unconfirmed", 3)  # type: ignore[union-attr]


def test_denormals_are_taken_where_they_help_and_change_no_bit() -> None:
    found = decide(Search(), Runs(other=(100.0, 10.0, "a"), flushed=(100.0, 5.0, "a")))
    assert found.settings == FLUSHED
    assert (found.steady.verdict, round(found.steady.ratio, 2), round(found.steady.median_ms)) == ("faster", 0.5, 5)
    found = decide(Search(), Runs(other=(100.0, 10.0, "a"), flushed=(100.0, 5.0, "b")))
    assert found.settings == DEFAULT
    assert found.denormals is not None
    assert (found.denormals.outcome, found.denormals.reason) == ("refused", tune_decision.DIFFERENT)
    found = decide(Search(), Runs(other=(100.0, 10.0, "a"), flushed=(100.0, 10.0, "a")))
    assert (found.settings, found.denormals.outcome) == (DEFAULT, "tie")  # type: ignore[union-attr]


@pytest.mark.cold_process
def test_a_process_of_its_own_takes_denormals_for_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this one ONNX Runtime has long decided: the answers of the process tell."""
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[1, 3] x) => (float[1, 3] y)'
    model = onnx.parser.parse_model(text + " { h = Mul (x, tiny) y = Mul (h, big) }")
    for name, value in {"tiny": 1e-39, "big": 1e38}.items():  # onnx before 1.23 parses no denormal
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    file = tmp_path / "tiny.onnx"
    onnx.save(model, file)
    spec = InputSpec("x", (1, 3), "float32")
    monkeypatch.setattr(session_runs, "MIN_LOADS", 1)  # one process of each
    runs = SessionRuns(file, Cell("cpu", 1, "all", None, 1), [spec], {"x": (1, 3)}, {}, tmp_path, 0)
    kept, flushed = (runs.cold_starts([own], 0.0)[0][0] for own in (DEFAULT, FLUSHED))
    assert kept.steady_ms is not None
    assert kept.answers != flushed.answers


# Lines


EVERYTHING = SessionSettings(
    threads=3, execution_mode="parallel", inter_op_threads=2, spinning=False, arena=False, mem_pattern=False,
    denormals_as_zero=True, opt_level="extended", disabled_optimizers=("NchwcTransformer",),
)  # fmt: skip


@pytest.mark.parametrize("optimize", ["online", "offline"])
def test_the_lines_in_python_set_the_session(network: Path, monkeypatch: pytest.MonkeyPatch, optimize: Any) -> None:
    monkeypatch.chdir(network.parent)
    place: dict[str, Any] = {}
    code = session_lines(dataclasses.replace(EVERYTHING, optimize=optimize), network.name)["python"]
    exec(code, place)  # noqa: S102  # the lines as a user would run them
    options = place["session"].get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    levels = ort.GraphOptimizationLevel
    expected = levels.ORT_DISABLE_ALL if optimize == "offline" else levels.ORT_ENABLE_EXTENDED
    assert options.graph_optimization_level == expected
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("optimization.disable_specified_optimizers") == "NchwcTransformer"
    assert (network.parent / "offline.onnx").exists() == (optimize == "offline")


def test_the_lines_in_cpp_and_of_triton() -> None:
    lines = session_lines(EVERYTHING, "model.onnx")
    for line in (
        "options.SetIntraOpNumThreads(3);", "options.SetExecutionMode(ORT_PARALLEL);", "options.DisableCpuMemArena();",
        "options.DisableMemPattern();", "options.SetGraphOptimizationLevel(ORT_ENABLE_EXTENDED);",
        'options.AddConfigEntry("session.set_denormal_as_zero", "1");',
        'Ort::Session session(env, ORT_TSTR("model.onnx"), options);',
    ):  # fmt: skip
        assert line in lines["cpp"].splitlines()
    assert 'parameters { key: "execution_mode" value: { string_value: "1" } }' in lines["triton"]
    assert "optimization { graph { level: 1 } }" in lines["triton"]
    assert "# Triton's onnxruntime backend has no parameter for session.set_denormal_as_zero=1" in lines["triton"]


def test_the_lines_of_other_providers() -> None:
    gpu = SessionSettings(provider="cuda", threads=1, cuda_graph=True, provider_options={"use_tf32": "0"})
    lines = session_lines(gpu, "model.onnx")
    assert "('CUDAExecutionProvider', {'use_tf32': '0', 'enable_cuda_graph': '1'})" in lines["python"]
    assert 'cuda.Update({{"use_tf32", "0"}, {"enable_cuda_graph", "1"}});' in lines["cpp"]
    assert 'gpu_execution_accelerator : [ { name : "cuda" parameters { key: "use_tf32" value: "0" }' in lines["triton"]
    host = session_lines(SessionSettings(provider="openvino", threads=2), "model.onnx")
    assert "AppendExecutionProvider_OpenVINO_V2" in host["cpp"]
    assert "'num_of_threads': '2'" in host["python"]
    assert 'cpu_execution_accelerator : [ { name : "openvino" } ]' in host["triton"]
