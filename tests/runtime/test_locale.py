"""Names of files in a locale that is not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import onnx
import pytest

from bnfold.errors import EnvironmentNotReady
from bnfold.runtime.sessions import require_onnx_file
from bnfold.sources.onnx_file import load_onnx

if TYPE_CHECKING:
    from pathlib import Path

TEXT = '<ir_version: 9, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }'
pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are bytes on Linux only")


@pytest.fixture
def no_text(tmp_path: Path) -> Path:
    """A file whose name Python could not decode, as any name beyond ASCII in the locale C."""
    path = tmp_path / os.fsdecode(b"n\xe9t.onnx")
    path.write_bytes(onnx.parser.parse_model(TEXT).SerializeToString())
    return path


def test_such_a_source_is_read(no_text: Path) -> None:
    assert [spec.name for spec in load_onnx(no_text, "net").inputs] == ["x"]


def test_onnx_runtime_is_not_asked_and_the_remedy_is_said(no_text: Path) -> None:
    with pytest.raises(EnvironmentNotReady, match="expected UTF-8; set PYTHONUTF8=1"):
        require_onnx_file(no_text)


def test_the_error_is_one_line_in_the_locale_c(no_text: Path) -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "bnfold", "bench", os.fsencode(no_text)]
    ended = subprocess.run(command, env=env, capture_output=True, check=False)
    assert ended.returncode == 4, ended.stderr
    assert ended.stderr.startswith(b"error: ")
    assert ended.stderr.count(b"\n") == 1
