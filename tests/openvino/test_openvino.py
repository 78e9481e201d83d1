"""`--provider openvino` on ten networks: verified, timed, and every node that computes on OpenVINO."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import bnfold
from bnfold.runtime import open_session, provider_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

pytestmark = pytest.mark.openvino

PROVIDER = "OpenVINOExecutionProvider"
NETWORKS = ("bnnet", "densenet", "mlp", "mobilenet", "preact_resnet", "repvgg", "resnet", "tcn", "unet", "vgg_bn")


@pytest.fixture(autouse=True)
def openvino() -> Any:
    """ONNX Runtime with OpenVINO; tests are skipped where another build is installed."""
    ort = pytest.importorskip("onnxruntime")
    if PROVIDER not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has no OpenVINO: scripts/test_openvino.sh installs one that has")
    return ort


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of the zoo, folded, with the plain export beside it; made on the CPU's own kernels."""
    folder = tmp_path_factory.mktemp(request.param)
    bnfold.fold_export(request.param, folder, keep_plain=True, budget_s=0, quick=True, force=True)
    return folder


def test_doctor_says_that_it_works(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--provider", "openvino", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"{PROVIDER} ran a model" in result.stdout


def test_verify_passes_on_openvino_alone(exported: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    report = tmp_path / "verify.json"
    result = cli(
        "verify", str(exported / "plain.onnx"), str(exported / "model.onnx"), "--provider", "openvino",
        "--threads", "1", "--json", str(report), "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    verdict = json.loads(report.read_text("utf-8"))
    assert verdict["n_compared"] > 0
    for execution in verdict["executions"]:
        assert execution["nodes"].get(PROVIDER, 0) > 0


def test_bench_proves_the_placement(exported: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    report = tmp_path / "bench.json"
    result = cli(
        "bench", str(exported / "model.onnx"), str(exported / "plain.onnx"), "--provider", "openvino", "--threads", "1",
        "--strict-provider", "--budget", "1", "--json", str(report), "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = json.loads(report.read_text("utf-8"))
    assert {run["provider"] for run in found["runs"]} == {PROVIDER}
    assert found["environment"]["openvino"] is not None
    for placement in found["placements"]:
        assert placement["nodes"][PROVIDER] > 0
        assert not any(node["computes"] for node in placement["elsewhere"])


def test_it_has_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    """OpenVINO takes every CPU unless told: the time of the process would be that of all of them."""
    import numpy as np

    bnfold.fold_export("vgg_bn", tmp_path, budget_s=0, quick=True)
    session = open_session(tmp_path / "model.onnx", provider="openvino", threads=1)
    (value,) = session.get_inputs()
    x = np.zeros([64, *value.shape[1:]], np.float32)
    session.run(None, {value.name: x})
    wall, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < 0.5:
        session.run(None, {value.name: x})
    assert (time.process_time() - cpu) / (time.perf_counter() - wall) < 1.3


def test_a_node_that_it_does_not_take_is_named(tmp_path: Path, cli: Callable[..., Result]) -> None:
    """An operator of ai.onnx.ml, which OpenVINO does not have."""
    import onnx
    import onnx.parser

    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        net (float[1, 4] x) => (float[1, 4] y) { h = Relu (x) y = ai.onnx.ml.Normalizer <norm = "L2"> (h) }
        """
    )
    model.graph.node[1].name = "norm"
    file = tmp_path / "net.onnx"
    onnx.save(model, file)
    result = cli("bench", str(file), "--provider", "openvino", "--strict-provider", "--budget", "0.5", "-q")
    assert result.exit_code == 1
    assert "compute nodes fell back to another provider" in result.stderr
    assert "norm (Normalizer)" in result.stderr


def test_a_session_that_must_be_exact_computes_in_float32() -> None:
    assert provider_spec("openvino").exact_options == {"precision": "FP32"}
