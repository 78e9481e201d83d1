"""`.pt2` files of torch.export."""

from __future__ import annotations

import warnings
import zipfile
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfold.errors import InputRefused
from bnfold.records import InputSpec
from bnfold.sources import TorchSource, load_source
from bnfold.sources.trial import trial_inputs

if TYPE_CHECKING:
    from pathlib import Path


def saved(module: nn.Module, path: Path, *, dynamic: bool = True) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own deprecated calls
        torch.export.save(torch.export.export(module, (torch.ones(2, 3, 4),), dynamic_shapes=shapes), path)
    return path


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5))


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_program_loads_with_its_own_batch_axis(tmp_path: Path, dynamic: bool) -> None:
    module = network().eval()
    source = load_source(str(saved(module, tmp_path / "net.pt2", dynamic=dynamic)))

    assert isinstance(source, TorchSource)
    assert source.program is not None
    assert source.inputs == (InputSpec("input", (None if dynamic else 2, 3, 4), "float32"),)
    assert source.output_names == ("output",)
    assert source.facts.n_parameters == 3 * 5 + 5 + 5 + 5
    inputs = trial_inputs(source.inputs)
    assert torch.equal(source.module(*inputs), module(*inputs))


def test_a_program_exported_in_training_mode_names_the_layer(tmp_path: Path) -> None:
    path = saved(network().train(), tmp_path / "net.pt2")

    with pytest.raises(InputRefused, match=r"statistics of the batch .*layer 1.*call model\.eval\(\)"):
        load_source(str(path))


def test_a_negative_variance(tmp_path: Path) -> None:
    module = network().eval()
    module[1].running_var[2] = -1

    with pytest.raises(InputRefused, match=r"layer 1.* 1 of 5 channels negative"):
        load_source(str(saved(module, tmp_path / "net.pt2")))


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(b"PK\x03\x04 no archive")

    with pytest.raises(InputRefused, match=r"damaged or not one of torch.export"):
        load_source(str(tmp_path / "net.pt2"))


def test_pickled_objects_are_not_read(tmp_path: Path) -> None:
    path = saved(network().eval(), tmp_path / "net.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/constants/opaque_obj_0", b"cos\nsystem\n(S'true'\ntR.")

    with pytest.raises(InputRefused, match=r"wants to run code"):
        load_source(str(path))


def test_a_truncated_file_is_refused_without_the_log_of_the_reader(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(network().eval(), tmp_path / "net.pt2")
    path.write_bytes(path.read_bytes()[:3000])
    capfd.readouterr()

    with pytest.raises(InputRefused, match="damaged"):
        load_source(str(path))
    assert capfd.readouterr() == ("", "")
