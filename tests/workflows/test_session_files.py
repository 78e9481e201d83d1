"""session.json: what it may hold, what is said of one that is damaged or of another machine, and that it is obeyed."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

import bnfold
from bnfold.errors import InputRefused
from bnfold.evaluation.contenders import open_contender
from bnfold.records import as_json
from bnfold.records.tuning import SessionSettings
from bnfold.runtime import environment
from bnfold.sources.digests import file_sha256
from bnfold.workflows.session_files import session_axes, session_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

RESTING = SessionSettings(
    threads=1, spinning=False, arena=False, mem_pattern=False, denormals_as_zero=True, opt_level="extended",
    disabled_optimizers=("ConvActivationFusion", "NchwcTransformer"),
)  # fmt: skip


def write(path: Path, *sessions: Any, machine: Any = None, schema: str = "bnfold.tune/1", digests: Any = ()) -> Path:
    """A session file; `machine` None is this one."""
    entries = [{"session": as_json(own)} for own in sessions]
    for entry, digest in zip(entries, digests, strict=False):
        entry["sha256"] = digest
    here = environment("cpu") if machine is None else machine
    path.write_text(json.dumps({"schema": schema, "machine": here, "files": entries}), encoding="utf-8")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The SessionOptions of every session that is opened."""
    found: list[Any] = []
    real = ort.InferenceSession

    def opened(model: Any, *arguments: Any, **more: Any) -> Any:
        found.append(more["sess_options"])
        return real(model, *arguments, **more)

    monkeypatch.setattr(ort, "InferenceSession", opened)
    return found


def obeys(options: Any) -> bool:
    """Whether a session was set up as RESTING says."""
    entry = options.get_session_config_entry
    try:
        return (
            options.intra_op_num_threads == 1
            and not options.enable_cpu_mem_arena
            and not options.enable_mem_pattern
            and options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            and entry("session.intra_op.allow_spinning") == "0"
            and entry("session.set_denormal_as_zero") == "1"
            and entry("optimization.disable_specified_optimizers") == "ConvActivationFusion;NchwcTransformer"
        )
    except RuntimeError:  # no such entry
        return False


def test_what_is_written_is_read(tmp_path: Path) -> None:
    own = dataclasses.replace(RESTING, provider_options={"a": "1"}, execution_mode="parallel", inter_op_threads=2)
    assert session_settings(write(tmp_path / "s.json", own)) == own
    assert session_settings(own) is own


def test_the_session_of_the_file_is_found_by_its_digest(tmp_path: Path, network: Path) -> None:
    other = dataclasses.replace(RESTING, threads=2)
    path = write(tmp_path / "s.json", RESTING, other, digests=("0" * 64, file_sha256(network)))
    assert session_settings(path, [network]) == other
    (tmp_path / "none.onnx").write_bytes(b"")
    with pytest.raises(InputRefused, match="of other files"):
        session_settings(path, [tmp_path / "none.onnx"])


def test_another_file_and_another_machine_are_warned_of(
    tmp_path: Path, network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = environment("cpu")
    write(tmp_path / "here.json", RESTING, digests=(file_sha256(network),))
    with caplog.at_level(logging.WARNING, "bnfold"):
        session_settings(tmp_path / "here.json", [network])
    assert caplog.messages == []
    write(tmp_path / "s.json", RESTING, machine={**here, "cpu": "Another CPU", "threads": 64}, digests=("0" * 64,))
    with caplog.at_level(logging.WARNING, "bnfold"):
        assert session_settings(tmp_path / "s.json", [network]) == RESTING
    assert f"cpu Another CPU, here {here['cpu']}; threads 64, here {here['threads']}" in caplog.messages[0]
    assert "tuned for another file" in caplog.messages[1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot read the session file"),
        ("[]", "the file is not a session file"),
        ('{"schema": "bnfold.bench/1"}', "found schema 'bnfold.bench/1', expected schema 'bnfold.tune/1'"),
        ('{"schema": "bnfold.tune/1", "fils": []}', "it has no 'files' in .*found 'fils'"),
        ('{"schema": "bnfold.tune/1", "files": {}}', "files must be a list"),
        ('{"schema": "bnfold.tune/1", "files": [3]}', "no object in .*files"),
        ('{"schema": "bnfold.tune/1", "files": [{"sesion": {}}]}', "it has no 'session' in .*found 'sesion'"),
        ('{"schema": "bnfold.tune/1", "files": [{"session": 1}]}', "session is no object"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputRefused, match=says):
        session_settings(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="cannot read the session file"):
        session_settings(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("session", "says"),
    [
        ({"spining": False}, "found 'spining', expected 'spinning', the nearest"),
        ({"denormal": True}, "expected 'denormals_as_zero', the nearest"),
        ({"provider": "tpu"}, "the session's provider must be cpu or .*, got 'tpu' in .*s.json"),
        ({"threads": 0}, "the session's threads must be a whole number from 1 to 1024, got 0 in .*s.json"),
        ({"threads": "two"}, "must be a whole number from 1 to 1024, got 'two'"),
        ({"threads": [1, 2]}, "must be a whole number from 1 to 1024"),
        ({"spinning": 1}, "spinning must be true or false, got 1"),
        ({"inter_op_threads": True}, "must be a whole number"),
        ({"inter_op_threads": None}, "must be a whole number"),
        ({"opt_level": "most"}, "must be disabled or basic or extended or all"),
        ({"disabled_optimizers": "NchwcTransformer"}, "must be a list of names"),
        ({"provider_options": {"use_tf32": 0}}, "must be texts by name"),
    ],
)
def test_a_key_or_value_that_there_is_not_is_refused(tmp_path: Path, session: Any, says: str) -> None:
    with pytest.raises(InputRefused, match=says):
        session_settings(write(tmp_path / "s.json", session))


def test_what_the_session_says_is_not_said_twice() -> None:
    axes = {"provider": "cpu", "threads": None, "opt_level": ("all",)}
    assert session_axes(None, [], **axes) == (axes, None)
    found, settings = session_axes(RESTING, [], **axes)
    assert found == {"provider": "cpu", "threads": 1, "opt_level": "extended"}
    assert settings == RESTING
    with pytest.raises(InputRefused, match=r"--threads beside --session; leave out --threads"):
        session_axes(RESTING, [], provider="cpu", threads=2)


def test_bench_measures_in_the_session(tmp_path: Path, network: Path, cli: Callable[..., Result], asked: Any) -> None:
    session = write(tmp_path / "s.json", RESTING, digests=(file_sha256(network),))
    result = cli("bench", str(network), "--session", str(session), "--budget", "0.2", "--json", "-", "-q")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["environment"]["session"] == as_json(RESTING)
    assert (report["runs"][0]["threads"], report["runs"][0]["opt_level"]) == (1, "extended")
    assert sum(map(obeys, asked)) >= 6  # each load; another one reads the inputs


def test_bench_refuses_threads_beside_it(tmp_path: Path, network: Path, cli: Callable[..., Result]) -> None:
    session = write(tmp_path / "s.json", RESTING)
    result = cli("bench", str(network), "--session", str(session), "--threads", "1", "-q")
    assert result.exit_code == 3
    assert "leave out --threads" in result.stderr


def test_verify_judges_the_session(tmp_path: Path, network: Path, asked: Any) -> None:
    assert bnfold.verify(network, network, session=write(tmp_path / "s.json", RESTING)).passed
    assert any(map(obeys, asked))
    asked.clear()
    assert bnfold.verify(network, network).passed
    assert not any(map(obeys, asked))


def test_verify_runs_the_file_that_is_written_offline(tmp_path: Path, network: Path, asked: Any) -> None:
    settings = SessionSettings(threads=1, optimize="offline")
    verdict = bnfold.verify(network, network, session=settings)
    assert verdict.passed
    assert any(options.optimized_model_filepath.endswith("offline.onnx") for options in asked)


def test_a_session_whose_numbers_are_wrong_does_not_pass(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that computes in less precision, as one of TF32 would."""
    real = ort.InferenceSession

    class Coarse:
        def __init__(self, model: Any, **more: Any) -> None:
            self._own = real(model, **more)
            self._is_coarse = not more["sess_options"].enable_mem_pattern and more["sess_options"].enable_cpu_mem_arena

        def run(self, names: Any, feed: Any) -> Any:
            outputs = self._own.run(names, feed)
            return (
                [output.astype(np.float16).astype(output.dtype) for output in outputs] if self._is_coarse else outputs
            )

        def __getattr__(self, name: str) -> Any:
            return getattr(self._own, name)

    monkeypatch.setattr(ort, "InferenceSession", Coarse)
    assert not bnfold.verify(network, network, session=SessionSettings(threads=1, mem_pattern=False)).passed
    assert bnfold.verify(network, network, session=SessionSettings(threads=1)).passed


@pytest.mark.parametrize("optimize", ["online", "offline"])
def test_evaluate_opens_files_in_the_session(network: Path, asked: Any, optimize: Any) -> None:
    settings = dataclasses.replace(RESTING, optimize=optimize)
    contender = open_contender(
        str(network), provider="cpu", threads=1, classes=None, normalize=None, settings=settings
    )  # fmt: skip
    levels = ort.GraphOptimizationLevel
    expected = levels.ORT_DISABLE_ALL if optimize == "offline" else levels.ORT_ENABLE_EXTENDED
    assert asked[-1].graph_optimization_level == expected
    assert (asked[-1].enable_mem_pattern, asked[-1].intra_op_num_threads) == (False, 1)
    spec = contender.inputs[0]
    rows = np.zeros(spec.with_batch(2), spec.dtype)
    (plain,) = open_contender(str(network), provider="cpu", threads=1, classes=None, normalize=None).run([rows])
    (found,) = contender.run([rows])
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)


def test_evaluate_takes_the_session_in_place_of_threads(tmp_path: Path, network: Path) -> None:
    session = write(tmp_path / "s.json", RESTING)
    with pytest.raises(InputRefused, match="leave out --threads"):
        bnfold.evaluate(network, data="digits", session=session, threads=2)
