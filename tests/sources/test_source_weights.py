"""Weight files: what fits, what does not, and what wants to run code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from bnfold.errors import InputRefused
from bnfold.sources import TorchSource, load_source
from bnfold.sources.module_facts import sha256_of_tensors

if TYPE_CHECKING:
    from pathlib import Path


def state_of(path: Path) -> dict[str, torch.Tensor]:
    source = load_source(str(path))
    assert isinstance(source, TorchSource)
    return {name: value + 1 for name, value in source.module.state_dict().items()}


def refusal(net: Path, weights: Path) -> str:
    with pytest.raises(InputRefused) as caught:
        load_source(str(net), weights=weights)
    assert caught.value.remedy
    assert str(weights) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pt_files_load(net_file: Path, tmp_path: Path, wrapper: str | None) -> None:
    state = state_of(net_file)
    torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, tmp_path / "w.pt")

    assert load_source(str(net_file), weights=tmp_path / "w.pt").facts.sha256 == sha256_of_tensors(state)


def test_safetensors_load_and_need_no_batch_counter(net_file: Path, tmp_path: Path) -> None:
    state = state_of(net_file)
    del state["bn.num_batches_tracked"]
    save_file(state, tmp_path / "w.safetensors")
    expected = {**state, "bn.num_batches_tracked": torch.tensor(0)}

    assert load_source(str(net_file), weights=tmp_path / "w.safetensors").facts.sha256 == sha256_of_tensors(expected)


def test_the_first_three_keys_that_do_not_fit_are_named(net_file: Path, tmp_path: Path) -> None:
    state = state_of(net_file)
    state["fc.weight"] = torch.zeros(3, 3)
    for name in ("conv.weight", "conv.bias", "bn.weight"):
        del state[name]
    save_file(state, tmp_path / "w.safetensors")
    sentence = refusal(net_file, tmp_path / "w.safetensors")

    assert "conv.weight is missing, conv.bias is missing, bn.weight is missing, and 1 more" in sentence


def test_shapes_that_do_not_fit_are_named(net_file: Path, tmp_path: Path) -> None:
    save_file({**state_of(net_file), "fc.weight": torch.zeros(3, 3)}, tmp_path / "w.safetensors")
    sentence = refusal(net_file, tmp_path / "w.safetensors")

    assert "fc.weight has shape (3, 3) and not (2, 4)" in sentence


class RunsCode:
    """A pickle that makes a folder when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


def test_a_pickle_that_wants_to_run_code_is_not_read(net_file: Path, tmp_path: Path) -> None:
    torch.save({"w": RunsCode(tmp_path / "pwned")}, tmp_path / "w.pt")
    sentence = refusal(net_file, tmp_path / "w.pt")

    assert "wants to run code" in sentence
    assert "safetensors" in sentence
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.xyz"])
def test_damaged_and_unknown_files(net_file: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02no weights")

    assert "w." in refusal(net_file, tmp_path / name)


def test_a_truncated_pt_file(net_file: Path, tmp_path: Path) -> None:
    torch.save(state_of(net_file), tmp_path / "w.pt")
    content = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(content[: len(content) // 2])

    assert "damaged" in refusal(net_file, tmp_path / "w.pt")


def test_missing_files_and_files_without_a_state_dict(net_file: Path, tmp_path: Path) -> None:
    assert "no such weight file" in refusal(net_file, tmp_path / "none.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    assert "found list, expected a dict" in refusal(net_file, tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    assert "entries that are no tensors: epoch" in refusal(net_file, tmp_path / "epoch.pt")


def test_the_prefix_of_data_parallel_is_left_out(net_file: Path, tmp_path: Path) -> None:
    state = state_of(net_file)
    save_file({f"module.{name}": value for name, value in state.items()}, tmp_path / "w.safetensors")

    assert load_source(str(net_file), weights=tmp_path / "w.safetensors").facts.sha256 == sha256_of_tensors(state)


def test_the_names_in_the_file_are_named_beside_the_missing_ones(net_file: Path, tmp_path: Path) -> None:
    state = {f"net.{name}": value for name, value in state_of(net_file).items()}
    save_file(state, tmp_path / "w.safetensors")

    assert "conv.weight is missing" in (sentence := refusal(net_file, tmp_path / "w.safetensors"))
    assert "the file has net." in sentence
