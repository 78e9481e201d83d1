"""The plain graph: what PyTorch's exporter gives, with every name, axis and BatchNorm in place."""

from __future__ import annotations

import io
import signal
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from bnfold.errors import InputRefused
from bnfold.export import count_batchnorms, finish, plain_graph
from bnfold.export.metadata import layer_of
from bnfold.folding import fold_model
from bnfold.interrupts import handled_signals
from bnfold.sources import load_source
from bnfold.sources.module_facts import sha256_of_module
from bnfold.sources.torch_source import torch_source

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from bnfold.sources import TorchSource


def test_inputs_and_outputs_keep_the_names_of_the_source(plain: ir.Model, source: TorchSource) -> None:
    assert [value.name for value in plain.graph.inputs] == ["image"]
    assert [value.name for value in plain.graph.outputs] == list(source.output_names)
    assert source.output_names == ("logits", "again_0", "image_out", "table")


def test_the_batch_is_dynamic(plain: ir.Model) -> None:
    shapes = [[str(size) for size in value.shape or ()] for value in (*plain.graph.inputs, *plain.graph.outputs)]

    assert shapes == [["batch", "3", "8", "8"], ["batch", "2"], ["batch", "2"], ["batch", "3", "8", "8"], ["2"]]


@pytest.mark.parametrize("batch", [1, 5])
def test_it_computes_the_same_at_every_batch(
    plain: ir.Model, source: TorchSource, run: object, image: npt.NDArray[np.float32], batch: int
) -> None:
    found = run(ir.to_proto(plain), image[:batch])  # type: ignore[operator]  # a fixture's callable
    with torch.no_grad():
        expected = source.module(torch.from_numpy(image[:batch]))

    # float32 sums of at most 144 products of numbers around 1, in another order
    tolerance = 144 * np.finfo(np.float32).eps * np.abs(expected["logits"].numpy()).max()
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=0, atol=tolerance)
    np.testing.assert_array_equal(found["again_0"], found["logits"])
    np.testing.assert_array_equal(found["image_out"], image[:batch])
    np.testing.assert_array_equal(found["table"], [1, 1])


def test_the_batchnorm_is_still_a_node_and_knows_its_layer(plain: ir.Model) -> None:
    (norm,) = [node for node in plain.graph if node.op_type == "BatchNormalization"]

    assert layer_of(norm) == "blocks.0.bn"
    assert count_batchnorms(ir.to_proto(plain)) == 1


def test_a_convolution_without_bias_has_none(plain: ir.Model) -> None:
    (conv,) = [node for node in plain.graph if node.op_type == "Conv"]

    assert [value.name for value in conv.inputs if value is not None] == ["image", "blocks.0.conv.weight"]
    assert not [node for node in plain.graph if node.op_type == "CastLike"]


def test_no_path_of_this_machine_is_left(plain: ir.Model) -> None:
    content = ir.to_proto(plain).SerializeToString()

    for trace in (torch.__file__.rpartition("/")[0], __file__.rpartition("/")[0], "/home", ".py"):
        assert trace.encode() not in content


def test_exporting_changes_no_parameter_and_prints_nothing(source: TorchSource) -> None:
    before = sha256_of_module(source.module)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        plain_graph(source)

    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert sha256_of_module(source.module) == before


def test_a_static_batch(source: TorchSource) -> None:
    model = plain_graph(source, static_batch=1)

    assert [list(value.shape or ()) for value in (model.graph.inputs[0], model.graph.outputs[0])] == [
        [1, 3, 8, 8],
        [1, 2],
    ]
    with pytest.raises(InputRefused, match="at least 1"):
        plain_graph(source, static_batch=0)


class BatchInShape(nn.Module):
    """Only works for the batch it was written for."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 4) + 1


class Unsupported(nn.Module):
    """Uses an operator without an ONNX counterpart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_a_network_that_fixes_the_batch_is_refused(source: TorchSource) -> None:
    fixed = torch_source(BatchInShape(), "fixed", shapes=[(1, 4)])

    with pytest.raises(InputRefused, match="has fixed the batch axis in fixed") as caught:
        plain_graph(fixed)
    assert "--static-batch" in str(caught.value)
    assert list(plain_graph(fixed, static_batch=2).graph.outputs[0].shape or ()) == [2, 4]


class Branching(nn.Module):
    """Control flow that depends on the data, which the exporter refuses with prints of its graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else x * 2


def test_control_flow_on_data_is_refused_without_a_dump_of_the_graph(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputRefused, match=r"decides by the values of its inputs.*test_export_plain\.py line \d+"):
        plain_graph(torch_source(Branching(), "branching", shapes=[(1, 4)]))
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_inside_the_exporter_is_no_refusal(source: TorchSource, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise AttributeError("partially initialized module 'torch._dynamo'")

    monkeypatch.setattr(torch.onnx, "export", broken)
    with handled_signals(), pytest.raises(KeyboardInterrupt):
        plain_graph(source)


def test_an_operator_that_onnx_cannot_express_is_named() -> None:
    with pytest.raises(InputRefused, match="bessel_j0"):
        plain_graph(torch_source(Unsupported(), "bessel", shapes=[(1, 4)]))


class FunctionalTraining(nn.Module):
    """Normalizes with the statistics of the batch, without a BatchNorm layer."""

    def __init__(self, *, running: bool) -> None:
        super().__init__()
        self.mean = torch.zeros(4) if running else None
        self.var = torch.ones(4) if running else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, var = (None, None) if self.mean is None else (self.mean.clone(), self.var.clone())
        return nn.functional.batch_norm(x, mean, var, training=True)


@pytest.mark.parametrize("running", [False, True])
def test_functional_batch_statistics_are_refused(running: bool) -> None:
    functional = torch_source(FunctionalTraining(running=running), "functional", shapes=[(1, 4, 3)])

    with pytest.raises(InputRefused, match="statistics of the batch"):
        plain_graph(functional)


class StandardizedWeight(nn.Conv1d):
    """Weight standardization by a batch norm over the weight (Qiao et al. 2019), as timm writes it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.reshape(1, self.out_channels, -1)
        weight = nn.functional.batch_norm(weight, None, None, training=True).reshape_as(self.weight)
        return nn.functional.conv1d(x, weight, self.bias)


def test_weight_standardization_is_no_batchnorm_of_the_network() -> None:
    network = nn.Sequential(StandardizedWeight(3, 4, 2), nn.BatchNorm1d(4))
    model = plain_graph(torch_source(network, "standardized", shapes=[(1, 3, 5)]))

    assert [layer_of(node) for node in model.graph if node.op_type == "BatchNormalization"] == ["1"]


def test_a_conv3d_without_bias_runs(run: object) -> None:
    source = torch_source(nn.Conv3d(1, 2, 2, bias=False), "conv3d", shapes=[(1, 1, 3, 3, 3)])
    proto = ir.to_proto(plain_graph(source))
    ones = np.ones((1, 1, 3, 3, 3), np.float32)

    assert run(proto, ones)["output"].shape == (1, 2, 2, 2, 2)  # type: ignore[operator]  # a fixture's callable


def test_constants_in_the_type_of_an_activation_are_computed() -> None:
    """The exporter writes Softplus as a function: constants cast to the type of its input, a division by 1."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Softplus())
    model = plain_graph(torch_source(network, "softplus", shapes=[(1, 3, 5, 5)]))
    fold_model(model)

    assert [node.op_type for node in finish(model).graph.node] == ["Conv", "Softplus", "Greater", "Where"]


def test_an_exported_program_keeps_its_axes(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv1d(3, 5, 1), nn.BatchNorm1d(5)).eval()
    program = torch.export.export(module, (torch.ones(2, 3, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    source = load_source(str(tmp_path / "net.pt2"))
    model = plain_graph(source)

    assert [value.name for value in model.graph.outputs] == ["output"]
    assert isinstance(model.graph.outputs[0].shape[0], ir.SymbolicDim)
    assert [layer_of(node) for node in model.graph if node.op_type == "BatchNormalization"] == ["1"]
    with pytest.raises(InputRefused, match="keeps the batch axis"):
        plain_graph(source, static_batch=3)


@pytest.fixture
def onnx_path(plain: ir.Model, tmp_path: Path) -> Path:
    proto = ir.to_proto(plain)
    proto.metadata_props.add(key="names", value="cat, dog")
    proto.metadata_props.add(key="origin", value="/home/me/train.py")
    for node in proto.graph.node:
        node.doc_string = "/home/me/net.py(12): forward"
    onnx.save_model(proto, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_an_onnx_source_is_cloned_without_paths(onnx_path: Path, plain: ir.Model) -> None:
    source = load_source(str(onnx_path))
    model = plain_graph(source)

    assert [node.op_type for node in model.graph] == [node.op_type for node in plain.graph]
    assert model is not source.model
    assert dict(model.metadata_props) == {"names": "cat, dog"}
    assert b"/home/me" not in ir.to_proto(model).SerializeToString()


def test_an_onnx_source_at_a_static_batch(onnx_path: Path) -> None:
    source = load_source(str(onnx_path))
    model = plain_graph(source, static_batch=3)

    assert list(model.graph.inputs[0].shape or ()) == [3, 3, 8, 8]
    assert list(model.graph.outputs[0].shape or ()) == [3, 2]
    assert str(source.model.graph.inputs[0].shape) == "[batch,3,8,8]"
