"""`--input-format resize=,crop=`: images of any size, resized and cropped as PyTorch and torchvision do it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional

import bnfold
from bnfold.errors import InputRefused
from bnfold.export import plain_graph
from bnfold.folding import fold_model
from bnfold.graph.float64 import Float64Graph
from bnfold.records import FileFacts
from bnfold.records.file_facts import from_properties
from bnfold.sources import load_network
from bnfold.sources.input_format import with_pixels

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = ((40, 54), (33, 33), (36, 97), (131, 47), (18, 25))  # height and width; the last one is enlarged
FORMAT = "uint8,nhwc,bgr,imagenet,resize=36"


@pytest.fixture(scope="module")
def network(convnet: Callable[[int], nn.Module]) -> nn.Module:
    return convnet(32)


def images(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, *size, 3), dtype=np.uint8)


def by_hand(pixels: np.ndarray, *, side: int = 36, crop: int = 32, mode: str = "bilinear") -> torch.Tensor:
    """Torchvision's Resize and CenterCrop of floats, and the normalisation, in float64."""
    x = torch.from_numpy(pixels[..., ::-1].copy()).double().permute(0, 3, 1, 2)
    height, width = x.shape[2:]
    size = (side, int(side * width / height)) if height <= width else (int(side * height / width), side)
    x = functional.interpolate(x, size=size, mode=mode, antialias=True, align_corners=False)
    top, left = (round((length - crop) / 2.0) for length in size)
    x = x[:, :, top : top + crop, left : left + crop] / 255
    return (x - torch.tensor(MEAN).double().reshape(3, 1, 1)) / torch.tensor(STD).double().reshape(3, 1, 1)


@pytest.mark.parametrize("side", [32, 36])  # with and without a border that is read
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_before_rounding_the_file_is_equal_to_pytorch_at_five_sizes(network, mode, side):
    text = f"uint8,nhwc,bgr,imagenet,resize={side},interpolation={mode}"
    source, _ = with_pixels(load_network(network, torch.zeros(2, 3, 32, 32)), FileFacts(), text)
    model = plain_graph(source)
    outcome = fold_model(model, pixels=source.form.input, rounded=False).preprocessing
    assert (outcome.outcome, outcome.resized) == ("folded", True)
    stored = {str(name): value.const_value for name, value in model.graph.initializers.items()}
    graph = Float64Graph(ir.to_proto(model), stored)
    exact = network.double()
    for seed, size in enumerate(SIZES):
        pixels = images(size, seed)
        with torch.no_grad():
            expected = exact(by_hand(pixels, side=side, mode=mode)).numpy()
        (found,) = graph.evaluate({source.form.input: pixels}).values()
        assert np.abs(found - expected).max() <= 1e-10 * np.abs(expected).max()
    network.float()


@pytest.mark.parametrize("side", [32, 36])
def test_images_of_any_size_give_what_pytorch_gives_and_the_report_says_how_that_is_known(network, tmp_path, side):
    form = f"uint8,nhwc,bgr,imagenet,resize={side}"
    result = bnfold.fold_export(network, torch.zeros(1, 3, 32, 32), tmp_path / "out", input_format=form, budget_s=0)
    assert result.passed
    assert len(result.verify.sizes["input"]) == 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["ledger"]["preprocessing"]["resized"] is True
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    for seed, size in enumerate(SIZES):
        pixels = images(size, seed)
        with torch.no_grad():
            expected = network.double()(by_hand(pixels, side=side)).numpy()
        network.float()
        np.testing.assert_allclose(session.run(None, {"input": pixels})[0], expected, rtol=0, atol=2e-5)


def test_nothing_is_left_to_do_but_to_decode(network):
    result = bnfold.fold_export(network, torch.zeros(1, 3, 32, 32), input_format=FORMAT, budget_s=0)
    left = from_properties({entry.key: entry.value for entry in result.model.metadata_props}).preprocessing
    assert (left.dtype, left.layout, left.channels, left.size, left.crop) == ("uint8", "nhwc", "bgr", None, 1.0)


def test_a_network_with_channels_last_resizes_the_axes_between():
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.permute(0, 3, 1, 2))

    result = bnfold.fold_export(
        ChannelsLast().eval(), torch.zeros(1, 16, 16, 3), input_format="imagenet,layout=nhwc,resize=20", budget_s=0
    )
    assert result.passed
    assert result.ledger.preprocessing.outcome == "folded"
    assert "Resize" in {node.op_type for node in result.model.graph.node}


def test_an_onnx_file_resizes_too_from_opset_18_on(network, tmp_path):
    for opset in (17, 18):
        bnfold.fold_export(network, torch.zeros(1, 3, 32, 32), tmp_path / str(opset), opset=opset, budget_s=0)
    result = bnfold.fold_export(tmp_path / "18" / "model.onnx", input_format=FORMAT, budget_s=0)
    assert result.passed
    with pytest.raises(InputRefused, match="the opset has no antialiased Resize"):
        bnfold.fold_export(tmp_path / "17" / "model.onnx", input_format=FORMAT, budget_s=0)


def test_an_older_opset_is_refused_not_written_without_the_filter(network):
    with pytest.raises(InputRefused, match="Resize"):
        bnfold.fold_export(network, torch.zeros(1, 3, 32, 32), input_format=FORMAT, opset=17, budget_s=0)


def test_int8_of_a_file_that_resizes_keeps_the_digits_of_the_mean(network, tmp_path: Path):
    pixels = images((48, 60), 1)
    smooth = functional.interpolate(torch.randn(48, 3, 6, 8), size=(48, 60), mode="bicubic") * 50 + 110
    np.savez(tmp_path / "x.npz", input=smooth.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy())
    bnfold.fold_export(network, torch.zeros(1, 3, 32, 32), tmp_path / "float", input_format=FORMAT, budget_s=0)
    report = bnfold.quantize(
        tmp_path / "float" / "model.onnx",
        tmp_path / "int8",
        inputs=tmp_path / "x.npz",
        budget_s=0,
        dims={"input_height": 48, "input_width": 60},
    )
    assert report.passed
    first = next(layer for layer in report.layers if layer.op == "Conv")
    assert first.precision == "int8"
    assert first.sqnr_db > 30
    model = onnx.load(tmp_path / "int8" / "model.int8.onnx")
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    (fill,) = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name == pad.input[2])
    assert (float(fill), fill.dtype) == (255 * 257 / 256, np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": pixels})[0].shape == (2, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagenet,resize=x", "resize cannot be read"),
        ("imagenet,resize=36x40", "resize cannot be read"),
        ("imagenet,resize=0", "resize cannot be read"),
        ("imagenet,resize=36,crop=0.875", "crop cannot be read"),
        ("imagenet,resize=36,crop=40", "the crop must lie in the image"),
        ("imagenet,resize=36,crop=30", "the crop contradicts the network"),
        ("imagenet,resize=30", "the shorter side must be at least the network's size"),
        ("imagenet,resize=36,interpolation=nearest", "an image is resized by a filter"),
        ("imagenet,rezise=36", "did you mean resize"),
    ],
)
def test_what_cannot_be_is_refused(network, text, message):
    with pytest.raises(InputRefused) as refused:
        bnfold.fold_export(network, torch.zeros(1, 3, 32, 32), input_format=text, budget_s=0)
    assert message in str(refused.value)
    assert "--input-format" in str(refused.value)
