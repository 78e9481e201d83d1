"""`--input-format`: the file takes pixels, is equal to the network behind its preprocessing, and says what is left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

import bnfold
from bnfold.errors import InputRefused
from bnfold.records import MeasuredChoice
from bnfold.records.file_facts import from_properties
from bnfold.records.input_format import PreprocessingFold
from bnfold.workflows import measured

if TYPE_CHECKING:
    from collections.abc import Callable

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FORMAT = "uint8,nhwc,bgr,divide=255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"


@pytest.fixture(scope="module")
def network(convnet: Callable[[int], nn.Module]) -> nn.Module:
    return convnet(16)


def run(model: bytes, pixels: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: pixels})[0]


def test_pixels_give_what_the_preprocessed_image_gives(network):
    result = bnfold.fold_export(network, torch.zeros(1, 3, 16, 16), input_format=FORMAT, budget_s=0)
    assert result.passed
    assert result.ledger.preprocessing.outcome == "folded"
    assert result.ledger.preprocessing.into == ("0",)
    assert result.ledger.found == result.ledger.absorbed == 1
    assert result.verify.certificate is not None
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    rgb = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    normal = (rgb - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    with torch.no_grad():
        expected = network(normal).numpy()
    np.testing.assert_allclose(run(result.model.SerializeToString(), pixels), expected, rtol=0, atol=1e-5)


def test_the_metadata_says_what_is_left_to_do(network):
    result = bnfold.fold_export(network, torch.zeros(1, 3, 16, 16), input_format="imagenet,bgr", budget_s=0)
    left = from_properties({entry.key: entry.value for entry in result.model.metadata_props}).preprocessing
    assert left is not None
    assert (left.dtype, left.layout, left.channels, left.size) == ("uint8", "nhwc", "bgr", (16, 16))
    assert (left.divide, left.mean, left.std) == (1.0, (0.0,), (1.0,))


def test_a_file_takes_pixels_as_its_network_does_and_is_measured(network, tmp_path):
    plain = bnfold.fold_export(network, torch.zeros(1, 3, 16, 16), tmp_path / "plain", budget_s=0)
    assert plain.passed
    result = bnfold.fold_export(
        tmp_path / "plain" / "model.onnx", tmp_path / "pixels", input_format=FORMAT, budget_s=0.2, html=True
    )
    assert result.passed
    assert result.timing is not None
    report = json.loads((tmp_path / "pixels" / "report.json").read_text())
    assert report["ledger"]["preprocessing"] == {
        "outcome": "folded", "into": ["0"], "reason": None, "resized": False, "mean_in_node": False,
    }  # fmt: skip
    again = bnfold.verify(tmp_path / "plain" / "model.onnx", tmp_path / "plain" / "model.onnx")
    assert again.passed


@pytest.mark.parametrize("taken", [True, False])
def test_a_mean_that_is_measured_faster_as_a_node_stays_one_and_the_ledger_says_so(network, monkeypatch, taken):
    def pretended(rewrite, _candidate, _folded, axes, _budget_s):
        return MeasuredChoice(rewrite, taken, axes.provider, 1.0, 1.0, 1.0, 1.0, 1.0, "faster" if taken else "tie")

    monkeypatch.setattr(measured, "_measured", pretended)
    result = bnfold.fold_export(
        network, torch.zeros(1, 3, 16, 16), input_format=FORMAT, budget_s=0, measure=True, threads=1
    )
    assert result.passed
    assert [choice.rewrite for choice in result.ledger.choices] == [measured.MEAN_IN_NODE]
    kinds = {node.op_type for node in result.model.graph.node}
    if not taken:
        assert result.ledger.preprocessing.outcome == "folded"
        assert "Pad" in kinds
        return
    assert result.ledger.preprocessing == PreprocessingFold(
        "folded", into=("0",), reason="it was measured faster", mean_in_node=True
    )
    assert kinds.isdisjoint({"Pad", "Gather", "Div"})
    assert "Sub" in kinds
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    rgb = torch.from_numpy(pixels[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        expected = network((rgb - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)).numpy()
    np.testing.assert_allclose(run(result.model.SerializeToString(), pixels), expected, rtol=0, atol=1e-5)


def test_images_are_given_as_pixels(network, tmp_path):
    images = pytest.importorskip("PIL.Image")
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        images.fromarray(pixels).save(folder / f"{seed}.png")
    result = bnfold.fold_export(
        network, torch.zeros(1, 3, 16, 16), input_format="uint8,nhwc,bgr,imagenet", inputs=folder, budget_s=0
    )
    assert result.passed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uint8,nhwc,rbg,imagenet", "did you mean rgb"),
        ("uint8,nhwc", "nothing says how the pixels become"),
        ("source", "does not say how pixels become"),
        ("imagenet,gray", "as many channels"),
        ("uint8,mean=0.5:0.5", "mean must have one value, or one for each channel"),
        ("uint8,divide=255,channels=gray", "the format contradicts the network"),
        ("uint8,imagenet,layout=nhwc", "the format contradicts the network"),
    ],
)
def test_formats_that_cannot_be_are_refused(network, text, message):
    with pytest.raises(InputRefused) as refused:
        bnfold.fold_export(network, torch.zeros(1, 3, 16, 16), input_format=text, budget_s=0)
    assert message in str(refused.value)


def test_a_network_of_the_zoo_without_a_run_says_nothing_of_pixels():
    with pytest.raises(InputRefused, match="does not say how pixels become"):
        bnfold.fold_export("resnet", input_format="source", budget_s=0)
