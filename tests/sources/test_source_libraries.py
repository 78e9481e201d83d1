"""Networks of timm and torchvision."""

from __future__ import annotations

import pytest

from bnfold.errors import InputRefused
from bnfold.sources import TorchSource, load_source

pytestmark = pytest.mark.zoo


@pytest.mark.parametrize(
    ("spec", "shape", "names"),
    [
        ("timm:test_byobnet", (None, 3, 160, 160), ("output",)),
        ("torchvision:mobilenet_v2", (None, 3, 224, 224), ("output",)),
        ("torchvision:r3d_18", (None, 3, 16, 112, 112), ("output",)),
        ("torchvision:lraspp_mobilenet_v3_large", (None, 3, 520, 520), ("out",)),
    ],
)
def test_networks_load_twice_the_same(spec: str, shape: tuple[int | None, ...], names: tuple[str, ...]) -> None:
    source = load_source(spec)

    assert isinstance(source, TorchSource)
    assert source.inputs[0].shape == shape
    assert source.output_names == names
    assert source.facts.sha256 == load_source(spec).facts.sha256


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("timm:rsnet18", "did you mean resnet18"),
        ("timm:resnet18.a9_in1k", "did you mean resnet18.a"),
        ("torchvision:resnt18", "did you mean resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "lists"),
    ],
)
def test_unknown_names_suggest_the_nearest(spec: str, part: str) -> None:
    with pytest.raises(InputRefused, match=part):
        load_source(spec)
