"""What verification holds in memory: one copy of the parameters, converted piece by piece, and no dead values."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import bnfold.runtime
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.float64_values import last_readers
from bnfold.records import InputSpec
from bnfold.runtime import open_session
from bnfold.verification import verify_file
from bnfold.verification.execution.onnx_reference import OnnxReference
from bnfold.verification.execution.plain_session import plain_session
from bnfold.verification.execution.torch_float64 import in_float64, sharing_copy
from bnfold.verification.execution.torch_reference import TorchReference

WIDTH, DEPTH = 256, 12
IN_FLOAT64 = 8 * WIDTH * WIDTH  # bytes of one weight


@pytest.fixture
def chain() -> onnx.ModelProto:
    """x W_0 W_1 ... W_11, of which the last product is read by an If that captures a weight from outside."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 16, f"w{k}")
        for k in range(DEPTH)
    ]
    nodes = [helper.make_node("MatMul", [f"x{k}", f"w{k}"], [f"x{k + 1}"]) for k in range(DEPTH - 1)]
    value = helper.make_tensor_value_info
    last = helper.make_node("MatMul", [f"x{DEPTH - 1}", f"w{DEPTH - 1}"], ["inner"])
    other = helper.make_node("Identity", [f"x{DEPTH - 1}"], ["outer"])
    branches = {
        "then_branch": helper.make_graph([last], "then", [], [value("inner", TensorProto.FLOAT, None)]),
        "else_branch": helper.make_graph([other], "else", [], [value("outer", TensorProto.FLOAT, None)]),
    }
    nodes.append(helper.make_node("If", ["yes"], ["y"], **branches))
    yes = numpy_helper.from_array(np.array(True), "yes")
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x0", TensorProto.FLOAT, ["n", WIDTH])],
        [value("y", TensorProto.FLOAT, ["n", WIDTH])],
        [*weights, yes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _product(chain: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    for k in range(DEPTH):
        x = x.astype(np.float64) @ numpy_helper.to_array(chain.graph.initializer[k]).astype(np.float64)
    return x


def test_float64_evaluation_converts_one_parameter_at_a_time(chain: onnx.ModelProto) -> None:
    """A few parameters are alive at a time, of the twelve; so are captured ones, and outputs are right."""
    x = np.random.default_rng(1).standard_normal((2, WIDTH)).astype(np.float32)
    tracemalloc.start()
    try:
        got = Float64Graph(chain).evaluate({"x0": x})["y"]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < DEPTH / 3 * IN_FLOAT64
    np.testing.assert_allclose(got, _product(chain, x), rtol=1e-12)


def test_feed_replaces_an_initializer(chain: onnx.ModelProto) -> None:
    """As in a judgement of parameters: what the feed holds comes before what the graph stores."""
    x = np.ones((1, WIDTH), np.float32)
    graph = Float64Graph(chain)
    assert not graph.evaluate({"x0": x, "w3": np.zeros((WIDTH, WIDTH))})["y"].any()
    np.testing.assert_allclose(graph.evaluate({"x0": x})["y"], _product(chain, x), rtol=1e-12)


def test_values_die_behind_their_last_reader() -> None:
    """Also what nobody reads; what a subgraph reads lives until then, and outputs to the end."""
    body = helper.make_graph([helper.make_node("Neg", ["a"], ["z"])], "body", [], [])
    nodes = [
        helper.make_node("Split", ["x"], ["a", "unread"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("If", ["c"], ["y"], then_branch=body),
    ]
    assert [set(dead) for dead in last_readers(nodes, ["y", "b"])] == [{"x", "unread"}, set(), {"a", "c"}]


def test_plain_session_leaves_the_graph_as_it_is(chain: onnx.ModelProto) -> None:
    """Its parameters go through a file, and stay in the model."""
    before = chain.SerializeToString(deterministic=True)
    x = np.random.default_rng(2).standard_normal((3, WIDTH)).astype(np.float32)
    (got,) = plain_session(chain).run(None, {"x0": x})
    wanted = _product(chain, x)
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()  # float32 over twelve products
    assert chain.SerializeToString(deterministic=True) == before


def test_sessions_are_open_one_at_a_time_without_an_arena(
    chain: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arena keeps the largest run's values; a session, the parameters of the file: there is never a second one."""
    onnx.save(chain, tmp_path / "chain.onnx")
    opened: list[weakref.ref[Any]] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        assert all(session() is None for session in opened)
        session = open_session(*arguments, **options)
        assert not session.get_session_options().enable_cpu_mem_arena
        opened.append(weakref.ref(session._sess))  # the session of C++, which what it has given out may keep alive
        return session

    monkeypatch.setattr(bnfold.runtime, "open_session", watched)
    inputs = (InputSpec("x0", (None, WIDTH), "float32"),)
    verdict = verify_file(tmp_path / "chain.onnx", OnnxReference(chain), inputs=inputs, threads=1)
    assert verdict.passed, verdict.failure
    assert len(opened) == 4  # the file to be asked for its interface, the source, and the file twice


def test_a_file_that_passes_is_read_once(
    chain: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its tolerance follows from, and what is proven of it, is of one reading; ONNX Runtime has its own."""
    path = tmp_path / "chain.onnx"
    onnx.save(chain, path)
    read: list[Path] = []

    def counted(file: Path, *arguments: Any, **options: Any) -> onnx.ModelProto:
        read.append(Path(file))
        return load(file, *arguments, **options)

    load = onnx.load_model
    monkeypatch.setattr(onnx, "load_model", counted)
    monkeypatch.setattr(onnx, "load", counted)
    inputs = (InputSpec("x0", (None, WIDTH), "float32"),)
    assert verify_file(path, OnnxReference(chain), inputs=inputs, threads=1).passed
    assert read == [path]


def _allocated(pid: int) -> int:
    """Bytes of anonymous memory that a process has resident; 0 when it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


@pytest.mark.alone
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read in /proc")
def test_verification_takes_less_than_four_times_the_file(tmp_path: Path) -> None:
    """Source and all; seen from this process, since ONNX Runtime keeps the lock of the other one while it loads."""
    command = [sys.executable, str(Path(__file__).with_name("verified_network.py")), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = largest = _allocated(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        while process.poll() is None:
            largest = max(largest, _allocated(process.pid))
            time.sleep(0.001)
    assert process.returncode == 0
    assert 1 < (largest - before) / (tmp_path / "large" / "folded.onnx").stat().st_size < 4


def test_reference_shares_the_parameters() -> None:
    """The copy reads the module's own memory, gives what a copy in float64 gives, and leaves the module alone."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    shared = sharing_copy(module)
    pairs = list(zip(shared.parameters(), module.parameters(), strict=True))
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    x = torch.randn(2, 3, 8, 8)
    with in_float64(), torch.no_grad():
        got = shared(x.double())
    wanted = sharing_copy(module, share=False).double()(x.double())
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    for name, tensor in module.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name])


class _Borrowing(nn.Module):
    """Reads the parameters of a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(4, 6, 3)
        self.lstm = nn.LSTM(6, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.conv1d(x, self.layer.weight, self.layer.bias)
        y: torch.Tensor = self.lstm(x.transpose(1, 2))[0][:, -1]
        return y


def test_module_that_borrows_parameters_is_copied() -> None:
    """A convolution refuses parameters narrower than its input; the answer is PyTorch's all the same."""
    torch.manual_seed(0)
    module = _Borrowing().eval()
    x = np.random.default_rng(0).standard_normal((2, 4, 9)).astype(np.float32)
    reference = TorchReference(module, ["x"], ["y"])
    got = reference.evaluate64({"x": x})["y"]
    wanted = sharing_copy(module, share=False).double()(torch.from_numpy(x).double()).detach().numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-13)
    assert reference.description == "PyTorch float64"
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
