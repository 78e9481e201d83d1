"""`bnfold fold-export` end to end: the files, the report, the gate, and that nothing half-written stays."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.export import plain_graph
from bnfold.folding import fold_model
from bnfold.records import Ledger, RemovedChannels, as_json
from bnfold.sources import load_source
from bnfold.workflows.accounts import fold_accounted
from bnfold.workflows.stages import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx_ir as ir
    from click.testing import Result

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(bnfold.__file__).parents[1])}
STAGE_FUNCTIONS = {
    "load": "bnfold.sources.load_source",
    "export": "bnfold.export.plain_export",
    "fold": "bnfold.folding.fold_model",
    "simplify": "bnfold.export.finish",
    "write": "bnfold.export.save",
    "verify": "bnfold.verification.verify_file",
    "report": "bnfold.report.write_json",
}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def interrupt(*_args: object, **_kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def wrong_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold core with a fault: the first weight it leaves is one per cent too large."""

    def fold_wrongly(model: ir.Model, **_: bool) -> Ledger:
        import onnx_ir as ir

        ledger = fold_model(model)
        weight = next(value for value in model.graph.initializers.values() if value.const_value.size > 4)
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.01), name=weight.name)
        return ledger

    monkeypatch.setattr("bnfold.folding.fold_model", fold_wrongly)


def test_files_and_report(network: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    report = bnfold.fold_export(network, output)
    assert names(output) == ["model.onnx", "report.json"]
    assert read_report(output) == as_json(report)
    assert report.passed
    assert [*report.seconds, "bench"] == list(STAGES)  # no budget: nothing is measured
    assert report.timing is None
    content = (output / "model.onnx").read_bytes()
    assert report.output is not None
    assert report.output.path == "model.onnx"
    assert report.output.bytes == len(content)
    assert report.output.sha256 == hashlib.sha256(content).hexdigest()
    assert report.source.sha256 == hashlib.sha256(network.read_bytes()).hexdigest()
    assert (report.ledger.found, report.ledger.absorbed, report.ledger.kept) == (1, 1, 0)
    assert (report.graph.nodes_before, report.graph.nodes_after, report.graph.batchnorm_after) == (3, 2, 0)
    assert report.verify.n_compared > 0
    assert [node.op_type for node in onnx.load(output / "model.onnx").graph.node] == ["Conv", "Relu"]


def test_report_has_the_public_fields(network: Path, tmp_path: Path) -> None:
    bnfold.fold_export(network, tmp_path / "output")
    report = read_report(tmp_path / "output")
    assert report["schema"] == "bnfold.fold-export/1"
    expected = {
        "source": {"spec", "sha256", "n_parameters"},
        "output": {"path", "sha256", "opset", "ir_version", "bytes"},
        "ledger": {"found", "absorbed", "merged", "removed", "kept", "entries"},
        "graph": {"nodes_before", "nodes_after", "batchnorm_after", "macs_before", "macs_after"},
        "verify": {
            "passed",
            "n_compared",
            "providers",
            "batches",
            "outputs",
            "decided_by",
            "ill_conditioned",
            "judged_as",
        },
        "removed_channels": set(),
        "seconds": {"load", "export", "fold", "simplify", "verify"},
    }
    assert {key: set(report[key]) >= fields for key, fields in expected.items()} == dict.fromkeys(expected, True)
    assert set(report["ledger"]["entries"][0]) >= {
        "name", "outcome", "into", "reason", "cause", "held_by", "max_abs_scale", "min_var_over_eps", "n_dead_channels"
    }  # fmt: skip
    assert set(report["verify"]["outputs"][0]) >= {"name", "e_source", "e_output", "allowed"}


@pytest.fixture
def sparse_network(tmp_path: Path) -> Path:
    """A convolution of 48 channels, of which 7 are alive, and one that reads it."""
    file = tmp_path / "sparse.py"
    file.write_text(
        """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 48, 3), nn.BatchNorm2d(48), nn.ReLU(), nn.Conv2d(48, 4, 3))
    nn.init.uniform_(network[1].running_mean)
    network[1].weight.data[7:] = 0
    return network.eval()
"""
    )
    return file


@pytest.mark.parametrize(("provider", "left"), [("cpu", 16), ("cuda", 8)])
def test_blocks_of_dead_channels_depend_on_the_provider(provider: str, left: int, sparse_network: Path) -> None:
    source = load_source(f"{sparse_network}:build", input_shapes=[(1, 3, 8, 8)])
    ledger = fold_accounted(plain_graph(source), provider=provider)
    assert ledger.removed_channels == (RemovedChannels("0", 48, left),)


def test_removed_channels_are_reported(cli: Callable[..., Result], sparse_network: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    source = (f"{sparse_network}:build", "--input-shape", "1x3x8x8")
    result = cli("fold-export", *source, "-o", output, "--html")
    assert result.exit_code == 0, result.output
    assert "dead channels: 32 removed, of 48 in 1 layer\n  0: 48 to 16\n" in result.stdout
    assert read_report(output)["removed_channels"] == [{"layer": "0", "from": 48, "to": 16}]
    assert "Dead channels that were removed" in (output / "report.html").read_text()
    inspected = cli("inspect", *source, "--json", "-")
    assert json.loads(inspected.stdout)["removed_channels"] == [{"layer": "0", "from": 48, "to": 16}]


def test_command_prints_results_on_stdout_and_stages_on_stderr(
    cli: Callable[..., Result], network: Path, tmp_path: Path
) -> None:
    result = cli("fold-export", network, "-o", tmp_path / "output")
    assert result.exit_code == 0
    assert "1 found, 1 absorbed" in result.stdout
    assert "equal: " in result.stdout
    assert result.stderr.split() == list(STAGES[:-1])


def test_json_on_stdout_is_the_report_and_nothing_else(
    cli: Callable[..., Result], network: Path, tmp_path: Path
) -> None:
    result = cli("fold-export", network, "-o", tmp_path / "output", "--json", "-", "--quiet")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == read_report(tmp_path / "output")
    assert result.stderr == ""


def test_network_without_batchnorm(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    bnfold.fold_export(network, tmp_path / "first")
    result = cli("fold-export", tmp_path / "first" / "model.onnx", "-o", tmp_path / "second")
    assert result.exit_code == 0
    assert "0 found" in result.stdout
    ledger = read_report(tmp_path / "second")["ledger"]
    assert (ledger["found"], ledger["entries"]) == (0, [])
    assert names(tmp_path / "second") == ["model.onnx", "report.json"]


def test_external_data_of_the_source_goes_into_the_file(network: Path, tmp_path: Path) -> None:
    bnfold.fold_export(network, tmp_path / "inside")
    folder = tmp_path / "source"
    folder.mkdir()
    onnx.save_model(
        onnx.load(network), folder / "network.onnx", save_as_external_data=True, location="weights", size_threshold=0
    )
    assert (folder / "weights").stat().st_size > 0
    bnfold.fold_export(folder / "network.onnx", tmp_path / "outside", keep_plain=True)
    assert names(tmp_path / "outside") == ["model.onnx", "plain.onnx", "report.json"]
    inside, outside = ((tmp_path / name / "model.onnx").read_bytes() for name in ("inside", "outside"))
    assert inside == outside


def test_keep_plain_of_an_onnx_source_is_the_source(network: Path, tmp_path: Path) -> None:
    bnfold.fold_export(network, tmp_path / "output", keep_plain=True)
    assert names(tmp_path / "output") == ["model.onnx", "plain.onnx", "report.json"]
    plain = onnx.load(tmp_path / "output" / "plain.onnx")
    assert [node.op_type for node in plain.graph.node] == ["Conv", "BatchNormalization", "Relu"]


def test_force_replaces(network: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    bnfold.fold_export(network, output, keep_plain=True)
    bnfold.fold_export(network, output, force=True)
    assert names(output) == ["model.onnx", "report.json"]


@pytest.mark.usefixtures("wrong_fold")
@pytest.mark.parametrize("keep_failed", [False, True])
def test_failed_gate_leaves_the_report_and_no_model(
    cli: Callable[..., Result], network: Path, tmp_path: Path, keep_failed: bool
) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "model.onnx").write_text("an older one")
    arguments = ["--force", "--keep-plain", *(["--keep-failed"] if keep_failed else [])]
    result = cli("fold-export", network, "-o", output, *arguments)
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "not equal" in line
    assert "report.json" in line
    assert "Traceback" not in result.stderr
    assert "NOT equal" in result.stdout
    kept = ["model.failed.onnx"] if keep_failed else []
    assert names(output) == [*kept, "report.json", "reproduction"]
    report = read_report(output)
    assert report["verify"]["departure"]["reproduction"] == "reproduction"
    assert (output / "reproduction" / "reproduce.py").is_file()
    assert (report["passed"], report["output"], report["verify"]["passed"]) == (False, None, False)


@pytest.mark.usefixtures("wrong_fold")
def test_failed_gate_in_python_returns_the_report(network: Path, tmp_path: Path) -> None:
    report = bnfold.fold_export(network, tmp_path / "output")
    assert not report.passed
    assert not report.verify
    assert report.verify.failure


def test_ledger_that_forgets_a_batchnorm_is_an_internal_error(
    cli: Callable[..., Result], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfold.folding.fold_pass.account", lambda *_: Ledger(()))
    result = cli("fold-export", network, "-o", tmp_path / "output")
    assert result.exit_code == 70
    assert "the graph had 1 BatchNorms, the ledger has 0" in result.stderr
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("stage", STAGE_FUNCTIONS)
@pytest.mark.parametrize("existing", [False, True])
def test_interrupt_at_each_stage_leaves_the_folder_as_it_was(
    cli: Callable[..., Result], network: Path, monkeypatch: pytest.MonkeyPatch, stage: str, existing: bool
) -> None:
    output = network.parent / "output"
    if existing:
        output.mkdir()
        (output / "model.onnx").write_text("an older one")
    monkeypatch.setattr(STAGE_FUNCTIONS[stage], interrupt)
    result = cli("fold-export", network, "-o", output, "--force")
    assert result.exit_code == 130
    assert [line for line in result.stderr.splitlines() if line.startswith("error: interrupted")]
    assert "Traceback" not in result.stderr
    if existing:
        assert names(output) == ["model.onnx"]
        assert (output / "model.onnx").read_text() == "an older one"
    else:
        assert not output.exists()


def test_sigint_of_a_running_command(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\ndef factory():\n    pathlib.Path('ready').touch()\n    time.sleep(120)\n"
    )
    arguments = ["fold-export", "slow.py:factory", "--input-shape", "1x3", "-o", "deep/output"]
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bnfold", *arguments],
            cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, inherited)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    assert list((tmp_path / "deep" / "output").iterdir())
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in stderr
    assert not (tmp_path / "deep").exists()


def test_another_process_with_other_hashes_writes_the_same_bytes(tmp_path: Path, cli: Callable[..., Result]) -> None:
    command = ("fold-export", "resnet", "--budget", "0", "--keep-plain", "-o")
    assert cli(*command, tmp_path / "here").exit_code == 0
    subprocess.run(
        [sys.executable, "-m", "bnfold", *command, tmp_path / "there"],
        cwd=tmp_path, env={**ENVIRONMENT, "PYTHONHASHSEED": "1"}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name in ("model.onnx", "plain.onnx"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


def test_no_path_of_this_machine_in_the_file(network: Path, tmp_path: Path) -> None:
    bnfold.fold_export(network, tmp_path / "output")
    content = (tmp_path / "output" / "model.onnx").read_bytes()
    assert str(tmp_path).encode() not in content
    assert str(Path.home()).encode() not in content
    assert {numpy_helper.to_array(tensor).dtype for tensor in onnx.load_from_string(content).graph.initializer} == {
        np.dtype(np.float32)
    }
