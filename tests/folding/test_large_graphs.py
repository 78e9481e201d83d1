"""Long graphs, large weights, narrow types: work that grows with the graph, memory that stays near that of the file."""

from __future__ import annotations

import cProfile
import pstats
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fold_checks import assert_equal, assert_valid, batchnorm_nodes, kept
from fold_models import EPSILON, Net, Parameters

from bnfold.folding import fold, fold_model
from bnfold.records import Ledger
from bnfold.records.causes import Overflow

MIB = 1 << 20
PLAIN = {"beta": 0, "mean": 0, "variance": 1 - EPSILON}  # y = gamma x, exactly
# A weight and a gamma whose product no number of the type can hold.
BEYOND = [("float16", 64.0, 4096.0), ("float32", 2.0**30, 2.0**100)]


def _net(dtype: str) -> Net:
    return Net(Parameters(0, dyadic=True, gammas="positive"), {"x": ["batch", 2, 4, 4]}, dtype=dtype)


def _steep_conv(net: Net, x: str, weight: float, name: str) -> str:
    return net.node("Conv", [x, net.constant(np.full((2, 2, 1, 1), weight), f"{name}.weight")], name=name)


def _fold_beyond(net: Net, *outputs: str) -> Ledger:
    model = net.model(*outputs)
    folded, ledger = fold(model)
    assert_valid(folded, model)
    assert_equal(model, folded, net.feed(), exact=True)
    assert [node.name for node in batchnorm_nodes(folded.graph)] == list(kept(ledger))
    for tensor in folded.graph.initializer:
        assert np.isfinite(onnx.numpy_helper.to_array(tensor)).all(), tensor.name
    return ledger


@pytest.mark.parametrize(("dtype", "weight", "gamma"), BEYOND)
def test_batchnorm_that_takes_the_weight_in_front_out_of_its_type_stays(
    dtype: str, weight: float, gamma: float
) -> None:
    """The other BatchNorm of the network vanishes all the same."""
    net = _net(dtype)
    x = net.node("Relu", [net.batchnorm(net.conv("x", 2, 2), 2, name="mild", **PLAIN)])
    y = net.batchnorm(_steep_conv(net, x, weight, "second"), 2, name="steep", gamma=gamma, **PLAIN)
    ledger = _fold_beyond(net, net.node("Relu", [y]))
    assert kept(ledger) == {"steep": Overflow("second.weight", "second", _long(dtype))}


@pytest.mark.parametrize(("dtype", "weight", "gamma"), BEYOND)
def test_batchnorm_that_takes_the_weight_behind_out_of_its_type_stays(dtype: str, weight: float, gamma: float) -> None:
    net = _net(dtype)
    x = net.batchnorm(net.node("Abs", ["x"]), 2, name="steep", gamma=gamma, **PLAIN)
    y = net.batchnorm(_steep_conv(net, x, weight, "second"), 2, name="mild", gamma=1 / 2, **PLAIN)
    ledger = _fold_beyond(net, net.node("Relu", [y]))
    assert kept(ledger) == {"steep": Overflow("second.weight", "second", _long(dtype))}


@pytest.mark.parametrize(("dtype", "weight", "gamma"), BEYOND)
def test_branches_whose_sum_leaves_the_type_do_not_merge(dtype: str, weight: float, gamma: float) -> None:
    net = _net(dtype)
    x = net.node("Relu", ["x"])
    steep = net.batchnorm(_steep_conv(net, x, weight, "left"), 2, name="steep", gamma=gamma, **PLAIN)
    mild = net.batchnorm(net.conv(x, 2, 2), 2, name="mild", **PLAIN)
    ledger = _fold_beyond(net, net.node("Relu", [net.node("Add", [steep, mild])]))
    assert list(kept(ledger)) == ["steep"]


def _long(dtype: str) -> str:
    return {"float16": "float16", "float32": "float"}[dtype]


def _blocks(n_blocks: int) -> onnx.ModelProto:
    """Residual blocks; behind each, a BatchNorm between two curves, which must stay."""
    net = Net(Parameters(0, dyadic=False, gammas="positive"), {"x": ["batch", 2, 4, 4]}, dtype="float32")
    x = net.conv("x", 2, 2)
    for _ in range(n_blocks):
        y = net.node("Relu", [net.batchnorm(net.conv(x, 2, 2, (3, 3), pads=[1] * 4), 2)])
        y = net.batchnorm(net.conv(y, 2, 2, (3, 3), pads=[1] * 4), 2)
        x = net.node("Tanh", [net.node("Relu", [net.node("Add", [x, y])])])
        x = net.node("Sigmoid", [net.batchnorm(x, 2)])
    return net.model(x)


def _n_calls(n_blocks: int) -> int:
    """Function calls of a fold: unlike seconds, the same on every machine."""
    model = ir.from_proto(_blocks(n_blocks))
    profile = cProfile.Profile()
    ledger = profile.runcall(fold_model, model)
    assert (ledger.found, ledger.kept) == (3 * n_blocks, n_blocks)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]  # typeshed leaves it out


def test_work_grows_with_the_number_of_nodes() -> None:
    """Four times the network takes four times the calls; one loop over the network per BatchNorm would take sixteen."""
    _n_calls(1)  # what is imported and cached once
    small, large = _n_calls(20), _n_calls(80)
    assert large <= 4 * small


def _stored(folder: Path, n_layers: int, width: int) -> Path:
    """A file of n_layers Gemm-BN-ReLU with its weights, width**2 float32 each, in external data."""
    net = Net(Parameters(0, dyadic=False, gammas="positive"), {"x": ["batch", width]}, dtype="float32")
    x = "x"
    for _ in range(n_layers):
        x = net.node("Relu", [net.batchnorm(net.gemm(x, width, width, bias=[width], transB=1), width)])
    path = folder / "large.onnx"
    onnx.save_model(net.model(x), path, save_as_external_data=True, location="large.onnx.data")
    return path


@pytest.mark.parametrize("loaded", [False, True], ids=["mapped", "loaded"])
def test_memory_stays_below_one_and_a_half_times_the_file(tmp_path: Path, loaded: bool) -> None:
    """What Python and NumPy allocate, while external data is mapped, or counted with it once loaded."""
    path = _stored(tmp_path, n_layers=16, width=512)
    n_bytes = path.with_name("large.onnx.data").stat().st_size
    assert n_bytes >= 16 * MIB
    fold_model(ir.load(_stored(tmp_path / "..", 1, 8)))  # what is imported once
    tracemalloc.start()
    model = ir.load(path)
    if loaded:
        ir.external_data.load_to_model(model)
    ledger = fold_model(model, certified=not loaded)  # what was loaded would stay in memory for the certificate
    ir.save(model, tmp_path / "folded.onnx", external_data="folded.onnx.data")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ledger.absorbed == 16
    assert (tmp_path / "folded.onnx.data").stat().st_size < n_bytes
    assert peak < 1.5 * n_bytes, f"{peak / n_bytes:.2f} times the file"
