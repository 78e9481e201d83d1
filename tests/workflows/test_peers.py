"""Peers are built from the same source, give its answers, and are named where they are missing."""

from __future__ import annotations

from importlib.util import find_spec as find
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest

from bnfold.benchmarking.axes import Cell
from bnfold.sources import load_source
from bnfold.workflows import peers as peers_module
from bnfold.workflows.benchmark import bench
from bnfold.workflows.peers import build_peers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

FILES = ("plain", "onnxsim", "onnxslim", "ort-offline")
CELL = Cell("cpu", 1, "all", None, 2)


def test_files_of_peers_compute_the_source(network: Path, tmp_path: Path) -> None:
    built, missing = build_peers(FILES, load_source(str(network)), tmp_path / ".")
    assert sorted([*(subject.name for subject in built), *(peer.name for peer in missing)]) == sorted(FILES)
    assert [peer.name for peer in missing] == [name for name in ("onnxslim",) if find(name) is None]
    x = np.random.default_rng(0).normal(size=(2, 2, 6, 6)).astype(np.float32)
    (expected,) = ort.InferenceSession(str(network)).run(None, {"x": x})
    for subject in built:
        (answer,) = ort.InferenceSession(str(subject.file)).run(None, {"x": x})
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5, err_msg=subject.name)


def test_torch_runs_the_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    source = load_source("bnnet")
    (peer,), missing = build_peers(["torch"], source, tmp_path)
    assert missing == []
    seen = []
    source.module.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0]))  # type: ignore[union-attr]
    (spec,) = source.inputs
    values = np.ones(spec.with_batch(3), np.float32)
    n_threads = torch.get_num_threads()
    try:
        runner = peer.opener(CELL, {spec.name: values})
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(n_threads)
    before = len(seen)
    assert len(runner.block_ms(3)) == 3
    assert len(seen) >= before + 4
    np.testing.assert_array_equal(seen[-1].numpy(), values)


def test_what_is_missing_is_named(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "find_spec", lambda name: None if name == "openvino" else find(name))
    monkeypatch.setattr(peers_module, "write_offline", lambda *_args: 1 / 0)
    built, missing = build_peers(["openvino", "ort-offline", "torch", "plain"], load_source(str(network)), tmp_path)
    assert [subject.name for subject in built] == ["plain"]
    assert [(peer.name, peer.reason) for peer in missing] == [
        ("openvino", "the package openvino is not installed"),
        ("ort-offline", "ZeroDivisionError: division by zero"),
        ("torch", "the source is not a PyTorch network"),
    ]


def test_peers_stand_in_the_table(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "find_spec", lambda name: None if name == "openvino" else find(name))
    twin = network.rename(network.with_name("plain.onnx"))
    report = bench(twin, against=["plain", "openvino"], source=str(twin), threads=1, budget_s=0.1)
    assert [run.name for run in report.runs] == ["plain", "plain (built)"]
    assert [(ratio.a, ratio.b) for ratio in report.ratios] == [("plain", "plain (built)")]
    assert [peer.name for peer in report.missing] == ["openvino"]


@pytest.mark.parametrize(("rival", "code"), [("openvino", 4), ("plain", 3), ("plain (built)", 0)])
def test_a_gate_against_a_peer(
    rival: str, code: int, cli: Callable[..., Result], network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot take part, or has another name beside a file of its name, made no gate: exit code 0."""
    monkeypatch.setattr(peers_module, "find_spec", lambda name: None if name == "openvino" else find(name))
    twin = network.rename(network.with_name("plain.onnx"))
    options = ("--against", "plain,openvino", "--source", twin, "--threads", "1", "--budget", "0.1")
    result = cli("bench", twin, *options, "--fail-if-slower-than", rival, "--fail-if-slower", "900%")
    assert result.exit_code == code, result.stderr
    assert ("error: " in result.stderr) == bool(code)
    assert ("plain / plain (built) (batch 1, 1 thread, all, cpu): " in result.stdout) == (code == 0)


def test_peers_want_a_source(cli: Callable[..., Result], network: Path) -> None:
    assert cli("bench", network, "--against", "plain").exit_code == 2


def test_int8_of_the_runtime_is_a_peer_in_time_and_accuracy(network: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(24, 2, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    report = bench(
        network, against=["ort-static", "ort-static-best"], source=str(network), inputs=tmp_path / "x.npz",
        threads=1, budget_s=0.1,
    )  # fmt: skip
    assert report.missing == ()
    assert [run.name for run in report.runs] == [network.stem, "ort-static", "ort-static-best"]
    losses = {loss.name: loss.sqnr_db for loss in report.losses}
    assert losses[network.stem] > 100  # the plain export says the same
    assert 5 < losses["ort-static"] < 60
    assert losses["ort-static-best"] > losses["ort-static"]


def test_int8_of_the_runtime_wants_samples(network: Path) -> None:
    report = bench(network, against=["ort-static"], source=str(network), threads=1, budget_s=0.1)
    assert [(peer.name, peer.remedy) for peer in report.missing] == [
        ("ort-static", "give them with --inputs or --data")
    ]
    assert report.losses == ()


def test_samples_are_for_peers_in_int8(cli: Callable[..., Result], network: Path) -> None:
    result = cli("bench", network, "--against", "plain", "--source", network, "--data", "digits")
    assert result.exit_code == 2
    assert "--inputs and --data are for --against ort-static" in result.stderr
