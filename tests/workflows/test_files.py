"""A file that cannot be written is said with its whole path, and a full disk is not the input's fault."""

from __future__ import annotations

import errno
from pathlib import Path

import onnx.parser
import pytest

from bnfold.errors import BnfoldError, EnvironmentNotReady, InputRefused
from bnfold.workflows.files import write_model

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, EnvironmentNotReady), (errno.EDQUOT, EnvironmentNotReady), (errno.EACCES, InputRefused)],
)
def test_what_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[BnfoldError]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(kind, match="cannot write the file") as caught:
        write_model(onnx.parser.parse_model(MODEL), tmp_path / "stage" / "model.onnx", output=tmp_path / "out")
    assert caught.value.where == str(tmp_path / "out" / "model.onnx")
