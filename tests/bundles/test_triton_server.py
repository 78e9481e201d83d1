"""A bundle for Triton on a real server: it reads the repository, warms up, batches, and its answers pass check.py.

The server is that of the package nvidia-pytriton, which has no backend for ONNX files: `triton_backend` stands for it.
scripts/test_triton.sh installs both; TRITON_PYTHON is the Python of their environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.deployment, pytest.mark.slow]

PYTHON = os.environ.get("TRITON_PYTHON")
BACKEND = Path(__file__).with_name("triton_backend") / "model.py"


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def packages() -> Path:
    found = subprocess.run(
        [str(PYTHON), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return Path(found.stdout.strip())


@contextlib.contextmanager
def server(repository: Path, folder: Path) -> Iterator[tuple[int, int]]:
    """Triton over a repository: the ports of HTTP and gRPC, when it is ready."""
    site = packages()
    triton, version = site / "pytriton" / "tritonserver", site.parent.name.removeprefix("python")
    backends = folder / "backends"
    shutil.copytree(triton / "backends" / "python", backends / "python")
    stub = backends / "python" / "triton_python_backend_stub"
    shutil.copy(triton / "python_backend_stubs" / version / stub.name, stub)
    (backends / "onnxruntime").mkdir()
    shutil.copy(BACKEND, backends / "onnxruntime" / "model.py")
    binary = triton / "bin" / "tritonserver"
    for program in (binary, stub):
        program.chmod(0o755)
    http, grpc, metrics = free_ports(3)
    command = [
        binary, "--model-repository", repository, "--backend-directory", backends, "--http-port", http, "--grpc-port",
        grpc, "--metrics-port", metrics,
    ]  # fmt: skip
    environment = {
        **os.environ, "TRITON_PACKAGES": str(site), "PYTHONPATH": str(site),
        "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
    }  # fmt: skip
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen([str(part) for part in command], env=environment, stdout=log, stderr=log)
        try:
            for _ in range(600):
                with contextlib.suppress(urllib.error.URLError):
                    urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/health/ready", timeout=5)
                    break
                assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
                time.sleep(0.1)
            yield http, grpc
        finally:
            process.terminate()
            process.wait(timeout=60)


def asked(http: int, path: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/v2/models/{path}", data, timeout=60) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def curve(folder: Path, network: Path) -> Path:
    """A report of `bnfold bench` by which batches of 4, the largest, pay."""
    from bnfold import bench
    from bnfold.records import as_json

    report = as_json(bench(network, batch=(1, 4), threads=1, budget_s=1))
    for run in report["runs"]:
        run["median_ms"] = 1.0 if run["batch"] == 1 else 2.0
    (folder / "bench.json").write_text(json.dumps(report))
    return folder / "bench.json"


@pytest.mark.skipif(PYTHON is None, reason="TRITON_PYTHON is not set; scripts/test_triton.sh sets it")
def test_triton_serves_the_repository(bundled: Callable[..., Path], network: Path, tmp_path: Path) -> None:
    folder = bundled("triton", bench=curve(tmp_path, network))
    with server(folder / "models", tmp_path) as (http, grpc):
        status, config = asked(http, "network/config")
        assert (status, config["max_batch_size"], config["backend"]) == (200, 4, "onnxruntime")
        assert {each["batch_size"] for each in config["model_warmup"]} == {1, 4}
        check = subprocess.run(
            [str(PYTHON), "check.py", "--url", f"localhost:{grpc}"], cwd=folder, check=False, capture_output=True,
            text=True,
        )  # fmt: skip
        assert check.returncode == 0, check.stdout + check.stderr
        wrong = {"name": "x", "datatype": "FP32", "shape": [1, 2, 6, 7], "data": [0.0] * 84}
        status, body = asked(http, "network/infer", {"inputs": [wrong]})
        assert (status, "unexpected shape for input 'x'" in body["error"]) == (400, True), body
        wrong = {"name": "x", "datatype": "FP32", "shape": [5, 2, 6, 6], "data": [0.0] * 360}
        status, body = asked(http, "network/infer", {"inputs": [wrong]})
        assert (status, "batch-size must be <= 4" in body["error"]) == (400, True), body
    assert "failed" not in (tmp_path / "server.log").read_text()
