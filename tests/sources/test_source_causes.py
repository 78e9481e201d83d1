"""Errors that name the real cause: complex outputs, integers for inputs, TorchScript archives, folders for files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfold.errors import InputRefused
from bnfold.export import plain_graph
from bnfold.runtime.sessions import require_onnx_file
from bnfold.sources import load_source
from bnfold.sources.trial import named_outputs, run_once
from bnfold.verification.data.compared_sizes import batches_to_compare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EMBEDDING = """
from torch import nn


def factory():
    return nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.BatchNorm1d(12))
"""
TWO_INPUTS = """
from torch import nn

INPUT_SHAPES = ((1, 4), (1, 1))
INPUT_DTYPES = ("float32", "int64")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x, index):
        return self.bn(x).gather(1, index)


def build():
    return Net()
"""


def test_complex_outputs_are_named(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n"
        '        return {"spectrum": torch.fft.fft(x), "x": x}\n'
    )
    with pytest.raises(
        InputRefused, match=r"returns complex numbers.*spectrum: torch\.complex64, expected real.*view_as_real"
    ):
        load_source(f"{tmp_path / 'net.py'}:Net", input_shapes=[(1, 8)])


def test_real_outputs_of_a_complex_network_are_taken() -> None:
    x = torch.ones(1, 4)
    assert [name for name, _ in named_outputs(torch.view_as_real(torch.fft.fft(x)), where="net")] == ["output"]


def test_integers_for_inputs_are_said_with_an_option(tmp_path: Path) -> None:
    spec = f"{tmp_path / 'net.py'}:factory"
    (tmp_path / "net.py").write_text(EMBEDDING)
    with pytest.raises(InputRefused, match=r'INPUT_DTYPES = \("int64", .*--input-dtype'):
        load_source(spec, input_shapes=[(1, 3)])
    source = load_source(spec, input_shapes=[(1, 3)], input_dtypes=["int64"])
    assert [each.dtype for each in source.inputs] == ["int64"]


@pytest.mark.parametrize(
    "use",
    [
        nn.Embedding(5, 4),
        lambda x: torch.arange(5)[x],
        lambda x: torch.ones(2, 3).gather(1, x),
        lambda x: torch.ones(5).index_select(0, x.flatten()),
        lambda x: nn.functional.one_hot(x, 5),
    ],
    ids=["embedding", "index", "gather", "index_select", "one_hot"],
)
def test_whoever_misses_integers_is_told_how_to_say_so(use: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return use(x)

    with pytest.raises(InputRefused, match="INPUT_DTYPES"):
        run_once(Net(), (torch.ones(2, 3),), where="net")
    run_once(Net(), (torch.ones(2, 3, dtype=torch.int64),), where="net")


def test_another_error_is_told_of_shapes() -> None:
    with pytest.raises(InputRefused, match="--input-shape") as caught:
        run_once(nn.Linear(3, 4), (torch.ones(2, 5),), where="net")
    assert "INPUT_DTYPES" not in str(caught.value)


def test_the_option_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(TWO_INPUTS)
    assert [each.dtype for each in load_source(str(path)).inputs] == ["float32", "int64"]
    given = load_source(str(path), input_dtypes=["float32", "int64"])
    assert [each.dtype for each in given.inputs] == ["float32", "int64"]
    with pytest.raises(InputRefused, match=r"INPUT_DTYPES of the file, or --input-dtype.*2 shapes, expected 3"):
        load_source(str(path), input_dtypes=["int64", "float32", "int64"])
    with pytest.raises(InputRefused, match=r"--input-dtype must be one of float32, .*, got 'long'"):
        load_source(str(path), input_dtypes=["float32", "long"])


def test_a_file_with_types_takes_no_others(onnx_path: Path) -> None:
    with pytest.raises(InputRefused, match="leave --input-dtype out"):
        load_source(str(onnx_path), input_dtypes=["int64"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2"])
def test_a_torchscript_archive_is_called_so(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"model{suffix}"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 3).eval(), torch.ones(1, 2)), str(archive))
    with pytest.raises(InputRefused, match=rf"TorchScript archive.*Python code.*torch\.jit\.load\('model{suffix}'\)"):
        load_source(str(archive))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_holds_no_weights_for_us_but_says_how_to_get_them(tmp_path: Path) -> None:
    archive = tmp_path / "model.pt"
    torch.jit.save(torch.jit.trace(nn.Linear(2, 3).eval(), torch.ones(1, 2)), str(archive))
    with pytest.raises(InputRefused, match=r"the weight file is a TorchScript archive.*save_file\(torch\.jit\.load"):
        load_source("bnnet", weights=archive)


def test_a_folder_is_no_file_and_its_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match=r"the path is a folder.*no \.onnx file in it"):
        require_onnx_file(tmp_path)
    for name in ("a.onnx", "model.onnx"):
        (tmp_path / name).touch()
    with pytest.raises(InputRefused, match=rf"found a\.onnx, model\.onnx in it.*name the file: {tmp_path}/model\.onnx"):
        require_onnx_file(tmp_path)


def exported(tmp_path: Path, dynamic: object, batch: int) -> str:
    """A `.pt2` of a small network with this dynamic batch."""
    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)).eval()
    program = torch.export.export(net, (torch.ones(batch, 3, 8),), dynamic_shapes=({0: dynamic},))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    return str(path)


def test_a_program_with_a_restricted_batch_is_tried_inside_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = exported(tmp_path, torch.export.Dim("b", min=4, max=9), 5)
    with caplog.at_level("INFO", logger="bnfold.sources"):
        source = load_source(spec)
    assert [(each.smallest_batch, each.largest_batch) for each in source.inputs] == [(4, 9)]
    assert "takes batches of 4 to 9 at input input" in caplog.text
    assert batches_to_compare(source.inputs, [9]) == [4, 5, 6, 9]
    with pytest.raises(InputRefused, match=r"found --batch 2,12, expected 4 to 9; .*wider range"):
        batches_to_compare(source.inputs, [2, 5, 12])
    assert plain_graph(source).graph.inputs[0].shape[1:] == (3, 8)


def test_a_program_of_any_batch_has_no_range(tmp_path: Path) -> None:
    (spec,) = load_source(exported(tmp_path, torch.export.Dim("b", min=2), 5)).inputs
    assert (spec.smallest_batch, spec.largest_batch) == (1, None)
    assert batches_to_compare([spec], []) == [1, 2, 3]


def test_a_program_whose_batch_is_a_formula_is_told_of_it(tmp_path: Path) -> None:
    source = load_source(exported(tmp_path, 8 * torch.export.Dim("_b", max=64), 16))
    with pytest.raises(InputRefused, match=r"restricted by a formula.*input 8\*s\d+x3x8.*Dim\.AUTO"):
        plain_graph(source)
