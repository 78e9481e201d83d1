"""The splits neither overlap nor lose a sample, and depend on the split seed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.training.data import SPLITS, Batch, MemoryData, make_data, stratified_split
from bnfold.training.recipe import Recipe

IMAGE = ((1, 1, 8, 8),)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 1000))
def test_every_sample_is_in_exactly_one_split(labels: list[int], seed: int) -> None:
    parts = stratified_split(np.array(labels), seed)
    together = np.concatenate([parts[split] for split in SPLITS])
    np.testing.assert_array_equal(np.sort(together), np.arange(len(labels)))


def test_each_class_has_its_share_of_each_split() -> None:
    targets = load_digits().target
    parts = stratified_split(targets, 0)
    for label in range(10):
        n = (targets == label).sum()
        assert (targets[parts["test"]] == label).sum() == round(0.2 * n)
        assert (targets[parts["val"]] == label).sum() == round(0.1 * n)


def test_split_follows_its_seed() -> None:
    targets = load_digits().target
    first, again, other = (stratified_split(targets, seed) for seed in (1, 1, 2))
    for split in SPLITS:
        np.testing.assert_array_equal(first[split], again[split])
        assert not np.array_equal(first[split], other[split])


def test_no_image_is_in_two_splits() -> None:
    data = _memory(make_data(Recipe(), IMAGE))
    images = {split: {image.numpy().tobytes() for image in data.splits[split].inputs[0]} for split in SPLITS}
    assert sum(map(len, images.values())) == len(set.union(*images.values())) == 1797


def test_record_tells_how_to_make_the_data_again() -> None:
    data = _memory(make_data(Recipe(split_seed=3), IMAGE))
    bunch = load_digits()
    norm, indices = data.facts["normalisation"], data.facts["split"]["indices"]
    assert norm["formula"] == "(pixel / 16 - mean) / std"
    for split in SPLITS:
        (inputs,), targets = data.splits[split]
        expected = (bunch.images[indices[split]] / 16 - norm["mean"]) / norm["std"]
        # mean, deviation, difference (all below 1, over a deviation of 0.38) and quotient (below 2) are each rounded to
        # float32, which moves the quotient by 0.33, 0.25, 0.67 and 0.5 eps at most
        np.testing.assert_allclose(inputs.numpy()[:, 0], expected, rtol=0, atol=1.75 * np.finfo(np.float32).eps)
        np.testing.assert_array_equal(targets.numpy(), bunch.target[indices[split]])
        assert data.facts["split"]["sizes"][split] == len(targets)


def test_normalisation_looks_at_the_training_split_only() -> None:
    data = _memory(make_data(Recipe(), IMAGE))
    pixels = load_digits().images[data.facts["split"]["indices"]["train"]] / 16
    assert data.facts["normalisation"]["mean"] == pytest.approx(pixels.mean(), rel=1e-12)
    assert data.facts["normalisation"]["std"] == pytest.approx(pixels.std(), rel=1e-12)


def test_images_are_resized_and_flattened() -> None:
    data = _memory(make_data(Recipe(image_size=(16, 32)), ((1, 512),)))
    assert data.splits["test"].inputs[0].shape == (359, 512)


@pytest.mark.parametrize(
    ("size", "shape"),
    [(None, (1, 512)), ((16, 16), IMAGE[0]), ((4, 16), IMAGE[0]), (None, (1, 64, 1, 1)), (None, (1, 65))],
)
def test_images_that_do_not_fit_are_refused(size: tuple[int, int] | None, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputRefused, match=r"do not fit the network's INPUT_SHAPE.*image_size"):
        make_data(Recipe(image_size=size), (shape,))


def test_unknown_data_set_suggests_the_nearest() -> None:
    with pytest.raises(InputRefused, match="did you mean digits"):
        make_data(Recipe(data="digit"), IMAGE)


def test_missing_scikit_learn_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(EnvironmentNotReady, match=r'pip install "bnfold\[train\]"'):
        make_data(Recipe(), IMAGE)


@given(n=st.integers(2, 50), batch_size=st.integers(2, 20))
def test_training_batches_are_full_and_never_of_one(n: int, batch_size: int) -> None:
    data = _counting(n)
    batches = list(data.batches("train", batch_size, shuffle=torch.Generator().manual_seed(0)))
    assert [len(batch.targets) for batch in batches] == [min(n, batch_size)] * data.n_batches("train", batch_size)
    seen = torch.cat([batch.targets for batch in batches]).tolist()
    assert len(set(seen)) == len(seen) > n - batch_size
    assert all(torch.equal(batch.inputs[0][:, 0], batch.targets.float()) for batch in batches)


@given(n=st.integers(1, 50), batch_size=st.integers(1, 20))
def test_evaluation_sees_every_sample_once_in_order(n: int, batch_size: int) -> None:
    batches = _counting(n).batches("train", batch_size)
    assert torch.cat([batch.targets for batch in batches]).tolist() == list(range(n))


def _memory(data: object) -> MemoryData:
    assert isinstance(data, MemoryData)
    return data


def _counting(n: int) -> MemoryData:
    numbers = torch.arange(n)
    return MemoryData(splits={"train": Batch((numbers.float()[:, None],), numbers)}, n_classes=n, facts={})
