"""`bnfold.fold` on modules: a copy of the same class without its BatchNorms, equal to 1e-10 in float64."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional

import bnfold
from bnfold.errors import GateFailed, InputRefused
from bnfold.records.causes import Cause

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = (2, 3, 8, 8)


def trained(module: nn.Module, *, signs: bool = False, zeros: bool = False) -> nn.Module:
    """Statistics and parameters of the BatchNorms that are not the trivial ones."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_mean is not None:
            nn.init.uniform_(norm.running_mean, -1, 1, generator=generator)
            nn.init.uniform_(norm.running_var, 0.5, 2, generator=generator)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 2, generator=generator)
                nn.init.uniform_(norm.bias, -1, 1, generator=generator)
                with torch.no_grad():
                    norm.weight[1] *= -1 if signs else 1
                    norm.weight[0] *= 0 if zeros else 1
    return module.eval()


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def folded(module: nn.Module, example: Any, *, kept: int = 0) -> tuple[nn.Module, Any]:
    """Fold and compare again, in float32 and by hand; the module must not have changed."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    result, ledger = bnfold.fold(module, example)
    assert type(result) is type(module)
    assert ledger.kept == kept, [entry.reason for entry in ledger.entries]
    inputs = example if isinstance(example, tuple) else (example,)
    with torch.no_grad():
        torch.testing.assert_close(result(*inputs), module(*inputs), rtol=1e-3, atol=1e-4)
    assert before.keys() == module.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    return result, ledger


def image() -> torch.Tensor:
    return torch.randn(IMAGE, generator=torch.Generator().manual_seed(3))


def test_conv_bn_without_a_bias_gets_one_in_its_state() -> None:
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()))
    result, ledger = folded(module, image())
    assert type(result[1]) is nn.Identity
    assert isinstance(result[0].bias, nn.Parameter)
    assert [*result.state_dict()] == ["0.weight", "0.bias"]
    assert ledger.entries[0].into == ("0",)
    assert ledger.certificate is not None
    assert "0.bias" in ledger.certificate.parameters[""]
    assert not result.training


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, groups=1), nn.BatchNorm2d(4)), IMAGE, 0),
    "grouped": (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)), IMAGE, 0),
    "in front": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), IMAGE, 0),
    "in front, padded": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)), IMAGE, 1),
    "without affine": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)), IMAGE, 0),
    "1d": (lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4)), (2, 3, 8), 1),
    "3d": (lambda: nn.Sequential(nn.Conv3d(3, 4, 3, bias=False), nn.BatchNorm3d(4)), (2, 3, 4, 4, 4), 0),
    "linear": (lambda: nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 2)), (2, 3), 0),
    "no linear layer": (lambda: nn.Sequential(nn.BatchNorm1d(3), nn.GELU()), (2, 3), 1),
    "sync": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4)), IMAGE, 0),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4)), IMAGE, 0),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    factory, shape, kept = LAYERS[name]
    torch.manual_seed(0)
    result, _ = folded(trained(factory()), torch.randn(shape), kept=kept)
    assert norms(result) == kept


@pytest.mark.parametrize("signs", [{}, {"signs": True}, {"zeros": True}])
def test_kept_batchnorms_are_rewritten_in_other_units(signs: dict[str, bool]) -> None:
    """The stream keeps its BatchNorm in front of the ReLU, the one behind the convolution goes."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, padding=1)
    )
    folded(trained(network, **signs), image(), kept=1)


class OverTime(nn.Module):
    """Linear layers over (N, T, C), an embedding, recurrent layers, BatchNorms between them."""

    def __init__(self, layer: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.embedding, self.bn1 = nn.Embedding(10, 6), nn.BatchNorm1d(6)
        self.fc, self.bn2 = nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)
        self.layer = layer(4, 3, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn1(self.embedding(x).transpose(1, 2)).transpose(1, 2)
        y = torch.relu(self.fc(y))
        y = self.bn2(y.transpose(1, 2)).transpose(1, 2)
        result: torch.Tensor = self.layer(y)[0]
        return result


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}])
def test_sequence_models(layer: type[nn.Module], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module = trained(OverTime(layer, **options))
    result, ledger = folded(module, torch.arange(10).reshape(2, 5))
    assert norms(result) == 0
    assert "layer" in ledger.entries[1].into


def test_a_recurrent_layer_without_biases_takes_scales_only() -> None:
    torch.manual_seed(0)
    module = trained(OverTime(nn.LSTM, bias=False))
    _, ledger = folded(module, torch.arange(10).reshape(2, 5), kept=1)
    assert "the module has no bias there" in str(ledger.entries[1].reason)


class Functional(nn.Module):
    """Raw parameters, functions, and a BatchNorm in buffers of the network."""

    def __init__(self, *, bias: bool) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.shift = nn.Parameter(torch.randn(4)) if bias else None
        self.register_buffer("mean", torch.tensor([0.1, -0.2, 0.3, 0.4]))
        self.register_buffer("var", torch.tensor([1.5, 0.5, 0.7, 2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(functional.conv2d(x, self.kernel, self.shift), self.mean, self.var)


def test_functions_with_parameters_of_the_network() -> None:
    torch.manual_seed(0)
    result, _ = folded(Functional(bias=True), image())
    assert torch.equal(result.mean, torch.zeros(4))
    torch.testing.assert_close(result.var, torch.full((4,), 1 - 1e-5))


def test_a_function_without_a_bias_has_nowhere_to_put_one() -> None:
    torch.manual_seed(0)
    _, ledger = folded(Functional(bias=False), image(), kept=1)
    assert ledger.entries[0].cause == Cause.NO_PARAMETER


class Twice(nn.Module):
    """One convolution and one BatchNorm, called twice."""

    def __init__(self, *, same: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.other = self.bn if same else nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.other(self.conv(torch.relu(self.bn(self.conv(x)))))
        return y


def test_a_shared_block_vanishes_in_both_calls() -> None:
    torch.manual_seed(0)
    result, _ = folded(trained(Twice(same=True)), image())
    assert type(result.bn) is nn.Identity
    assert result.other is result.bn


def test_a_convolution_with_two_batchnorms_cannot_serve_both() -> None:
    torch.manual_seed(0)
    _, ledger = folded(trained(Twice(same=False)), image(), kept=1)
    assert {entry.outcome for entry in ledger.entries} == {"absorbed", "kept"}


class Tied(nn.Module):
    """Two layers with one weight, of which one has a BatchNorm."""

    def __init__(self, *, alike: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.bn = nn.BatchNorm1d(4)
        self.alike = alike

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.alike:
            return torch.relu(self.a(x)) + torch.relu(self.b(x))
        y: torch.Tensor = self.bn(self.a(x)) + torch.relu(self.b(x))
        return y


def test_tied_weights_part_where_they_must() -> None:
    torch.manual_seed(0)
    result, _ = folded(trained(Tied(alike=False)), torch.randn(3, 4))
    assert result.a.weight is not result.b.weight
    result, _ = bnfold.fold(trained(Tied(alike=True)), torch.randn(3, 4))
    assert result.a.weight is result.b.weight


def test_parametrizations_are_stored() -> None:
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    module = trained(nn.Sequential(conv, nn.BatchNorm2d(4)))
    result, _ = folded(module, image())
    assert type(result[0]) is nn.Conv2d
    assert [*result.state_dict()] == ["0.bias", "0.weight"] or set(result.state_dict()) == {"0.bias", "0.weight"}
    assert nn.utils.parametrize.is_parametrized(module[0])


class FrozenBatchNorm2d(nn.Module):
    """As torchvision has it: buffers, and arithmetic."""

    def __init__(self, n: int) -> None:
        super().__init__()
        for name, low in (("weight", 0.5), ("bias", -1.0), ("running_mean", -1.0), ("running_var", 0.5)):
            self.register_buffer(name, torch.linspace(low, low + 1, n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w, b, mean, var = (
            t.reshape(1, -1, 1, 1) for t in (self.weight, self.bias, self.running_mean, self.running_var)
        )
        scale = w * (var + 1e-5).rsqrt()
        return x * scale + (b - mean * scale)


def test_frozen_batchnorms() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), FrozenBatchNorm2d(4), nn.ReLU()).eval()
    result, ledger = folded(module, image())
    assert type(result[1]) is nn.Identity
    assert (ledger.found, ledger.absorbed) == (1, 1)


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm has it: an activation inside."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act(self.drop(super().forward(x)))
        return y


def test_an_activation_inside_a_batchnorm_stays() -> None:
    torch.manual_seed(0)
    result, _ = folded(trained(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4))), image())
    assert norms(result) == 0
    assert type(result[1].act) is nn.ReLU


def test_a_batchnorm_with_a_hook_stays_as_the_identity() -> None:
    torch.manual_seed(0)
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    seen: list[torch.Tensor] = []
    module[1].register_forward_hook(lambda *_: seen.append(_[2]))
    result, _ = folded(module, image())
    assert norms(result) == 1
    torch.testing.assert_close(result[1].running_var, torch.full((4,), 1 - 1e-5))


class WithConstants(nn.Module):
    """Constants in the code, which are no parameters: half of it, one more, and a parameter as layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        self.gamma = nn.Parameter(torch.rand(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.gamma * (0.5 * self.bn(self.conv(x)) + 1.0))
        return y


def test_constants_in_the_code_stay() -> None:
    torch.manual_seed(0)
    folded(trained(WithConstants()), image())


def test_in_place_and_back_in_train_mode() -> None:
    torch.manual_seed(0)
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    expected = copy.deepcopy(module).eval()(image())
    result, _ = bnfold.fold(module, image(), inplace=True)
    assert result is module
    assert type(module[1]) is nn.Identity
    torch.testing.assert_close(module(image()), expected, rtol=1e-4, atol=1e-5)


def test_the_result_can_be_exported_compiled_and_saved(tmp_path: Path) -> None:
    torch.manual_seed(0)
    result, _ = bnfold.fold(trained(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))), image())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(result, (image(),))
    assert not [node for node in program.graph.nodes if "norm" in str(node.target)]
    torch.save(result.state_dict(), tmp_path / "folded.pt")
    assert bnfold.fold_export(result, image()).ledger.found == 0
    assert all(parameter.requires_grad for parameter in result.parameters())


def test_a_wrong_fold_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bias that is a little too large: the module is not returned, and what is folded in place stays as it was."""
    from bnfold.modules.writing import Writing

    right = Writing.parameters.fget
    assert right is not None
    wrong = property(lambda self: {place: array * (1 + 1e-7) for place, array in right(self).items()})
    monkeypatch.setattr(Writing, "parameters", wrong)
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(GateFailed, match=r"not equal to the module, in float64.*at most 1e-10"):
        bnfold.fold(module, image(), inplace=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_fold_that_is_stored_badly_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right in float64, and rounded to bfloat16 where float32 was meant."""
    from bnfold.modules import applying

    put = applying._put

    def badly(owner: Any, place: Any, array: np.ndarray, tied: Any) -> None:
        if owner.weight.dtype == torch.float32:
            array = torch.from_numpy(array).bfloat16().double().numpy()
        put(owner, place, array, tied)

    monkeypatch.setattr(applying, "_put", badly)
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    with pytest.raises(GateFailed, match=r"parameter 0\.\w+ .* found [\d.e+]+ ULP from it, expected at most 0\.5"):
        bnfold.fold(module, image())
    monkeypatch.setattr("bnfold.modules.fold.check_parameters", lambda *_: None)
    with pytest.raises(GateFailed, match=r"root mean square error .* its parameters are wrong"):
        bnfold.fold(module, image())


# ---- other kinds of networks


def test_onnx_models_give_their_kind(network: Path) -> None:
    model = onnx.load(network)
    proto, ledger = bnfold.fold(model)
    assert isinstance(proto, onnx.ModelProto)
    assert ledger.absorbed == 1
    inner = ir.from_proto(model)
    result, _ = bnfold.fold(inner)
    assert isinstance(result, ir.Model)
    assert result is not inner
    assert [node.op_type for node in inner.graph] == ["Conv", "BatchNormalization", "Relu"]
    assert [node.op_type for node in result.graph] == ["Conv", "Relu"]
    assert bnfold.fold(inner, inplace=True)[0] is inner
    assert [node.op_type for node in inner.graph] == ["Conv", "Relu"]
    source, _ = bnfold.fold(network)
    assert [node.op_type for node in source.graph.node] == ["Conv", "Relu"]


def test_an_exported_program_is_exported_again() -> None:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, bias=False),
        nn.ConvTranspose2d(5, 4, 2, groups=1, bias=False), nn.BatchNorm2d(4),
    )  # fmt: skip
    module = trained(nn.Sequential(*layers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (image(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    before = {name: tensor.clone() for name, tensor in program.state_dict.items()}
    result, ledger = bnfold.fold(program)
    assert isinstance(result, torch.export.ExportedProgram)
    assert [entry.name for entry in ledger.entries] == ["1", "5"]
    assert ledger.absorbed == 2
    assert [str(node.target) for node in result.graph.nodes if "batch_norm" in str(node.target)] == []
    assert set(result.state_dict) == {"0.weight", "0.bias", "3.weight", "4.weight", "4.bias"}
    for batch in (1, 3):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(result.module()(x), module(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in program.state_dict.items())


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        ((5,), {}, "must be a module, an exported program or an ONNX model: found int"),
        ((nn.Linear(3, 4),), {}, "inputs of a module cannot be known"),
        ((onnx.ModelProto(), (2, 3)), {}, "states its inputs itself"),
        ((onnx.ModelProto(),), {"inplace": True}, "folded in place"),
    ],
)
def test_what_cannot_be_folded(arguments: tuple[Any, ...], options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputRefused, match=says):
        bnfold.fold(*arguments, **options)


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (torch.zeros(0, 3, 8, 8), "a tensor without elements .* found shape 0x3x8x8"),
        (torch.full(IMAGE, torch.nan), "the example holds NaN"),
        (torch.zeros(2, 5, 8, 8), "raises on inputs of 2x5x8x8 torch.float32 .* give an example of the shape and type"),
        (torch.zeros(IMAGE, dtype=torch.int64), "raises on inputs of 2x3x8x8 torch.int64 .* shape and type"),
        (torch.zeros(IMAGE, device="meta"), "on the device meta"),
    ],
)
def test_an_example_that_does_not_fit_is_refused_and_changes_nothing(example: torch.Tensor, says: str) -> None:
    module = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(InputRefused, match=says):
        bnfold.fold(module, example)
    assert module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_lazy_module_is_told_to_run_once() -> None:
    with pytest.raises(InputRefused, match=r"parameters without a shape .* found 0\.weight; run one forward pass"):
        bnfold.fold(nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()), image())
