"""Wrong folds: the right algebra on the wrong numbers, and wrong algebra. Each is spoilt in front of the fold.

A mutation takes a `Subject` and returns the wrong file, and the names that are right for the layer that is wrong: the
BatchNorm and the operators that hold what became of it. It returns None where a network has no place for it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from mutations.networks import copied, parameter, set_parameter
from mutations.norms import Mutant, Norm, attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from mutations.networks import Subject

__all__ = ["FOLDS"]


def _norms(model: onnx.ModelProto) -> list[Norm]:
    return [Norm(model, node) for node in model.graph.node if node.op_type == "BatchNormalization"]


def _everywhere(edit: Callable[[Norm], None]) -> Callable[[Subject], Mutant]:
    """A fault of the method, in every BatchNorm: the first one diverges first."""

    def mutate(subject: Subject) -> Mutant:
        plain = copied(subject.plain)
        for norm in _norms(plain):
            edit(norm)
        return Mutant(subject.refold(plain), subject.norms()[0][1])

    return mutate


def _in_one(edit: Callable[[Norm, list[Norm]], bool | str | None]) -> Callable[[Subject], Mutant | None]:
    """A fault in one BatchNorm, the first from the middle on that `edit` does not answer with False.

    Where `edit` answers with a layer's name, the numbers have gone there, and that name is right, too.
    """

    def mutate(subject: Subject) -> Mutant | None:
        n = len(subject.norms())
        for index in (*range(n // 2, n), *range(n // 2)):
            plain = copied(subject.plain)
            norms = _norms(plain)
            answer = edit(norms[index], norms)
            if answer is not False:
                also = {answer} if isinstance(answer, str) else set()
                return Mutant(subject.refold(plain), subject.norms()[index][1] | also)
        return None

    return mutate


def epsilon_dropped(norm: Norm) -> None:
    """s = gamma / sqrt(var)."""
    norm.epsilon = 0.0


def wrong_epsilon(norm: Norm) -> None:
    """1e-3, the default of another framework, for 1e-5."""
    norm.epsilon = 1e-3


def variance_for_deviation(norm: Norm) -> None:
    """s = gamma / (var + eps)."""
    norm.write(variance=(norm.read()[3] + norm.epsilon) ** 2 - norm.epsilon)


def mean_zeroed(norm: Norm, _: list[Norm]) -> None:
    """One channel's mean is taken for 0."""
    mean = norm.read()[2]
    mean[len(mean) // 2] = 0.0
    norm.write(mean=mean)


def sign_lost(norm: Norm, _: list[Norm]) -> None:
    """|gamma| for gamma."""
    norm.write(gamma=np.abs(norm.read()[0]))


def beta_omitted(norm: Norm, _: list[Norm]) -> None:
    """t = -s mean."""
    norm.write(beta=np.zeros_like(norm.read()[1]))


def channels_swapped(norm: Norm, _: list[Norm]) -> None:
    """Channels 1 and 2 have each other's numbers."""
    gamma, beta, mean, variance = norm.read()
    order = np.arange(len(gamma))
    order[[1, 2]] = 2, 1
    norm.write(gamma=gamma[order], beta=beta[order], mean=mean[order], variance=variance[order])


def neighbours_numbers(norm: Norm, norms: list[Norm]) -> bool:
    """The numbers of another BatchNorm of as many channels."""
    size = len(norm.read()[0])
    others = [other for other in norms if other.node is not norm.node and len(other.read()[0]) == size]
    if not others:
        return False
    gamma, beta, mean, variance = others[-1].read()
    norm.write(gamma=gamma, beta=beta, mean=mean, variance=variance)
    return True


def left_out(norm: Norm, _: list[Norm]) -> None:
    """The BatchNorm is taken out, and into nothing."""
    norm.remove()


def applied_twice(norm: Norm, _: list[Norm]) -> None:
    """Kept and folded: the BatchNorm acts twice."""
    twin = onnx.NodeProto()
    twin.CopyFrom(norm.node)
    twin.name += "_twin"
    twin.output[0], norm.node.output[0] = norm.node.output[0], f"{norm.node.output[0]}_once"
    twin.input[0] = norm.node.output[0]
    nodes = norm.model.graph.node
    nodes.insert(next(i for i, node in enumerate(nodes) if node is norm.node or node == norm.node) + 1, twin)


def batch_statistics(norm: Norm, _: list[Norm]) -> None:
    """Left in the file, in train mode."""
    attribute(norm.node, "training_mode").i = 1
    norm.node.output.extend(f"{norm.node.output[0]}_{name}" for name in ("mean", "var"))  # which the operator then has


def _linear_before(norm: Norm) -> NodeProto | None:
    writers = {name: node for node in norm.model.graph.node for name in node.output}
    node = writers.get(norm.node.input[0])
    return node if node is not None and node.op_type in {"Conv", "Gemm"} and len(node.input) == 3 else None


def _linear_behind(norm: Norm) -> NodeProto | None:
    readers = [node for node in norm.model.graph.node if norm.node.output[0] in node.input]
    return readers[0] if len(readers) == 1 and readers[0].op_type in {"Conv", "Gemm"} else None


def scale_on_wrong_axis(norm: Norm, _: list[Norm]) -> bool:
    """W' = W s over inputs instead of outputs, or the other way round; the weight is square."""
    gamma, beta, mean, variance = norm.read()
    s = gamma / np.sqrt(variance + norm.epsilon)
    t = beta - s * mean
    before, behind = _linear_before(norm), _linear_behind(norm)
    node = before if before is not None else behind
    if node is None:
        return False
    weight, bias = parameter(norm.model, node.input[1]), parameter(norm.model, node.input[2])
    if weight.shape[0] != weight.shape[1]:
        return False
    over_outputs, over_inputs = s.reshape(-1, *[1] * (weight.ndim - 1)), s.reshape(1, -1, *[1] * (weight.ndim - 2))
    moved = t if before is not None else weight.reshape(*weight.shape[:2], -1).sum(2) @ t
    set_parameter(norm.model, node.input[2], (s * bias if before is not None else bias) + moved)
    set_parameter(norm.model, node.input[1], weight * (over_inputs if before is not None else over_outputs))
    norm.remove()
    return True


def through_padding(norm: Norm, _: list[Norm]) -> bool | str:
    """b' = b + sum W t, W' = W s into the convolution behind, although its zero padding is no t."""
    node = _linear_behind(norm)
    if node is None or node.op_type != "Conv" or not any(attribute(node, "pads").ints):
        return False
    weight, bias = parameter(norm.model, node.input[1]), parameter(norm.model, node.input[2])
    if attribute(node, "group").i > 1:
        return False
    gamma, beta, mean, variance = norm.read()
    s = gamma / np.sqrt(variance + norm.epsilon)
    taps = weight.reshape(*weight.shape[:2], -1).sum(2)
    set_parameter(norm.model, node.input[2], bias + taps @ (beta - s * mean))
    set_parameter(norm.model, node.input[1], weight * s.reshape(1, -1, *[1] * (weight.ndim - 2)))
    norm.remove()
    return str(node.input[1]).removesuffix(".weight")


def bias_forgotten(norm: Norm, _: list[Norm]) -> bool:
    """b' = t: the bias that the convolution had is lost."""
    node = _linear_before(norm)
    if node is None:
        return False
    set_parameter(norm.model, node.input[2], np.zeros_like(parameter(norm.model, node.input[2])))
    return True


def _with_state(subject: Subject, module: torch.nn.Module) -> Mutant:
    plain = copied(subject.plain)
    stored = {tensor.name for tensor in plain.graph.initializer}
    for name, value in module.state_dict().items():
        if name in stored:
            set_parameter(plain, name, value.numpy())
    return Mutant(subject.refold(plain), subject.norms()[0][1])


def stale(subject: Subject) -> Mutant:
    """The file of the weights as they were one step of training ago."""
    module = copy.deepcopy(subject.source.module)
    outputs = module(torch.randn(8, *_row(subject)))
    loss = sum((output**2).mean() for output in (outputs if isinstance(outputs, tuple) else (outputs,)))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    torch.as_tensor(loss).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return _with_state(subject, module)


def momentum_mixed(subject: Subject) -> Mutant:
    """The running statistics have taken in one more batch: a forward in train mode before the export."""
    module = copy.deepcopy(subject.source.module).train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            layer.momentum = 0.1
    with torch.no_grad():
        module(torch.randn(8, *_row(subject)) * 1.5 + 0.5)
    return _with_state(subject, module.eval())


def _row(subject: Subject) -> tuple[int, ...]:
    return subject.source.inputs[0].with_batch(1)[1:]


FOLDS: dict[str, Callable[[Subject], Mutant | None]] = {
    "eps dropped": _everywhere(epsilon_dropped),
    "eps 1e-3 for 1e-5": _everywhere(wrong_epsilon),
    "variance for deviation": _everywhere(variance_for_deviation),
    "mean of one channel 0": _in_one(mean_zeroed),
    "sign of gamma lost": _in_one(sign_lost),
    "beta omitted": _in_one(beta_omitted),
    "two channels swapped": _in_one(channels_swapped),
    "another norm's numbers": _in_one(neighbours_numbers),
    "one norm left out": _in_one(left_out),
    "one norm applied twice": _in_one(applied_twice),
    "batch statistics": _in_one(batch_statistics),
    "scale on the wrong axis": _in_one(scale_on_wrong_axis),
    "offset through zero padding": _in_one(through_padding),
    "bias of the conv forgotten": _in_one(bias_forgotten),
    "stale file": stale,
    "momentum-mixed statistics": momentum_mixed,
}
