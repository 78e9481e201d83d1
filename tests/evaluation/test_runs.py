"""A run's exported file has the metrics of the run's own test, to the last sample, and so has the run itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

import bnfold
from bnfold.records.file_facts import from_properties

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("network", ["bnnet", "dcgan", "detector", "tabular", "unet"])
def test_the_metrics_of_the_run(tmp_path: Path, network: str) -> None:
    short = {"epochs": 1} | ({} if network == "bnnet" else {"batch_size": 200})
    trained = bnfold.train(network, tmp_path / "run", **short)
    bnfold.fold_export(tmp_path / "run", tmp_path / "out")
    file, run = bnfold.evaluate(tmp_path / "out" / "model.onnx", tmp_path / "run").files
    expected = trained.metrics["test"][trained.goal]
    assert file.metrics[trained.goal].value == pytest.approx(expected, rel=1e-6)
    assert run.metrics[trained.goal].value == pytest.approx(expected, rel=1e-6)


def test_the_file_says_what_the_run_knows(tmp_path: Path) -> None:
    bnfold.train("resnet", tmp_path / "run", epochs=1)
    report = bnfold.fold_export(tmp_path / "run", tmp_path / "out", keep_plain=True)
    model = onnx.load(tmp_path / "out" / "model.onnx")
    facts = from_properties({entry.key: entry.value for entry in model.metadata_props})
    assert facts == report.facts
    assert (facts.task, facts.classes) == ("classification", tuple(map(str, range(10))))
    assert facts.preprocessing is not None
    assert (facts.preprocessing.channels, facts.preprocessing.size) == ("gray", (8, 8))
    assert facts.ledger == {"found": 15, "absorbed": 15, "merged": 0, "removed": 0, "kept": 0}
    assert facts.source_sha256 == report.source.sha256
    assert bnfold.inspect(tmp_path / "out" / "model.onnx").facts == facts
    again = bnfold.fold_export(tmp_path / "run", tmp_path / "again")
    assert report.output is not None
    assert again.output is not None
    assert report.output.sha256 == again.output.sha256
