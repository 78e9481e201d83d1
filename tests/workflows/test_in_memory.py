"""Networks in memory: modules, exported programs and ONNX models go through every function, and stay as they were."""

from __future__ import annotations

import copy
import json
import pydoc
import random
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import bnfold
from bnfold.errors import InputRefused
from bnfold.records import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

X = (2, 3, 6, 6)


def trained(module: nn.Module) -> nn.Module:
    """Statistics and parameters of the BatchNorms that are not the trivial ones."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((norm.weight, 0.5), (norm.bias, -1), (norm.running_mean, -1), (norm.running_var, 0.5)):
                assert tensor is not None
                nn.init.uniform_(tensor, low, low + 1.5, generator=generator)
    return module


def small() -> nn.Module:
    torch.manual_seed(0)
    return trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)))


def program(module: nn.Module, *, batch: str = "batch") -> torch.export.ExportedProgram:
    shapes = ({0: torch.export.Dim(batch)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own deprecated calls
        return torch.export.export(module.eval(), (torch.ones(X),), dynamic_shapes=shapes)


class Several(nn.Module):
    """Keyword inputs, nested ones, a constant, and outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(
        self, image: torch.Tensor, *, states: dict[str, Any] | None = None, doubled: bool = False
    ) -> dict[str, Any]:
        y = self.bn(self.conv(image)).mean((2, 3))
        if states is not None:
            y = y + states["first"] - states["more"][0]
        return {"scores": self.fc(2 * y if doubled else y), "features": (y,)}


# ---- what comes out


def test_a_module_an_example_and_no_folder() -> None:
    result = bnfold.fold_export(small(), torch.ones(X))
    assert result
    assert result.model is not None
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Relu", "Reshape", "Gemm"]
    assert result.report.ledger.absorbed == 1
    assert as_json(result.report) == as_json(result)
    assert "module Sequential: passed, 1 BatchNorms: 1 absorbed" in repr(result)
    assert not repr(result).count("\n")


def test_a_notebook_shows_the_page_and_completes_the_functions() -> None:
    page = bnfold.fold_export(small(), torch.ones(X))._repr_html_()
    assert page.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert "module Sequential" in page
    assert set(dir(bnfold)) >= {"fold", "fold_export", "inspect", "verify", "train"}
    assert "fold_export(" in pydoc.plain(pydoc.render_doc(bnfold))


def test_saving_writes_what_the_folder_would_hold(tmp_path: Path) -> None:
    result = bnfold.fold_export(small(), torch.ones(X), tmp_path / "written")
    path = result.save(tmp_path / "saved")
    assert path == tmp_path / "saved" / "model.onnx"
    assert path.read_bytes() == (tmp_path / "written" / "model.onnx").read_bytes()
    assert json.loads((tmp_path / "saved" / "report.json").read_text()) == as_json(result)
    with pytest.raises(InputRefused, match="exists already"):
        result.save(tmp_path / "saved")
    result.save(tmp_path / "saved", force=True)


def test_nothing_is_written_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bnfold.fold_export(small(), torch.ones(X))
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputRefused, match=r"files of an output folder: found golden, html; give output"):
        bnfold.fold_export(small(), torch.ones(X), golden=True, html=True)


def test_what_did_not_pass_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bnfold.folding import fold_model

    def fold_wrongly(model: ir.Model, **_: bool) -> Any:
        ledger = fold_model(model)
        weight = next(value for value in model.graph.initializers.values() if value.const_value.size > 4)
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.01), name=weight.name)
        return ledger

    monkeypatch.setattr("bnfold.folding.fold_model", fold_wrongly)
    result = bnfold.fold_export(small(), torch.ones(X))
    assert not result
    assert result.model is None
    with pytest.raises(InputRefused, match="no model to save"):
        result.save(tmp_path)


def test_the_same_bytes_from_a_module_a_program_a_file_and_the_command(
    cli: Callable[..., Result], tmp_path: Path
) -> None:
    module, folder = small().eval(), tmp_path / "command"
    exported = program(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(exported, tmp_path / "net.pt2")
    assert cli("fold-export", tmp_path / "net.pt2", "-o", folder).exit_code == 0
    expected = (folder / "model.onnx").read_bytes()
    for network, example in ((module, torch.zeros(X)), (module, X), (exported, None), (tmp_path / "net.pt2", None)):
        model = bnfold.fold_export(network, example).model
        assert model is not None
        assert model.SerializeToString(deterministic=True) == expected


def test_onnx_models_give_the_bytes_of_their_file(network: Path, tmp_path: Path) -> None:
    bnfold.fold_export(network, tmp_path / "out")
    expected = (tmp_path / "out" / "model.onnx").read_bytes()
    model = onnx.load(network)
    before = model.SerializeToString(deterministic=True)
    for given in (model, ir.from_proto(model)):
        folded = bnfold.fold_export(given).model
        assert folded is not None
        assert folded.SerializeToString(deterministic=True) == expected
        assert bnfold.inspect(given).ledger.absorbed == 1
    assert model.SerializeToString(deterministic=True) == before


def test_inspect_and_verify_take_networks_in_memory() -> None:
    module, example = small(), torch.ones(X)
    model = bnfold.fold_export(module, example).model
    assert model is not None
    assert bnfold.inspect(module, example).ledger.absorbed == 1
    assert bnfold.verify(module, model, example)
    assert bnfold.verify(program(module), ir.from_proto(model))
    wrong = copy.deepcopy(model)
    bias = next(tensor for tensor in wrong.graph.initializer if list(tensor.dims) == [4])
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) * np.float32(1.01), bias.name))
    assert not bnfold.verify(module, wrong, example)


@pytest.mark.parametrize(
    "example",
    [
        torch.ones(X), (torch.ones(X),), {"input": torch.ones(X)}, X, [X], {"input": X}, np.ones(X, np.float32),
    ],
)  # fmt: skip
def test_ways_to_give_an_example(example: Any) -> None:
    assert bnfold.inspect(small(), example).ledger.absorbed == 1


# ---- what stays


def test_the_module_comes_back_as_it_was() -> None:
    module = small().train()
    module[4].eval()
    calls: list[str] = []
    handle = module[2].register_forward_hook(lambda *_: calls.append("ran"))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    addresses = {name: tensor.data_ptr() for name, tensor in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    torch.manual_seed(5), random.seed(5), np.random.seed(5)  # noqa: NPY002 - the global generators are the subject
    generators = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002

    assert bnfold.fold_export(module, torch.ones(X))

    assert [part.training for part in module.modules()] == modes
    assert {name: tensor.data_ptr() for name, tensor in module.state_dict().items()} == addresses
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert [*module[2]._forward_hooks] == [handle.id]
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == generators[1:]  # noqa: NPY002
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_train_mode_is_said(caplog: pytest.LogCaptureFixture) -> None:
    bnfold.inspect(small().train(), X)
    assert "module Sequential is in train mode: what is exported is its eval mode" in caplog.text
    caplog.clear()
    bnfold.inspect(small().eval(), X)
    assert "train mode" not in caplog.text


def test_a_weight_that_was_computed_from_others_is_copied() -> None:
    """`torch.nn.utils.weight_norm` keeps a weight with a history, which copy.deepcopy refuses."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        module = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), trained(nn.BatchNorm1d(4)))
    assert bnfold.fold_export(module, (2, 3)).ledger.absorbed == 1
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(module)


# ---- names, axes, keywords


def test_keywords_nested_inputs_constants_and_names() -> None:
    module = trained(Several())
    example = {
        "states": {"first": torch.randn(2, 4), "more": [torch.randn(2, 4)]}, "image": torch.randn(X), "doubled": True,
    }  # fmt: skip
    result = bnfold.fold_export(module, example)
    assert result.model is not None
    assert [value.name for value in result.model.graph.input] == ["image", "states_first", "states_more_0"]
    assert [value.name for value in result.model.graph.output] == ["scores", "features_0"]
    names = {"input_names": ["a", "b", "c"], "output_names": ["y", "z"]}
    renamed = bnfold.fold_export(module, example, **names)
    assert renamed.model is not None
    assert [value.name for value in (*renamed.model.graph.input, *renamed.model.graph.output)] == [*"abcyz"]
    assert bnfold.verify(module, renamed.model, example, **names)
    plain = bnfold.fold_export(module, {"image": torch.randn(X)})
    assert plain.model is not None
    assert [value.name for value in plain.model.graph.input] == ["image"]


def test_a_program_with_keyword_inputs() -> None:
    module = trained(Several()).eval()
    kwargs = {"states": {"first": torch.randn(2, 4), "more": [torch.randn(2, 4)]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (torch.randn(X),), kwargs)
    result = bnfold.fold_export(exported)
    assert result.model is not None
    assert [value.name for value in result.model.graph.input] == ["image", "states_first", "states_more_0"]


def axes(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn(self.conv(x))
        return y


@pytest.mark.parametrize(
    "dynamic_shapes",
    [
        {"x": {0: "n", 2: "height", 3: "width"}},
        ({0: "n", 2: "height", 3: "width"},),
        [("n", None, torch.export.Dim("height", min=4), "width")],
    ],
)
def test_dynamic_axes_have_the_names_asked_for(dynamic_shapes: Any) -> None:
    result = bnfold.fold_export(trained(Convolutional()), torch.randn(2, 3, 6, 8), dynamic_shapes=dynamic_shapes)
    assert result.model is not None
    assert axes(result.model) == {"x": ["n", 3, "height", "width"], "output": ["n", 4, "height", "width"]}
    assert len(result.verify.sizes["x"]) > 1  # another height and width were compared


def test_the_command_has_the_same_options(cli: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))\n"
    )
    source = (f"{tmp_path}/net.py:build", "--input-shape", "1x3x6x8")
    names = ("--dynamic", "input:2=height", "--dynamic", "input:3=width", "--input-names", "x", "--output-names", "y")
    result = cli("fold-export", *source, *names, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert axes(onnx.load(tmp_path / "out" / "model.onnx"))["x"] == ["batch", 3, "height", "width"]
    assert cli("verify", *source, tmp_path / "out" / "model.onnx", *names).exit_code == 0
    assert cli("inspect", *source, *names[:4]).exit_code == 0
    for wrong in ("input:2", "2=height", "input:x=height", "input:2=a b", "input:2=a,2=b"):
        assert cli("inspect", *source, "--dynamic", wrong).exit_code == 2


def test_names_of_an_onnx_model(network: Path) -> None:
    model = onnx.load(network)
    result = bnfold.fold_export(network, input_names=["c"], output_names=["weight"])  # as an inner value and a weight
    assert result.model is not None
    assert axes(result.model).keys() == {"c", "weight"}
    assert bnfold.verify(model, result.model, input_names=["c"], output_names=["weight"])


def test_a_smaller_opset() -> None:
    result = bnfold.fold_export(small(), X, opset=17)
    assert result.report.output is not None
    assert result.report.output.opset == 17


# ---- what is refused


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:  # the line that the error names
            return x
        y: torch.Tensor = self.bn(x)
        return y


class Text(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return x, "text"


class Unpicklable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = (number for number in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def traced() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        return torch.jit.trace(nn.Linear(3, 4), torch.ones(2, 3))


def with_nan() -> nn.Module:
    module = small()
    module[0].weight.data[0, 0, 0, 0] = torch.nan
    return module


def branching_line() -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if "# the line that the error names" in line)


@pytest.mark.parametrize(
    ("network", "example", "says"),
    [
        (5, None, r"must be a module, an exported program or an ONNX model: found int, expected a torch\.nn\.Module"),
        (
            nn.Linear,
            (2, 3),
            r"an exported program or an ONNX model: found the class Linear.*make one of the class first",
        ),
        (traced(), (2, 3), "TorchScript"),
        (small(), None, r"inputs of a module cannot be known in module Sequential.*torch\.randn"),
        (small(), torch.ones(2, 7, 6, 6), r"raises on inputs of 2x7x6x6 torch\.float32.*7 channels"),
        (small(), torch.ones(X).double(), r"raises on inputs of .* torch\.float64.*x\.to\(torch\.float32\)"),
        (small(), torch.ones(X, device="meta"), "device meta, which holds no values"),
        (small(), (torch.ones(X), torch.ones(X)), r"does not fit the network's forward.*too many positional"),
        (
            small(),
            {"picture": torch.ones(X)},
            r"does not fit the network's forward.*missing a required argument: 'input'",
        ),
        (small(), 3.5, r"the example has a form that is not known in module Sequential: found float"),
        (small(), [], r"the example has a form that is not known.*nothing in it"),
        (nn.ModuleList([nn.Linear(3, 4)]), (2, 3), "the module has no forward in module ModuleList"),
        (nn.Linear(3, 4, device="meta"), (2, 3), "parameters on the device meta"),
        (nn.LazyLinear(4), (2, 3), "parameters without a shape"),
        (Unpicklable(), (2, 3), r"cannot be copied.*generator"),
        (Text(), (2, 3), r"returns something that is not a tensor.*output_1: str"),
        (nn.BatchNorm1d(3, track_running_stats=False), (2, 3), "uses the statistics of the batch"),
        (with_nan(), X, r"parameters are not finite in 0\.weight"),
        (Branching(), (2, 3), rf"decides by the values.*test_in_memory\.py line {branching_line()}, in forward"),
    ],
)
def test_bad_networks_and_examples_end_in_a_sentence(network: Any, example: Any, says: str) -> None:
    state = {k: v.clone() for k, v in network.state_dict().items()} if type(network) is nn.Sequential else {}
    with pytest.raises(InputRefused, match=says):
        bnfold.fold_export(network, example)
    for name, tensor in state.items():
        torch.testing.assert_close(network.state_dict()[name], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dynamic_shapes": {"y": {2: "height"}}}, r"no input called y.*expected input"),
        ({"dynamic_shapes": {"input": {4: "height"}}}, r"no axis 4.*0 to 3"),
        ({"dynamic_shapes": {"input": {2: "a b"}}}, r"must be a word like batch"),
        ({"dynamic_shapes": {"input": 5}}, r"must be a dict from axis to name, got int"),
        ({"dynamic_shapes": {"input": {2: "height"}}}, r"static shape of 6.*leave height out of dynamic_shapes"),
        ({"input_names": ["a", "b"]}, r"number of input names does not fit.*2: a, b, expected 1, for input"),
        ({"output_names": [""]}, r"distinct and not empty"),
        ({"input_names": ["x"], "output_names": ["x"]}, r"must have different names.*found x"),
        ({"weights": "x.pt"}, r"states these itself in module Sequential: found weights"),
        ({"input_shapes": [X]}, r"an example and input shapes exclude each other"),
        ({"dims": {"a": 3}}, r"states these itself.*dims"),
    ],
)
def test_bad_options_end_in_a_sentence(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputRefused, match=says):
        bnfold.fold_export(small(), torch.ones(X), **options)


def test_two_folders_and_a_candidate_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="give the folder once"):
        bnfold.fold_export(small(), tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputRefused, match="must be a folder, got int"):
        bnfold.fold_export(small(), torch.ones(X), 5)  # type: ignore[arg-type]
    with pytest.raises(InputRefused, match=r"candidate is not an ONNX model.*give the reference first"):
        bnfold.verify(small(), small(), X)


def test_a_model_without_its_data(network: Path) -> None:
    model = onnx.load(network)
    onnx.external_data_helper.convert_model_to_external_data(model, location="weights", size_threshold=0)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    with pytest.raises(InputRefused, match="tensors lie in another file, which was not loaded"):
        bnfold.inspect(model)


def test_a_module_is_quantised_on_an_npz_file(tmp_path: Path) -> None:
    values = torch.randn(40, 3, 6, 6, generator=torch.Generator().manual_seed(2)).numpy()
    np.savez(tmp_path / "right.npz", input=values)
    np.savez(tmp_path / "wrong.npz", x=values)
    assert bnfold.quantize(small(), tmp_path / "out", inputs=tmp_path / "right.npz", budget_s=0).passed
    for name, says in (("wrong.npz", "not named as the inputs.*found x, expected input"), ("no.npz", "no such file")):
        with pytest.raises(InputRefused, match=says):
            bnfold.quantize(small(), tmp_path / "other", inputs=tmp_path / name, budget_s=0)


def test_an_example_of_a_file_is_held_against_its_types(tmp_path: Path) -> None:
    bnfold.fold_export(small(), torch.ones(X), tmp_path, keep_plain=True, budget_s=0)
    plain, folded = str(tmp_path / "plain.onnx"), tmp_path / "model.onnx"
    assert bnfold.verify(plain, folded, torch.ones(X)).passed
    with pytest.raises(InputRefused, match="input input must be float32, got float64"):
        bnfold.verify(plain, folded, torch.ones(X).double())


@pytest.mark.parametrize("function", [bnfold.bench, bnfold.tune, bnfold.evaluate])
def test_a_module_in_the_place_of_a_file_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(InputRefused, match=r"a path is wanted, got Sequential.*bnfold\.fold_export"):
        function(small())
