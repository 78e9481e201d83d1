"""`bnfold quantize`: its file, its report, its exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from int8_networks import with_parameters
from torch import nn

import bnfold
from bnfold.errors import InputRefused
from bnfold.records.input_format import PreprocessingFold

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def files(tmp_path: Path, network: onnx.ModelProto, samples: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """A source and its samples."""
    onnx.save(network, tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", **samples)
    return tmp_path / "net.onnx", tmp_path / "samples.npz"


@pytest.fixture
def quantize(cli: Callable[..., Result], files: tuple[Path, Path], tmp_path: Path) -> Callable[..., Result]:
    """Run the command on them, without a measurement."""

    def run(*options: object, source: Path | None = None, inputs: Path | None = None) -> Result:
        given = [source or files[0], "-o", tmp_path / "out", "--inputs", inputs or files[1], "--threads", 1]
        return cli("quantize", *given, "--budget", 0, *options)

    return run


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_a_file_and_a_report_with_the_public_fields(quantize: Callable[..., Result], tmp_path: Path) -> None:
    result = quantize()
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.int8.onnx", "report.json"]
    found = report(tmp_path / "out")
    assert found["schema"] == "bnfold.quantize/1"
    assert found["passed"] is True
    assert found["precision"] == "int8"
    assert found["output"]["path"] == "model.int8.onnx"
    assert found["output"]["bytes"] == (tmp_path / "out" / "model.int8.onnx").stat().st_size
    assert found["calibration"]["n"] == 30
    assert found["calibration"]["n_held_out"] == 10
    assert [(layer["name"], layer["op"], layer["precision"], layer["reason"]) for layer in found["layers"]] == [
        ("stem", "Conv", "int8", None), ("wide", "Conv", "int8", None), ("deep", "Conv", "int8", None),
        ("narrow", "Conv", "int8", None), ("add", "Add", "int8", None), ("last", "Conv", "int8", None),
        ("fc", "Gemm", "int8", None),
    ]  # fmt: skip
    assert all(10 < layer["sqnr_db"] < 60 for layer in found["layers"])
    assert [layer["bias_corrected"] for layer in found["layers"]] == [True, True, True, True, False, True, True]
    (output,) = found["error"]["outputs"]
    assert output["name"] == "y"
    assert 20 < output["sqnr_db"] < 60
    assert 0.7 <= output["agreement"] <= 1
    assert found["error"]["simulation_steps"] <= 1
    assert found["gauge"]["taken"] is (found["gauge"]["predicted_gain_db"] > 1)
    assert found["gauge"]["n_classes"] >= 8
    assert found["timing"] is None
    assert "layers: 7 int8, 0 float32" in result.stdout


def test_an_open_size_is_that_of_the_samples(
    quantize: Callable[..., Result], files: tuple[Path, Path], tmp_path: Path
) -> None:
    """Trying would take 224 pixels."""
    model = onnx.load(files[0])
    (value,) = model.graph.input
    dims = value.type.tensor_type.shape.dim
    sizes = [dims[axis].dim_value for axis in (2, 3)]
    for axis, name in ((2, "height"), (3, "width")):
        dims[axis].dim_param = name
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "open.onnx")
    result = quantize(source=tmp_path / "open.onnx")
    assert result.exit_code == 0, result.output
    assert min(sizes) < 224
    (given,) = onnx.load(tmp_path / "out" / "model.int8.onnx").graph.input
    assert [dim.dim_param for dim in given.type.tensor_type.shape.dim][2:] == ["height", "width"]
    np.savez(tmp_path / "flat.npz", **{value.name: np.zeros((8, 9), np.float32)})
    refused = quantize("--force", source=tmp_path / "open.onnx", inputs=tmp_path / "flat.npz")
    assert refused.exit_code == 3
    assert "does not fit its input" in refused.stderr


STATEFUL = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch, W] x, float[2, batch, 1] state) => (float[2, batch, 5] y) {
  a = Add (x, state) b = MatMul (a, w) c = Relu (b) y = MatMul (c, v)
}
"""
ALONE = """
<ir_version: 8, opset_import: ["" : 17]>
net (int64[batch, W] x) => (float[1, 5] y) <int64[2] one = {1, 64}> {
  e = Gather (table, x) a = Reshape (e, one) b = MatMul (a, w) c = Relu (b) y = MatMul (c, v)
}
"""


@pytest.mark.parametrize("text", [STATEFUL, ALONE])
def test_samples_fit_before_and_after_it_is_known_which_axis_counts_them(text: str, tmp_path: Path) -> None:
    """A state whose second axis is the batch; and a batch that is a length of one."""
    rng, parameters = np.random.default_rng(0), {"w": (64, 64), "v": (64, 5)}
    if text == STATEFUL:
        given = {
            name: rng.standard_normal((24, *row), np.float32) for name, row in (("x", (64,)), ("state", (2, 1, 1)))
        }
    else:
        given, parameters = {"x": rng.integers(0, 9, (24, 16))}, {"table": (9, 4), **parameters}
    onnx.save(with_parameters(text, parameters), tmp_path / "net.onnx")
    np.savez(tmp_path / "samples.npz", **given)
    samples = tmp_path / "samples.npz"
    made = bnfold.quantize(tmp_path / "net.onnx", tmp_path / "out", inputs=samples, min_sqnr_db=0, budget_s=0)
    assert made.passed
    assert made.calibration.n == 18


def test_a_network_and_samples_in_memory_make_the_bytes_of_their_files(
    quantize: Callable[..., Result], network: onnx.ModelProto, samples: dict[str, np.ndarray], tmp_path: Path
) -> None:
    quantize()
    wanted = (tmp_path / "out" / "model.int8.onnx").read_bytes()
    (array,) = samples.values()
    for number, given in enumerate((samples, array, torch.from_numpy(array))):
        made = bnfold.quantize(network, tmp_path / str(number), inputs=given, threads=1, budget_s=0)
        assert (made.calibration.spec, made.source.spec) == ("arrays", "onnx.ModelProto")
        assert (tmp_path / str(number) / "model.int8.onnx").read_bytes() == wanted


def test_a_module_is_called_with_its_samples(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)).train()
    x = torch.randn(16, 3, 8, 8)
    made = bnfold.quantize(module, tmp_path / "int8", inputs=x, threads=1, budget_s=0)
    assert made.passed
    assert made.ledger is not None
    assert made.ledger.absorbed == 1
    assert module.training
    with pytest.raises(InputRefused, match=r"float64 .*give them as float32, as .astype"):
        bnfold.quantize(module, tmp_path / "wide", example=x[:2], inputs={"input": x.double()}, budget_s=0)


def test_a_mean_in_a_node_goes_into_weights_that_read_bytes(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.Conv2d(64, 8, 3)).eval()
    form = "uint8,nhwc,bgr,imagenet"
    made = bnfold.fold_export(module, torch.zeros(1, 3, 24, 24), tmp_path / "pixels", input_format=form, budget_s=0)
    assert made.ledger.preprocessing is not None
    assert made.ledger.preprocessing.mean_in_node
    images = np.random.default_rng(0).integers(0, 256, (24, 24, 24, 3), dtype=np.uint8)
    report = bnfold.quantize(tmp_path / "pixels" / "model.onnx", tmp_path / "int8", inputs=images, budget_s=0)
    assert report.passed
    assert report.ledger is not None
    assert report.ledger.preprocessing == PreprocessingFold("folded", into=("0",))
    first = [node.op_type for node in onnx.load(tmp_path / "int8" / "model.int8.onnx").graph.node][:3]
    assert first == ["Transpose", "Pad", "DequantizeLinear"]


def test_one_array_is_not_enough_for_two_inputs(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.layer(x + y))

    x = torch.randn(8, 4)
    with pytest.raises(InputRefused, match=r"several inputs.* expected arrays by name: x, y; give a dict of arrays"):
        bnfold.quantize(Sum(), tmp_path / "int8", example=(x, x), inputs=x, budget_s=0)


def test_two_runs_give_the_same_bytes(quantize: Callable[..., Result], tmp_path: Path) -> None:
    quantize()
    first = (tmp_path / "out" / "model.int8.onnx").read_bytes()
    assert quantize("--force").exit_code == 0
    assert (tmp_path / "out" / "model.int8.onnx").read_bytes() == first
    assert quantize().exit_code == 3


def test_an_output_below_the_limit_leaves_the_report_and_no_file(
    quantize: Callable[..., Result], tmp_path: Path
) -> None:
    result = quantize("--min-sqnr", 90)
    assert result.exit_code == 1
    assert "y has " in result.stderr
    assert "less than 90" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.json"]
    assert report(tmp_path / "out")["output"] is None
    assert quantize("--min-sqnr", 90, "--keep-failed", "--force").exit_code == 1
    assert (tmp_path / "out" / "model.int8.failed.onnx").is_file()


def test_float_layers_have_a_reason_in_words(quantize: Callable[..., Result], tmp_path: Path) -> None:
    result = quantize("--keep-float", "deep", "--weights", "per-tensor", "--json", "-", "--html")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    (layer,) = [layer for layer in found["layers"] if layer["precision"] == "float32"]
    assert (layer["name"], layer["reason"]) == ("deep", "asked")
    assert layer["sentence"] == "asked for with --keep-float"
    assert found == report(tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "asked for with --keep-float" in page


def test_a_file_that_is_slower_fails(
    quantize: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnfold.records.quantisation import QuantizedTiming, TriedPlan
    from bnfold.workflows.int8_candidate import Candidate

    timings = {
        "slower": QuantizedTiming(1.2, 1.1, 1.3, "slower"),
        "undecided": QuantizedTiming(1.2, 1.1, 1.3, "undecided", "slower"),
        "faster": QuantizedTiming(0.5, 0.4, 0.6, "faster"),
    }
    monkeypatch.setattr("bnfold.quantisation.targets.this_target", lambda: "x86-vnni")
    plan = TriedPlan("1x1 only", 3, 1.05, 1.04, 1.06, 30.0, 0.4)
    monkeypatch.setattr("bnfold.workflows.candidates.fastest_plan", lambda *_: ((), (plan,)))
    codes = {}
    for name, timing in timings.items():
        for strict in ([], ["--strict"]):
            monkeypatch.setattr(Candidate, "timing", lambda *_, timing=timing: (timing, ({}, {})))
            codes[name, bool(strict)] = quantize("--force", "--budget", "1s", *strict).exit_code
            tried = [own["name"] for own in report(tmp_path / "out")["plans"]]
            assert tried == (["1x1 only"] if name == "slower" else [])  # what else there is, where a file is slower
    assert codes == {
        ("slower", False): 1, ("slower", True): 1, ("undecided", False): 0, ("undecided", True): 1,
        ("faster", False): 0, ("faster", True): 0,
    }  # fmt: skip


def test_time_is_measured_against_the_folded_float_file(quantize: Callable[..., Result], tmp_path: Path) -> None:
    result = quantize("--budget", "300ms")
    timing = report(tmp_path / "out")["timing"]
    assert result.exit_code == (1 if timing["verdict"] == "slower" else 0)
    assert timing["low"] <= timing["ratio"] <= timing["high"]
    assert timing["float_ms"] > 0
    layers = report(tmp_path / "out")["layers"]
    assert sum(layer["ms"] is not None and layer["float_ms"] is not None for layer in layers) >= 4


def test_for_another_processor_time_is_not_measured(
    quantize: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfold.quantisation.targets.this_target", lambda: "x86-vnni")
    result = quantize("--target", "x86", "--budget", "1s")
    assert result.exit_code == 0
    assert report(tmp_path / "out")["timing"] is None
    assert "the time was not measured: the file is for x86, and this machine is x86-vnni" in result.stdout


def test_a_proof_that_fails_names_the_layer(
    quantize: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnfold.quantisation import stored

    right = stored.integer_bias

    def uncorrected(bias: np.ndarray, *scales: Any) -> Any:
        values, scale = right(bias, *scales)
        return values + (np.arange(len(values)) == 1), scale

    monkeypatch.setattr(stored, "integer_bias", uncorrected)
    result = quantize()
    assert result.exit_code == 1
    assert "stem: bias[1] is" in result.stderr
    assert not (tmp_path / "out" / "model.int8.onnx").exists()


def test_labels_give_the_accuracy_of_both_files_paired(
    cli: Callable[..., Result], files: tuple[Path, Path], samples: dict[str, np.ndarray], tmp_path: Path
) -> None:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    answers = ort.InferenceSession(files[0], options).run(None, samples)[0].argmax(1)
    np.savez(tmp_path / "data.npz", x=samples["x"], y=answers)
    given = ["quantize", files[0], "-o", tmp_path / "out", "--data", f"npz:{tmp_path / 'data.npz'}", "--budget", 0]
    result = cli(*given, "--max-drop", "90%")
    assert result.exit_code == 0, result.output
    accuracy = report(tmp_path / "out")["accuracy"]
    assert accuracy["float"] == 1
    assert 0.7 < accuracy["int8"] <= 1
    assert accuracy["difference"] == pytest.approx(accuracy["int8"] - 1)
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
    assert accuracy["n"] == 40


def test_bad_input(quantize: Callable[..., Result], cli: Callable[..., Result], files: tuple[Path, Path]) -> None:
    folder = files[0].parent
    np.savez(folder / "other.npz", x=np.zeros((4, 3, 12, 13), np.float32))
    np.savez(folder / "one.npz", x=np.ones((1, 3, 13, 13), np.float32))
    old = with_parameters(
        '<ir_version: 7, opset_import: ["" : 11]> net (float[N, 3, 13, 13] x) => (float[N, 4] y) '
        "{ a = Conv (x, w) b = Relu (a) c = GlobalAveragePool (b) y = Flatten (c) }",
        {"w": (4, 3, 3, 3)},
    )
    onnx.save(old, folder / "old.onnx")
    cases = {
        "no samples": (cli("quantize", files[0], "-o", folder / "out"), 3, "there are no samples to calibrate on"),
        "shapes": (quantize(inputs=folder / "other.npz"), 3, "an array does not fit its input"),
        "one sample": (quantize(inputs=folder / "one.npz"), 3, "too few samples"),
        "drop without labels": (quantize("--max-drop", "1%"), 3, "a limit on accuracy needs labels"),
        "two weights": (quantize("--weights", "per-tensor", "--weights", "per-channel"), 2, "exclude each other"),
    }
    for name, (result, code, message) in cases.items():
        assert result.exit_code == code, (name, result.output)
        assert message in result.stderr, name
        assert not (folder / "out").exists()
    assert quantize(source=folder / "old.onnx").exit_code == 0, "opset 11 is converted to 13"
    assert report(folder / "out")["output"]["opset"] == 13


def test_an_int8_file_is_not_quantised_again(quantize: Callable[..., Result], tmp_path: Path) -> None:
    quantize()
    (tmp_path / "out" / "model.int8.onnx").rename(tmp_path / "again.onnx")
    result = quantize("--force", source=tmp_path / "again.onnx")
    assert result.exit_code == 3
    assert "the source is quantised already" in result.stderr
