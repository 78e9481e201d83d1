"""The example of docs/extending.md is all that a provider takes."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import onnx.parser
import pytest

import bnfold
from bnfold.benchmarking import bench_files
from bnfold.benchmarking.axes import Axes
from bnfold.runtime import open_session, provider_names, providers
from bnfold.runtime.packages import reinstall_line
from bnfold.runtime.providers import known_providers

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text("utf-8")
SECTION = re.search(r"^## A provider\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2] x) => (float[N, 2] y)
<float[2] s = {2.0, 1.0}, float[2] t = {1.0, 0.5}, float[2] m = {0.5, 0.25}, float[2] v = {1.0, 4.0}>
{ y = BatchNormalization <epsilon = 0.0> (x, s, t, m, v) }
"""


@pytest.fixture
def resting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example as a file of the package; gives its name."""
    assert SECTION is not None
    (name,) = re.findall(r"`bnfold/runtime/providers/(\w+)\.py`:\n", SECTION[1])
    (code,) = re.findall(r"^```python\n(.*?)^```$", SECTION[1], re.MULTILINE | re.DOTALL)
    (tmp_path / "providers").mkdir()
    (tmp_path / "providers" / f"{name}.py").write_text(code, "utf-8")
    monkeypatch.setattr(providers, "__path__", [*providers.__path__, str(tmp_path / "providers")])
    known_providers.cache_clear()
    yield name
    sys.modules.pop(f"{providers.__name__}.{name}", None)
    known_providers.cache_clear()


def test_one_file_is_a_provider(resting: str, tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(NETWORK), file)
    assert provider_names() == ("cpu", "cuda", "openvino", resting, "tensorrt")
    assert reinstall_line([], resting) == 'pip install "bnfold[cpu]"'
    options = open_session(file, provider=resting).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    report = bench_files([file], Axes(provider=("cpu", resting), threads=1), cold_starts=False, budget_s=0.1)
    assert [run.provider for run in report.runs] == ["CPUExecutionProvider"] * 2
    assert report.environment["provider"] == "cpu"


def test_commands_take_it(resting: str, tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(NETWORK), file)
    assert bnfold.verify(file, file, provider=resting).passed
    result = bnfold.fold_export(str(file), tmp_path / "out", provider=resting)
    assert result.passed
    assert result.verify.providers == ("CPUExecutionProvider",)
