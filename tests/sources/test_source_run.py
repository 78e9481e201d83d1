"""A run folder is a source: its own model file, weights and samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bnfold.errors import InputRefused
from bnfold.sources import TorchSource, load_source
from bnfold.sources.checkpoint import save_checkpoint
from bnfold.sources.model_file import load_model_file
from bnfold.sources.module_facts import sha256_of_module

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(net_file: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "net"
    folder.mkdir(parents=True)
    torch.manual_seed(5)
    save_checkpoint(
        folder,
        load_model_file(str(net_file)).build(),
        {"model": {"name": "net", "input_shape": [1, 3, 8, 8]}, "recipe": {"task": "classification"}},
        model_file=net_file.read_bytes(),
        samples={"image": np.ones((4, 3, 8, 8), np.float32)},
    )
    net_file.unlink()
    return folder


@pytest.mark.parametrize("name", [".", "run.json", "model.safetensors"])
def test_a_run_loads_without_the_file_it_was_trained_from(run: Path, name: str) -> None:
    source = load_source(str(run / name))
    torch.manual_seed(5)

    assert isinstance(source, TorchSource)
    assert source.facts.sha256 == sha256_of_module(load_model_file(str(run / "model.py")).build())
    assert source.output_names == ("logits",)
    assert source.samples is not None
    assert source.samples["image"].shape == (4, 3, 8, 8)


def test_a_run_keeps_its_shape_and_weights(run: Path) -> None:
    with pytest.raises(InputRefused, match="leave --input-shape out"):
        load_source(str(run), input_shapes=[(1, 3, 9, 9)])
    with pytest.raises(InputRefused, match="brings its own weights"):
        load_source(str(run), weights=run / "model.safetensors")


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"not a run folder: it has no run\.json"):
        load_source(str(tmp_path))


def test_a_folder_given_as_a_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="found a folder of that name"):
        load_model_file(str(tmp_path))
