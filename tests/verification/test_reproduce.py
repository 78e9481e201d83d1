"""The files of a departure run without bnfold, and show the difference."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx

from bnfold.verification.localisation.reproduction import FILES


def _off(case, channel=2):
    """The right fold, one bias of its last folded layer wrong by 1."""
    new = case.folded()
    new[f"{case.pairs[0][0]}.bias"][channel] += 1.0
    return case.file(new)


def _run(folder):
    command = [sys.executable, "-I", str(folder / "reproduce.py")]  # -I: no path to bnfold
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_the_script_shows_the_difference(case, tmp_path):
    folder = tmp_path / "case"
    verdict = case.verify(_off(case), reproduction=folder)
    assert verdict.departure.reproduction == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    done = _run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("largest difference 1")  # the bias, and nothing else
    assert "bnfold" not in (folder / "reproduce.py").read_text()


def test_the_source_has_its_batchnorm(cases, tmp_path):
    cases["convnet"].verify(_off(cases["convnet"]), reproduction=tmp_path)
    source, candidate = (onnx.load(tmp_path / name) for name in ("source.onnx", "candidate.onnx"))
    assert [node.op_type for node in source.graph.node] == ["Conv", "BatchNormalization"]
    assert [node.op_type for node in candidate.graph.node] == ["Conv"]
    inputs = np.load(tmp_path / "inputs.npz")
    np.testing.assert_array_equal(inputs["source/x"], inputs["candidate/x"])


def test_a_right_file_writes_nothing(case, tmp_path):
    verdict = case.verify(case.file(case.folded()), reproduction=tmp_path / "case")
    assert verdict.departure is None
    assert not (tmp_path / "case").exists()


def test_a_folder_that_cannot_be_made_is_told(cases, tmp_path):
    (tmp_path / "file").write_text("")
    case = cases["bnnet"]
    verdict = case.verify(_off(case), reproduction=tmp_path / "file" / "case")
    assert verdict.departure.layer == "fc"
    assert verdict.departure.reproduction is None
    assert "no reproduction: cannot write the reproduction" in verdict.failure
