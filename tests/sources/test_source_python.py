"""Networks named by their code: the zoo, model files, factories."""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import InputSpec
from bnfold.sources import TorchSource, load_source
from bnfold.sources.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def loaded(spec: object, **options: object) -> TorchSource:
    source = load_source(str(spec), **options)  # type: ignore[arg-type]  # options are checked by the tests' outcome
    assert isinstance(source, TorchSource)
    return source


def refusal(spec: object, **options: object) -> str:
    with pytest.raises(InputRefused) as caught:
        load_source(str(spec), **options)  # type: ignore[arg-type]  # as above
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert caught.value.remedy
    return sentence


def test_a_zoo_name_loads_in_eval_mode_with_named_inputs_and_outputs() -> None:
    source = loaded("bnnet")

    assert not any(module.training for module in source.module.modules())
    assert source.inputs == (InputSpec("x", (None, 512), "float32"),)
    assert source.output_names == ("logits",)
    assert source.facts.n_parameters == 512 * 2 + 512 * 10 + 10


def test_a_model_file_loads(net_file: Path) -> None:
    source = loaded(net_file)

    assert source.inputs == (InputSpec("image", (None, 3, 8, 8), "float32"),)
    assert source.output_names == ("output",)
    assert not (net_file.parent / "__pycache__").exists()


def reseed() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is the subject


def draw() -> tuple[float, float, float]:
    return torch.rand(1).item(), random.random(), np.random.rand()  # noqa: NPY002, S311 - as above


def test_the_same_command_gives_the_same_parameters_and_leaves_random_states_alone(net_file: Path) -> None:
    reseed()
    expected = draw()
    reseed()

    first, second = loaded(net_file), loaded(net_file)

    assert draw() == expected
    assert first.facts.sha256 == second.facts.sha256


def test_the_sha256_sees_every_byte(net_file: Path) -> None:
    from bnfold.sources.module_facts import sha256_of_module

    module = loaded(net_file).module
    before = sha256_of_module(module)
    bn = module.get_submodule("bn")
    bn.get_buffer("running_mean")[-1] = 1e-45

    assert sha256_of_module(module) != before


def test_a_factory_needs_an_input_shape(net_file: Path) -> None:
    net_file.write_text(net_file.read_text().replace("INPUT_SHAPE", "SIZES"))
    sentence = refusal(f"{net_file}:build")

    assert "--input-shape" in sentence
    assert loaded(f"{net_file}:Net", input_shapes=[(1, 3, 8, 8)]).inputs[0].shape == (None, 3, 8, 8)


@pytest.mark.parametrize(("line", "warned"), [("pass", True), ("nn.init.ones_(net[1].running_mean)", False)])
def test_a_factory_of_a_network_that_has_seen_no_data_is_warned_of(
    write_py: Callable[..., Path], caplog: pytest.LogCaptureFixture, line: str, warned: bool
) -> None:
    text = f"def build():\n    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))\n    {line}\n    return net\n"
    with caplog.at_level("WARNING", logger="bnfold.sources"):
        load_source(f"{write_py(text)}:build", input_shapes=((1, 3),))
    assert ("no BatchNorm has seen data yet; give --weights" in caplog.text) is warned


def test_a_factory_of_an_importable_module(net_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(net_file.parent)
    monkeypatch.setitem(sys.modules, "net", None)
    monkeypatch.delitem(sys.modules, "net")

    assert loaded("net:Net", input_shapes=[(1, 3, 8, 8)]).facts.spec == "net:Net"


def test_a_file_may_import_its_neighbours_and_print(
    write_py: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_py("WIDTH = 5", "widths_beside.py")
    path = write_py("from widths_beside import WIDTH\nINPUT_SHAPE = (1, WIDTH)\nprint('hello')\nbuild = nn.Identity")

    assert loaded(path).inputs[0].shape == (None, 5)
    assert "hello" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        ("x", ("output",)),
        ("(x, x + 1)", ("output_0", "output_1")),
        ("{'low': x, 'high': [x + 1, None, (x,)]}", ("low", "high_0", "high_2_0")),
        ("{'x': x + 1}", ("x_out",)),
    ],
)
def test_outputs_are_named_after_what_forward_returns(
    write_py: Callable[..., Path], returned: str, names: tuple[str, ...]
) -> None:
    path = write_py(
        "INPUT_SHAPE = (1, 4)\nclass Net(nn.Module):\n    def forward(self, x):\n"
        f"        return {returned}\nbuild = Net"
    )

    assert loaded(path).output_names == names


def test_output_names_and_dtype_of_the_model_file(write_py: Callable[..., Path]) -> None:
    path = write_py(
        "INPUT_SHAPE = (1, 4)\nINPUT_DTYPE = 'int64'\nOUTPUT_NAMES = ('embedded',)\n"
        "def build():\n    return nn.Embedding(10, 3)"
    )
    source = loaded(path)

    assert source.inputs == (InputSpec("input", (None, 4), "int64"),)
    assert source.output_names == ("embedded",)


TWO_INPUTS = (
    "INPUT_SHAPES = ((1, 4), (1, 2, 3))\nINPUT_DTYPES = ('float32', 'int64')\n"
    "class Net(nn.Module):\n    def forward(self, numbers, codes):\n        return numbers.sum(1) + codes.sum((1, 2))\n"
    "def build():\n    return Net()"
)


@pytest.mark.parametrize("ending", ["", ":build"], ids=["model file", "factory"])
def test_shapes_and_dtypes_of_several_inputs(write_py: Callable[..., Path], ending: str) -> None:
    source = loaded(f"{write_py(TWO_INPUTS)}{ending}")

    assert source.inputs == (InputSpec("numbers", (None, 4), "float32"), InputSpec("codes", (None, 2, 3), "int64"))


def test_wrong_number_of_output_names(write_py: Callable[..., Path]) -> None:
    path = write_py("INPUT_SHAPE = (1, 4)\nOUTPUT_NAMES = ('a', 'b')\nbuild = nn.Identity")

    assert "2 names" in refusal(path)


def test_several_inputs_are_named_by_forward(write_py: Callable[..., Path]) -> None:
    path = write_py(
        "class Net(nn.Module):\n    def forward(self, image, mask, scale=None):\n        return image * mask\n"
    )
    shapes = [(1, 3, 4), (1, 1, 4)]

    assert [spec.name for spec in loaded(f"{path}:Net", input_shapes=shapes).inputs] == ["image", "mask"]
    sentence = refusal(f"{path}:Net", input_shapes=shapes[:1])
    assert "image, mask, scale" in sentence
    assert "2 to 3" in sentence


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("def build():\n    raise KeyError('width')", ["the factory raises", "KeyError: 'width'", ":build"]),
        ("def build():\n    return 5", ["returns no module", "builtins.int"]),
        ("def build(width):\n    return nn.ReLU()", ["the factory raises", "width"]),
        ("def build():\n    raise SystemExit(3)", ["the factory raises", "SystemExit: 3"]),
        ("1 / 0", ["raises when it is imported", "ZeroDivisionError"]),
        ("import not_there_at_all", ["raises when it is imported", "not_there_at_all"]),
        ("def build(:", ["raises when it is imported", "SyntaxError"]),
        ("x = 5", ["no function `build`"]),
        ("INPUT_SHAPE = (2, 3)\nbuild = nn.ReLU", ["no valid INPUT_SHAPE", "(2, 3)", "leading 1"]),
        ("INPUT_SHAPE = None\nbuild = nn.ReLU", ["no valid INPUT_SHAPE", "--input-shape"]),
        ("INPUT_SHAPES = ()\nbuild = nn.ReLU", ["no valid INPUT_SHAPES", "((1, 13), (1, 4))"]),
        ("INPUT_SHAPES = ((1, 3), 4)\nbuild = nn.ReLU", ["no valid INPUT_SHAPES", "((1, 3), 4)"]),
        ("INPUT_SHAPES = ((1, 3), (2, 4))\nbuild = nn.ReLU", ["no valid INPUT_SHAPES", "leading 1"]),
        ("INPUT_SHAPES = ((1, 3), (1, 3))\nbuild = nn.ReLU", ["found 2 for the inputs input", "expected 1"]),
        ("INPUT_DTYPE = 'int'\nbuild = nn.ReLU", ["no valid INPUT_DTYPE", "'int'", "int64"]),
        ("INPUT_DTYPES = 'int64'\nbuild = nn.ReLU", ["no valid INPUT_DTYPES", "'int64'"]),
        (
            "INPUT_SHAPE = (1, 3)\nINPUT_DTYPES = ('float32', 'int64')\nbuild = nn.ReLU",
            ["does not fit that of the types", "found 1 shapes", "expected 2, for float32, int64"],
        ),
        ("RECIPE = 3\nINPUT_SHAPE = (1, 3)\nbuild = nn.ReLU", ["RECIPE is not a mapping", "int"]),
        ("OUTPUT_NAMES = 'ab'\nINPUT_SHAPE = (1, 3)\nbuild = nn.ReLU", ["OUTPUT_NAMES"]),
        ("INPUT_SHAPE = (1, 3)\ndef build():\n    return nn.Linear(4, 2)", ["raises on inputs of 2x3", "RuntimeError"]),
        ("INPUT_SHAPE = (1, 3)\ndef build():\n    return nn.LazyLinear(4)", ["without a shape", "weight"]),
    ],
)
def test_model_files_that_are_refused(write_py: Callable[..., Path], text: str, parts: list[str]) -> None:
    prefix = "" if "INPUT_SHAPE" in text else "INPUT_SHAPE = (1, 3)\n"
    sentence = refusal(write_py(prefix + text))

    assert [part for part in parts if part not in sentence] == []


def test_an_output_that_is_no_tensor(write_py: Callable[..., Path]) -> None:
    path = write_py(
        "INPUT_SHAPE = (1, 3)\nclass Net(nn.Module):\n    def forward(self, x):\n"
        "        return {'y': x, 'n': 3}\nbuild = Net"
    )

    assert "n: int" in refusal(path)


def test_buffers_that_change_in_eval_mode(write_py: Callable[..., Path]) -> None:
    path = write_py(
        "INPUT_SHAPE = (1, 3)\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('calls', torch.zeros(1))\n    def forward(self, x):\n"
        "        self.calls += 1\n        return x + self.calls\nbuild = Net"
    )

    assert "calls" in refusal(path)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("bnet", ["no network 'bnet'", "did you mean bnnet"]),
        ("nowhere.py", ["no such Python file in nowhere.py"]),
        ("nowhere.onnx", ["no such file or folder in nowhere.onnx"]),
        ("nowhere.pt2", ["no such file or folder in nowhere.pt2"]),
        ("runs/nowhere", ["no such file or folder in runs/nowhere"]),
        ("weights.safetensors", ["no such file or folder"]),
        ("nowhere.at.all:factory", ["no module 'nowhere'", "file.py:factory"]),
        ("torch.nn:Linaer", ["no factory 'Linaer'", "did you mean Linear"]),
        ("math:pi", ["'pi' is not a factory", "float"]),
        ("collections:OrderedDict", ["returns no module", "OrderedDict"]),
    ],
)
def test_names_that_are_refused(spec: str, parts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = refusal(spec, input_shapes=[(1, 3)])

    assert [part for part in parts if part not in sentence] == []


def test_options_that_do_not_fit_the_source(net_file: Path, onnx_path: Path) -> None:
    assert "--pretrained is for" in refusal(net_file, pretrained=True)
    assert "brings its own weights" in refusal(onnx_path, weights=net_file)
    assert "raises on inputs of 2x1x8x8" in refusal(net_file, input_shapes=[(1, 1, 8, 8)])


def test_weights_alone_and_other_files_are_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "a.txt").write_text("")

    path = tmp_path / "a.safetensors"
    assert f"--weights {path}" in refusal(path)
    assert "the file is not a SOURCE" in refusal(tmp_path / "a.txt")


def test_a_missing_extra_is_named_with_its_pip_line() -> None:
    with pytest.raises(EnvironmentNotReady, match=r'a_package_nobody_has.*pip install "bnfold\[zoo\]"'):
        require("a_package_nobody_has", extra="zoo", purpose="a test")


def test_a_broken_factory_is_named_before_the_input_shape(write_py: Callable[..., Path]) -> None:
    path = write_py("def build():\n    raise ValueError('no such width')\nwidth = 3")

    assert "no such width" in refusal(f"{path}:build")
    assert "'width' is not a factory" in refusal(f"{path}:width")
    assert "no module 'nowhere'" in refusal("nowhere.at.all:factory")


def test_a_factory_of_a_file_has_the_shape_and_dtype_of_the_file(write_py: Callable[..., Path]) -> None:
    path = write_py("INPUT_SHAPE = (1, 7)\nINPUT_DTYPE = 'int64'\ndef make():\n    return nn.Embedding(5, 3)")

    assert loaded(f"{path}:make").inputs == (InputSpec("input", (None, 7), "int64"),)


@pytest.mark.parametrize("spec", ["bnnet", "FILE"])
def test_without_torch_no_fault_is_found_in_the_file(
    spec: str, net_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(EnvironmentNotReady, match=r'torch, which is not installed; run `pip install "bnfold\[torch\]"'):
        load_source(str(net_file) if spec == "FILE" else spec)
