"""Data sets of hubs: read where they are, fetched only with `--download`, never replaced by another."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.training.data import make_data
from bnfold.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

GRAY = ((1, 1, 4, 4),)


class _Pictures:
    """As torchvision writes its data sets: `train`, `download`, `targets`, pairs of an image and a class."""

    present: ClassVar[bool] = False
    first: ClassVar[int] = 0

    def __init__(self, root: str, train: bool = True, download: bool = False) -> None:  # noqa: ARG002
        if download:
            raise OSError("no route to host")
        if not type(self).present:
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        self.targets = [i % 3 + self.first for i in range(30 if train else 9)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("L", (5, 5), 10 * self.targets[index]), self.targets[index]


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision with one data set, MNIST."""
    module: Any = ModuleType("torchvision.datasets")
    module.MNIST, module.__all__ = _Pictures, ["MNIST"]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    monkeypatch.setattr(_Pictures, "present", False)


def _get(name: str, *, download: bool = False) -> Any:
    return make_data(Recipe(data=name, standardise=False), GRAY, download=download)


@pytest.mark.usefixtures("torchvision")
def test_data_that_is_there_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Pictures, "present", True)
    data = _get("torchvision:MNIST")
    assert data.facts["split"]["sizes"] == {"train": 27, "val": 3, "test": 9}
    (batch,) = data.batches("test", 100)
    np.testing.assert_allclose(batch.inputs[0].amax((1, 2, 3)).numpy(), batch.targets.numpy() * 10 / 255, rtol=1e-6)


@pytest.mark.usefixtures("torchvision")
def test_labels_below_nothing_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Pictures, "present", True)
    monkeypatch.setattr(_Pictures, "first", -1)
    with pytest.raises(InputRefused, match=r"labels are out of range in torchvision:MNIST, split .* found -1"):
        _get("torchvision:MNIST")


@pytest.mark.usefixtures("torchvision")
def test_absent_data_names_the_flag_and_the_embedded_choice() -> None:
    with pytest.raises(InputRefused, match=r"not on this machine.*add --download.*--data digits"):
        _get("torchvision:MNIST")
    with pytest.raises(EnvironmentNotReady, match=r"cannot be fetched.*no route to host.*--data digits"):
        _get("torchvision:MNIST", download=True)
    with pytest.raises(InputRefused, match="did you mean MNIST"):
        _get("torchvision:MNITS")


@pytest.mark.parametrize(("name", "package"), [("torchvision:MNIST", "torchvision"), ("hf:mnist", "datasets")])
def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    for key in (package, f"{package}.datasets"):
        monkeypatch.setitem(sys.modules, key, None)
    with pytest.raises(EnvironmentNotReady, match=r"pip install"):
        _get(name)


class Image_:  # noqa: N801 - told apart by the name of its class, as the library's
    """A column of images."""


class ClassLabel:
    """A column of classes."""


Image_.__name__ = "Image"


class _Part:
    def __init__(self, n: int, features: dict[str, Any]) -> None:
        self.rows = [{"picture": Image.new("RGB", (4, 4)), "digit": i % 2} for i in range(n)]
        self.features = features

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self.rows] if isinstance(key, str) else self.rows[key]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[bool, bool]]]:
    """A package `datasets`; records whether the hub was off limits at each call."""

    def install(features: dict[str, Any], *, present: bool = True) -> list[tuple[bool, bool]]:
        offline: list[tuple[bool, bool]] = []
        module: Any = ModuleType("datasets")

        def load_dataset(name: str) -> dict[str, _Part]:
            offline.append((module.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
            if not present:
                raise ConnectionError("Couldn't reach the Hugging Face Hub")
            return {"train": _Part(40, features), "validation": _Part(6, features), "test": _Part(8, features)}

        module.load_dataset, module.config = load_dataset, SimpleNamespace(HF_HUB_OFFLINE=False)
        monkeypatch.setitem(sys.modules, "datasets", module)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        return offline

    return install


def test_hub_is_asked_only_with_the_flag(hub: Callable[..., list[tuple[bool, bool]]]) -> None:
    offline = hub({"picture": Image_(), "digit": ClassLabel()})
    data = _get("hf:mnist")
    _get("hf:mnist", download=True)
    assert offline == [(True, True), (False, False)]
    assert not constants.HF_HUB_OFFLINE
    assert data.facts["split"]["sizes"] == {"train": 40, "val": 6, "test": 8}


def test_hub_data_that_is_absent_or_no_images(hub: Callable[..., list[tuple[bool, bool]]]) -> None:
    hub({}, present=False)
    with pytest.raises(InputRefused, match=r"hf:mnist is not on this machine.*--download.*--data digits"):
        _get("hf:mnist")
    hub({"text": object(), "digit": ClassLabel()})
    with pytest.raises(InputRefused, match=r"not a data set of images and classes: found text \(object\)"):
        _get("hf:mnist")
