"""JUnit XML, Markdown and the summary of a step say of a command what its report says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


def suite_of(path: Path) -> ElementTree.Element:
    (suite,) = ElementTree.parse(path).getroot()  # noqa: S314 - our own
    return suite


def cases_of(path: Path) -> dict[str, str]:
    """What came of each test case of a file, by name."""
    kinds = {case.get("name"): [child.tag for child in case] for case in suite_of(path)}
    return {
        str(name): next((kind for kind in found if kind in ("failure", "skipped")), "passed")
        for name, found in kinds.items() if name is not None
    }  # fmt: skip


@pytest.fixture
def wrong(make_network: Callable[[], onnx.ModelProto], tmp_path: Path) -> Path:
    """A file that is not equal to the network."""
    model = make_network()
    beta = next(tensor for tensor in model.graph.initializer if tensor.name == "beta")
    beta.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(beta) * np.float32(1.01), "beta"))
    onnx.save(model, tmp_path / "wrong.onnx")
    return tmp_path / "wrong.onnx"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """The options of a pipeline; a step summary that holds something already."""
    (tmp_path / "step.md").write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    return ("--junit", tmp_path / "gates.xml", "--markdown", tmp_path / "summary.md")


def test_verify(
    network: Path, wrong: Path, written: tuple[object, ...], tmp_path: Path, cli: Callable[..., Result]
) -> None:
    assert cli("verify", network, network, *written).exit_code == 0
    assert cases_of(tmp_path / "gates.xml") == {str(network): "passed"}
    text = (tmp_path / "summary.md").read_text()
    assert (tmp_path / "step.md").read_text() == f"before\n{text}"
    assert re.search(r"^\| y \| [\d.e-]+ \| [\d.e-]+ \| [\d.e-]+ \|$", text, re.MULTILINE)

    assert cli("verify", network, wrong, *written).exit_code == 1
    suite = suite_of(tmp_path / "gates.xml")
    assert suite.get("failures") == "1"
    assert cases_of(tmp_path / "gates.xml")[str(wrong)] == "failure"
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "root mean square error" in str(failure.text)
    assert "- **NOT equal**: output y: root mean square error" in (tmp_path / "summary.md").read_text()


def test_fold_export(network: Path, written: tuple[object, ...], tmp_path: Path, cli: Callable[..., Result]) -> None:
    assert cli("fold-export", network, "-o", tmp_path / "out", *written).exit_code == 0
    assert cases_of(tmp_path / "gates.xml") == {
        "equal to the source": "passed", "equal to the source: certificate": "passed",
    }  # fmt: skip
    said = suite_of(tmp_path / "gates.xml").findtext("system-out")
    assert said == "BatchNorms: 1 found, 1 absorbed, 0 merged, 0 removed, 0 kept"
    text = (tmp_path / "summary.md").read_text()
    assert "|  | 1 | 1 | 0 | 0 | 0 |" in text
    assert "model.onnx: " in text
    assert (tmp_path / "step.md").read_text() == f"before\n{text}"


@pytest.mark.parametrize(
    ("ratio", "outcome"), [((1.2, 1.1, 1.3, "slower"), "failure"), ((0.9, 0.8, 0.95, "faster"), "passed"),
                           ((1.2, 1.1, 1.3, "undecided"), "skipped")]
)  # fmt: skip
def test_the_time_of_fold_export_is_a_gate_where_a_limit_is_given(
    ratio: tuple[float, float, float, str], outcome: str, network: Path, tmp_path: Path
) -> None:
    import dataclasses

    from bnfold import fold_export
    from bnfold.records.timing import Timing
    from bnfold.report.conversion_summaries import fold_export_junit, fold_export_markdown

    timing = Timing("plain", *ratio, limit=1.03, threads=1)  # type: ignore[arg-type]
    report = dataclasses.replace(fold_export(str(network)), timing=timing)
    (tmp_path / "gates.xml").write_bytes(fold_export_junit(report))
    assert cases_of(tmp_path / "gates.xml")["time of the plain export"] == outcome
    assert f"{ratio[0]:.3f} ({ratio[1]:.3f} to {ratio[2]:.3f})" in fold_export_markdown(report)
    (tmp_path / "gates.xml").write_bytes(
        fold_export_junit(dataclasses.replace(report, timing=dataclasses.replace(timing, limit=None)))
    )
    assert "time of the plain export" not in cases_of(tmp_path / "gates.xml")


TWO_CONVOLUTIONS = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 6, 6] x) => (float[N, 3, 6, 6] y) {
  c = Conv <pads = [1, 1, 1, 1]> (x, v)
  r = Relu (c)
  y = Conv (r, w)
}
"""


def test_quantize(written: tuple[object, ...], tmp_path: Path, cli: Callable[..., Result]) -> None:
    random, model = np.random.default_rng(0), onnx.parser.parse_model(TWO_CONVOLUTIONS)
    for name, shape in (("v", (16, 2, 3, 3)), ("w", (3, 16, 1, 1))):
        model.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name))
    onnx.save(model, tmp_path / "two.onnx")
    np.savez(tmp_path / "x.npz", x=random.normal(size=(64, 2, 6, 6)).astype(np.float32))
    common = ("quantize", tmp_path / "two.onnx", "--inputs", tmp_path / "x.npz", "--budget", 0, *written)
    assert cli(*common, "-o", tmp_path / "a").exit_code == 0
    assert cases_of(tmp_path / "gates.xml") == {"int8 file": "passed"}
    text = (tmp_path / "summary.md").read_text()
    assert re.search(r"^\| y \| \d+\.\d \|", text, re.MULTILINE)
    assert "model.int8.onnx: " in text

    assert cli(*common, "-o", tmp_path / "b", "--min-sqnr", 99).exit_code == 1
    assert cases_of(tmp_path / "gates.xml") == {"int8 file": "failure"}
    assert "- failed: y has " in (tmp_path / "summary.md").read_text()
    assert (tmp_path / "step.md").read_text().count("### bnfold quantize") == 2


def test_accuracy_and_time_of_quantize_are_gates(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from bnfold.records.quantisation import PairedAccuracy, QuantizedTiming
    from bnfold.report.quantisation_summaries import quantize_junit

    def cases(passed: bool, undecided: bool, verdict: str) -> list[str]:
        accuracy = PairedAccuracy("accuracy", 0.9, 0.89, -0.01, -0.02, 0.0, 100, 0.005, passed, undecided)
        report = SimpleNamespace(
            precision="int8", failures=(), passed=True, accuracy=accuracy, warnings=(), in_a_line=lambda: "passed",
            timing=QuantizedTiming(1.1, 1.05, 1.15, verdict),  # type: ignore[arg-type]
        )  # fmt: skip
        (tmp_path / "gates.xml").write_bytes(quantize_junit(report))  # type: ignore[arg-type]
        return list(cases_of(tmp_path / "gates.xml").values())

    assert cases(passed=True, undecided=False, verdict="faster") == ["passed", "passed", "passed"]
    assert cases(passed=False, undecided=False, verdict="slower") == ["passed", "failure", "failure"]
    assert cases(passed=True, undecided=True, verdict="undecided") == ["passed", "skipped", "skipped"]


@pytest.mark.parametrize("command", ["fold-export", "verify", "quantize", "evaluate"])
def test_what_cannot_be_written_is_refused_before_the_work(
    command: str, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Result]
) -> None:
    arguments = {"verify": (network, network), "evaluate": (network,)}.get(command, (network, "-o", tmp_path / "out"))
    for option in ("--junit", "--markdown"):
        result = cli(command, *arguments, option, tmp_path / "missing" / "file")
        assert result.exit_code == 3
        assert "cannot write the report" in result.stderr
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "missing" / "step.md"))
    result = cli(command, *arguments)
    assert result.exit_code == 3
    assert "cannot write the report" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_read_is_not_overwritten(network: Path, cli: Callable[..., Result]) -> None:
    content = network.read_bytes()
    assert cli("verify", network, network, "--junit", network).exit_code == 2
    assert network.read_bytes() == content
