"""The files of `torch.onnx.export` itself: the same ledger from one, and what `--keep-plain` promises of the other."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

import onnx
import pytest
import torch

import bnfold
from bnfold.export.quiet import quiet
from bnfold.sources import TorchSource, load_source
from bnfold.sources.model_file import load_model_file

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.records import FoldExportReport


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    """The ResNet of the zoo, with the parameters that `fold_export` gives it."""
    source = load_source("resnet")
    assert isinstance(source, TorchSource)
    return source.module


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FoldExportReport]:
    """The output folder and the report for that ResNet."""
    folder = tmp_path_factory.mktemp("exported")
    return folder, bnfold.fold_export("resnet", folder, keep_plain=True, budget_s=0.3, threads=1)


def test_a_network_is_measured_against_its_plain_export(exported: tuple[Path, FoldExportReport]) -> None:
    timing = exported[1].timing
    assert timing is not None
    assert (timing.against, timing.batch) == ("plain", 1)
    assert 0 < timing.low <= timing.ratio <= timing.high


def torch_export(module: torch.nn.Module, path: Path, *, optimize: bool) -> None:
    example = torch.zeros(2, *load_model_file("resnet").input_shapes[0][1:])
    with quiet():
        torch.onnx.export(
            module, (example,), path, dynamo=True, optimize=optimize, dynamic_shapes=({0: torch.export.Dim.AUTO},)
        )


def test_an_unoptimized_onnx_file_gives_the_ledger_of_its_module(
    module: torch.nn.Module, exported: tuple[Path, FoldExportReport], tmp_path: Path
) -> None:
    torch_export(module, tmp_path / "resnet.onnx", optimize=False)
    report = bnfold.fold_export(tmp_path / "resnet.onnx", tmp_path / "output")
    assert report.passed
    assert report.ledger.found == exported[1].ledger.found == 15
    for ours, of_module in zip(report.ledger.entries, exported[1].ledger.entries, strict=True):
        # An ONNX file holds epsilon in float32, the module in float64: they differ by half a unit in the last place.
        for number in ("max_abs_scale", "min_var_over_eps"):
            assert getattr(ours, number) == pytest.approx(getattr(of_module, number), rel=2**-24)
        same = {"max_abs_scale": ours.max_abs_scale, "min_var_over_eps": ours.min_var_over_eps}
        assert ours == dataclasses.replace(of_module, **same)
    assert report.graph.batchnorm_after == exported[1].graph.batchnorm_after == 0


def test_plain_is_what_torch_exports_by_default(
    module: torch.nn.Module, exported: tuple[Path, FoldExportReport], tmp_path: Path
) -> None:
    torch_export(module, tmp_path / "resnet.onnx", optimize=True)
    default, plain = (onnx.load(path) for path in (tmp_path / "resnet.onnx", exported[0] / "plain.onnx"))
    assert Counter(node.op_type for node in plain.graph.node) == Counter(node.op_type for node in default.graph.node)
    assert plain.opset_import[0].version == default.opset_import[0].version
