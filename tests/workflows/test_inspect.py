"""`bnfold inspect`: the ledger, and nothing else touched or loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.records import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


def test_ledger_is_that_of_fold_export_and_nothing_is_written(network: Path, tmp_path: Path) -> None:
    content = network.read_bytes()
    report = bnfold.inspect(network)
    assert list(tmp_path.iterdir()) == [network]
    assert network.read_bytes() == content
    exported = bnfold.fold_export(network, tmp_path / "output")
    assert report.ledger == exported.ledger
    assert report.source == exported.source


def test_weights_may_be_a_string(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    (tmp_path / "net.py").write_text(
        "import torch\n\ndef net():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()\n"
    )
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    report = bnfold.inspect(
        f"{tmp_path}/net.py:net", weights=f"{tmp_path}/weights.safetensors", input_shapes=[(1, 3, 8, 8)]
    )
    assert report.ledger.found == 1


def test_json_holds_source_and_ledger(cli: Callable[..., Result], network: Path) -> None:
    result = cli("inspect", network, "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == as_json(bnfold.inspect(network))
    assert json.loads(result.stdout)["schema"] == "bnfold.inspect/1"


def test_table_names_the_layer_and_its_end(cli: Callable[..., Result], network: Path) -> None:
    result = cli("inspect", network)
    assert result.exit_code == 0
    assert "absorbed" in result.stdout
    assert "1 found, 1 absorbed" in result.stdout


@pytest.mark.parametrize("shape", [(), (5,), (4, 1)])
def test_parameters_that_are_not_one_for_each_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """No runtime runs such a file, but the checker takes it."""
    names = ["gamma", "beta", "mean", "variance"]
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *names], ["y"], name="bn")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 3])],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    (entry,) = bnfold.inspect(tmp_path / "net.onnx").ledger.entries
    assert entry.outcome == "kept"
    assert "channel" in str(entry.reason)


def test_onnx_file_loads_neither_torch_nor_onnxruntime(network: Path) -> None:
    program = (
        "import sys; from bnfold.cli.main import main; main(['inspect', sys.argv[1]], standalone_mode=False); "
        "print(sorted({'torch', 'onnxruntime', 'onnxsim', 'sklearn'} & set(sys.modules)))"
    )
    repository = Path(bnfold.__file__).parents[1]
    printed = subprocess.run(
        [sys.executable, "-c", program, network], cwd=repository, check=True, text=True, capture_output=True
    ).stdout
    assert printed.splitlines()[-1] == "[]"
