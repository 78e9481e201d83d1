"""Data sets of the real torchvision: read where they lie, refused where they do not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnfold.errors import InputRefused
from bnfold.training.data import make_data
from bnfold.training.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.zoo

GRAY = ((1, 1, 28, 28),)


def _write_idx(path: Path, array: np.ndarray) -> None:
    """The format of MNIST's files: two zero bytes, the type, the rank, the sizes, the values."""
    head = struct.pack(f">2xBB{array.ndim}I", 8, array.ndim, *array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def test_mnist_is_read_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, n in (("train", 40), ("t10k", 20)):
        labels = np.arange(n) % 4
        _write_idx(raw / f"{name}-images-idx3-ubyte", np.broadcast_to(50 * labels[:, None, None], (n, 28, 28)))
        _write_idx(raw / f"{name}-labels-idx1-ubyte", labels)
    monkeypatch.setenv("BNFOLD_DATA", str(tmp_path))
    data = make_data(Recipe(data="torchvision:MNIST", standardise=False), GRAY)
    assert data.facts["split"]["sizes"] == {"train": 36, "val": 4, "test": 20}
    (batch,) = data.batches("test", 100)
    np.testing.assert_allclose(batch.inputs[0][:, 0, 0, 0], 50 * batch.targets / 255, rtol=1e-6)


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "SVHN", "FashionMNIST"])
def test_absent_data_is_refused_and_nothing_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("BNFOLD_DATA", str(tmp_path))
    with pytest.raises(InputRefused, match=rf"torchvision:{name} is not on this machine.*--download.*--data digits"):
        make_data(Recipe(data=f"torchvision:{name}"), GRAY)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_data_without_a_training_part_is_refused() -> None:
    with pytest.raises(InputRefused, match=r"FakeData of torchvision has no training and test part.*folder:PATH"):
        make_data(Recipe(data="torchvision:FakeData"), GRAY)
