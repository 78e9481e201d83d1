"""Dead channels leave in whole blocks; what stays of them is 0, and no convolution loses its blocked kernel."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from fold_checks import check_fold
from fold_models import Net, Parameters
from onnx import numpy_helper

from bnfold.folding import CHANNEL_BLOCK, fold
from bnfold.records import RemovedChannels, as_json
from bnfold.runtime.providers.cuda import CHANNEL_BLOCK as CUDA_CHANNEL_BLOCK
from bnfold.verification.checks.proof import certified

if TYPE_CHECKING:
    from pathlib import Path

both = pytest.mark.parametrize("dyadic", [False, True])


def _net(shape: tuple = (3, 6, 6), *, dyadic: bool = False, seed: int = 0, dtype: str = "float64") -> Net:
    return Net(Parameters(seed, dyadic=dyadic, gammas="positive"), {"x": ("N", *shape)}, dtype=dtype)


def _gamma(n: int, n_live: int) -> np.ndarray:
    """Ones and zeros, in no order."""
    gamma = np.zeros(n)
    gamma[np.random.default_rng(n).permutation(n)[:n_live]] = 1.0
    return gamma


def _hidden(net: Net, x: str, c_in: int, n: int, n_live: int, *, name: str = "", beta: float = 1.0, **options) -> str:
    """Convolution, BatchNorm and ReLU, `n_live` of whose `n` channels are not the constant `max(beta, 0)`."""
    y = net.conv(x, c_in, n, options.pop("kernel", (1, 1)), **options)
    return net.node("Relu", [net.batchnorm(y, n, gamma=_gamma(n, n_live), beta=beta, name=name)])


def _fold(net: Net, *outputs: str, block: int = CHANNEL_BLOCK) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The folded model and its parameters by node and place (`conv_3.1` is the weight of `conv_3`)."""
    folded, _ = check_fold(net.model(*outputs), net.feed(), exact=net.parameters.dyadic, channel_block=block)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
    return folded, {
        f"{node.name}.{k}": arrays[name]
        for node in folded.graph.node
        for k, name in enumerate(node.input)
        if name in arrays
    }


def _rows(parameters: dict[str, np.ndarray]) -> list[int]:
    return [array.shape[0] for name, array in parameters.items() if name.startswith("conv") and name.endswith(".1")]


@pytest.mark.parametrize("block", [CHANNEL_BLOCK, CUDA_CHANNEL_BLOCK, 1])
@pytest.mark.parametrize(
    ("n", "n_live"), [(64, 64), (64, 63), (64, 48), (64, 40), (40, 33), (40, 20), (31, 17), (20, 0)]
)
def test_a_whole_number_of_blocks_stays(n, n_live, block):
    net = _net()
    folded, parameters = _fold(net, net.conv(_hidden(net, "x", 3, n, n_live), n, 5), block=block)
    left = min(n, block * max(1, -(-n_live // block)))
    assert _rows(parameters) == [left, 5]
    _, ledger = fold(net.model(net.nodes[-1].output[0]), channel_block=block)
    assert ledger.removed_channels == ((RemovedChannels("conv_0", n, left),) if left < n else ())
    assert folded.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 5


@both
@pytest.mark.parametrize("beta", [-1.0, 1.0])
def test_dead_channels_that_stay_are_zeros(dyadic, beta):
    """The bias of the reader takes their constant; writer and reader have nothing but zeros for them."""
    net = _net(dyadic=dyadic)
    _, parameters = _fold(net, net.conv(_hidden(net, "x", 3, 16, 13, beta=beta), 16, 5))
    dead = _gamma(16, 13) == 0
    for array in (parameters["conv_0.1"], parameters["conv_0.2"], np.moveaxis(parameters["conv_3.1"], 1, 0)):
        assert not array[dead].any()
        assert dyadic or array[~dead].any(axis=tuple(range(1, array.ndim))).all()


@both
def test_only_0_passes_a_padded_border(dyadic):
    """Another constant is not what the border holds: the channel is needed as it is."""
    net = _net(dyadic=dyadic)
    _, parameters = _fold(net, net.conv(_hidden(net, "x", 3, 48, 20), 48, 5, (3, 3), pads=[1] * 4))
    assert _rows(parameters) == [48, 5]
    assert (parameters["conv_0.2"][_gamma(48, 20) == 0] == 1).all()


@both
def test_depthwise(dyadic):
    net = _net(dyadic=dyadic)
    y = _hidden(net, "x", 3, 48, 30)
    y = net.node("Relu", [net.conv(y, 48, 48, (3, 3), group=48)])
    folded, parameters = _fold(net, net.conv(y, 48, 5))
    assert _rows(parameters) == [32, 32, 5]
    groups = [a.i for node in folded.graph.node for a in node.attribute if a.name == "group"]
    assert 32 in groups
    assert 48 not in groups


@both
def test_each_operand_of_a_concat_keeps_blocks_of_its_own(dyadic):
    net = _net(dyadic=dyadic)
    parts = [_hidden(net, "x", 3, 64, 40), _hidden(net, "x", 3, 32, 31), _hidden(net, "x", 3, 24, 3)]
    _, parameters = _fold(net, net.conv(net.node("Concat", parts, axis=1), 120, 5))
    assert _rows(parameters) == [48, 32, 16, 5]


@both
@pytest.mark.parametrize("n_live", [(40, 64), (30, 35), (64, 64), (1, 20)])
def test_groups_of_a_convolution_keep_as_many_each(dyadic, n_live):
    """Two groups of 64: what stays of the fuller one stays of both, before it and behind."""
    net = _net(dyadic=dyadic)
    gamma = np.concatenate([_gamma(64, n) for n in n_live])
    y = net.node("Relu", [net.batchnorm(net.conv("x", 3, 128), 128, gamma=gamma, beta=1.0)])
    y = net.node("Relu", [net.batchnorm(net.conv(y, 128, 128, (3, 3), group=2), 128, gamma=gamma[::-1], beta=1.0)])
    _, parameters = _fold(net, net.conv(y, 128, 5))
    left = 16 * -(-max(n_live) // 16)
    assert _rows(parameters) == [2 * left, 2 * left, 5]
    assert parameters["conv_3.1"].shape[:2] == (2 * left, left)


@both
def test_groups_that_other_operators_mix_stay(dyadic):
    """A residual stream that is grouped in two ways has no groups of its own."""
    net = _net(dyadic=dyadic)
    stream = _hidden(net, "x", 3, 96, 40)
    parts = [net.conv(stream, 96, 96, (3, 3), group=group) for group in (2, 3)]
    _, parameters = _fold(net, *(net.conv(net.node("Relu", [part]), 96, 5) for part in parts))
    assert sorted(_rows(parameters)) == [5, 5, 96, 96, 96]


def test_squeeze_excite():
    """A channel that is 0 is 0 times its gate: both sides keep the same blocks."""
    net = _net()
    y = _hidden(net, "x", 3, 48, 30, beta=-1.0)
    squeezed = net.node("Relu", [net.conv(net.node("GlobalAveragePool", [y]), 48, 8)])
    y = net.node("Mul", [y, net.node("Sigmoid", [net.conv(squeezed, 8, 48)])])
    _, parameters = _fold(net, net.conv(y, 48, 5, (3, 3), pads=[1] * 4))
    assert _rows(parameters) == [32, 8, 32, 5]


@both
def test_residual_stream(dyadic):
    net = _net(dyadic=dyadic)
    stem = _hidden(net, "x", 3, 48, 30)
    branch = net.conv(_hidden(net, stem, 48, 64, 64), 64, 48)
    branch = net.batchnorm(branch, 48, gamma=_gamma(48, 30), beta=0.5)
    _, parameters = _fold(net, net.conv(net.node("Relu", [net.node("Add", [stem, branch])]), 48, 5))
    assert _rows(parameters) == [32, 64, 32, 5]


def test_a_number_of_channels_that_was_a_multiple_stays_one():
    """23 and 25 channels together are 48; 16 and 25 would be none of 4, and the next convolution not blocked."""
    net = _net()
    parts = [_hidden(net, "x", 3, 23, 10), _hidden(net, "x", 3, 25, 25)]
    _, parameters = _fold(net, net.conv(net.node("Concat", parts, axis=1), 48, 5))
    assert _rows(parameters) == [23, 25, 5]


@pytest.mark.parametrize("pooled", [False, True])
def test_a_pooling_asks_for_whole_blocks(pooled):
    """24 and 24 channels together are blocks; 16 and 24 are enough for a convolution, not for a pooling."""
    net = _net()
    y = net.node("Concat", [_hidden(net, "x", 3, 24, 10), _hidden(net, "x", 3, 24, 24)], axis=1)
    if pooled:
        y = net.node("MaxPool", [y], kernel_shape=[2, 2])
    _, parameters = _fold(net, net.conv(y, 48, 5))
    assert _rows(parameters) == [24 if pooled else 16, 24, 5]


def test_divisor_does_not_become_0():
    net = _net()
    divisor = net.node("Add", [_hidden(net, "x", 3, 16, 13), net.constant(2.0)])
    y = net.node("Div", [_hidden(net, "x", 3, 16, 13), divisor])
    _, parameters = _fold(net, net.conv(y, 16, 5))
    assert (parameters["conv_0.2"][_gamma(16, 13) == 0] != 0).all()


def test_shared_weight_is_not_copied_for_its_zeros():
    net = _net((16, 6, 6))
    shared = net.constant(net.parameters.array(16, 16, 1, 1))
    y = net.node("Relu", [net.node("Conv", [_hidden(net, "x", 16, 16, 13), shared])])
    folded, _ = _fold(net, net.node("Relu", [net.node("Conv", ["x", shared])]), y)
    weights = [node.input[1] for node in folded.graph.node if node.op_type == "Conv"]
    assert len(weights) - len(set(weights)) == 1


@both
def test_kept_batchnorm_lets_dead_channels_pass(dyadic):
    """Between a ReLU and a padded convolution it stays; what it makes of a dead channel is 0."""
    net = _net(dyadic=dyadic)
    hidden = net.node("Relu", [net.conv("x", 3, 16)])
    y = net.batchnorm(hidden, 16, gamma=_gamma(16, 13), beta=np.where(_gamma(16, 13) == 0, 0.0, 1.0), name="bn")
    _, parameters = _fold(net, net.conv(y, 16, 5, (3, 3), pads=[1] * 4))
    dead = _gamma(16, 13) == 0
    assert not parameters["conv_0.1"][dead].any()
    assert (parameters["bn.1"][dead] == 1).all()
    assert not any(parameters[f"bn.{k}"][dead].any() for k in (2, 3))


def test_numbers_are_those_of_the_source_after_several_rounds():
    """The second convolution is dead where it read dead channels only, which shows when the first has been cut."""
    net = _net()
    y = _hidden(net, "x", 3, 64, 20)
    weight = net.parameters.array(64, 64, 1, 1)
    weight[np.ix_(np.arange(40), _gamma(64, 20) == 1)] = 0
    y = net.node("Relu", [net.node("Conv", [y, net.constant(weight)], name="second")])
    model = net.model(net.conv(y, 64, 5))
    _, ledger = fold(model)
    assert as_json(ledger.removed_channels) == [
        {"layer": "conv_0", "from": 64, "to": 32},
        {"layer": "second", "from": 64, "to": 32},
    ]


@pytest.mark.parametrize("block", [CHANNEL_BLOCK, CUDA_CHANNEL_BLOCK])
def test_files_for_each_target_are_proven_by_a_fold_made_anew(block):
    net = _net(dtype="float32")
    model = net.model(net.conv(_hidden(net, "x", 3, 48, 7), 48, 5))
    folded, _ = fold(model, channel_block=block)
    folded.producer_name = "bnfold"
    found = certified(folded, model, None, sizes={"x": (None, 3, 6, 6)})
    assert (found.skipped, found.failure) == (None, None)
    assert found.facts is not None
    assert found.facts.certified == found.facts.regions


# What ONNX Runtime makes of it


def _blocked(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators of ONNX Runtime's optimized graph that work on blocks of channels."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimized.onnx").graph.node
    return Counter(node.op_type for node in nodes if node.domain == "com.microsoft.nchwc")


def _has_blocks(folder: Path) -> bool:
    """Whether this build of ONNX Runtime has blocked kernels at all."""
    net = _net((16, 6, 6), dtype="float32")
    return bool(_blocked(net.model(net.conv("x", 16, 16)), folder))


def _inverted_residuals(n_dead: int) -> onnx.ModelProto:
    """Two blocks of a MobileNetV2, `n_dead` channels of each width dead."""
    net = _net((3, 16, 16), dtype="float32")
    y = _hidden(net, "x", 3, 32, 32 - n_dead, beta=-1.0, kernel=(3, 3), pads=[1] * 4)
    for width in (96, 144):
        hidden = _hidden(net, y, 32, width, width - n_dead, beta=-1.0)
        hidden = _hidden(net, hidden, width, width, width - n_dead, beta=-1.0, kernel=(3, 3), pads=[1] * 4, group=width)
        y = net.node("Add", [y, net.batchnorm(net.conv(hidden, width, 32), 32)])
    return net.model(net.node("GlobalAveragePool", [y]))


def _inception(n_dead: int) -> onnx.ModelProto:
    """Branches that are joined and pooled."""
    net = _net((3, 16, 16), dtype="float32")
    y = _hidden(net, "x", 3, 64, 64 - n_dead, kernel=(3, 3))
    for _ in range(2):
        parts = [_hidden(net, y, 64, n, n - n_dead, beta=-1.0) for n in (16, 48)]
        y = net.node("MaxPool", [net.node("Concat", parts, axis=1)], kernel_shape=[2, 2])
    return net.model(net.conv(y, 64, 16))


def _groups(n_dead: int) -> onnx.ModelProto:
    net = _net((3, 16, 16), dtype="float32")
    y = _hidden(net, "x", 3, 128, 128 - n_dead)
    y = _hidden(net, y, 128, 128, 128 - n_dead, group=4, kernel=(3, 3))
    return net.model(net.conv(y, 128, 16))


@pytest.mark.parametrize("n_dead", [0, 1, 7, 15])
@pytest.mark.parametrize("network", [_inverted_residuals, _inception, _groups])
def test_no_convolution_loses_its_blocked_kernel(network, n_dead, tmp_path):
    if not _has_blocks(tmp_path):
        pytest.skip("this ONNX Runtime has no kernels that work on blocks of channels")
    model = network(n_dead)
    folded, ledger = fold(model)
    assert ledger.kept == 0
    assert _blocked(folded, tmp_path) == _blocked(model, tmp_path)


@pytest.mark.parametrize("also_read", [False, True])
def test_scale_and_shift_of_a_sum_are_one_convolution(also_read):
    """Of a negative scale and a shift between two ReLUs neither vanishes; the Mul may be read by its Add alone."""
    net = _net((16, 16, 16), dtype="float32")
    y = net.node("Relu", [net.conv("x", 16, 16, (3, 3), pads=[1] * 4)])
    gamma = np.linspace(-9, -5, 16)
    bn = net.batchnorm(y, 16, gamma=gamma, beta=np.linspace(1, 2, 16), mean=np.zeros(16), variance=np.ones(16))
    total = net.node("Add", [bn, y])
    read = net.conv(net.node("Relu", [total]), 16, 16, (3, 3), pads=[1] * 4)
    outputs = [read, net.node("Sigmoid", [total])] if also_read else [read]
    folded, ledger = fold(net.model(*outputs))
    assert ledger.merged == 1
    groups = {node.output[0]: a.i for node in folded.graph.node for a in node.attribute if a.name == "group"}
    scales = [node for node in folded.graph.node if groups.get(node.output[0]) == 16]
    assert [len(node.input) for node in scales] == [3]
    assert not {"Mul", "Add", "BatchNormalization"} & {node.op_type for node in folded.graph.node}


def test_sum_of_a_batchnorm_and_its_input_stays_blocked(tmp_path):
    """Mul and Add of a constant have no blocked kernel; the depthwise convolution that a BatchNorm becomes has one."""
    if not _has_blocks(tmp_path):
        pytest.skip("this ONNX Runtime has no kernels that work on blocks of channels")
    net = _net((16, 16, 16), dtype="float32")
    y = net.node("Relu", [net.conv("x", 16, 16, (3, 3), pads=[1] * 4)])
    for shift in (net.batchnorm(y, 16), net.conv(y, 16, 16, group=16)):
        y = net.node("Relu", [net.node("Add", [shift, y])])
        y = net.node("Relu", [net.conv(y, 16, 16, (3, 3), pads=[1] * 4)])
    model = net.model(y)
    folded, ledger = fold(model)
    assert ledger.merged == 1
    assert _blocked(folded, tmp_path) == _blocked(model, tmp_path)
