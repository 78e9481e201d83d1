"""BatchNorms that an exporter, or the model itself, has taken apart, put together again: one node, one decision.

torchvision's FrozenBatchNorm2d, hand-written normalisations and Keras models that were not fused compute, with Sub,
Mul, Div and Add,

    y = gamma (x - mean) / sqrt(variance + epsilon) + beta,    or
    y = s x + (beta - mean s)    with s = gamma / sqrt(variance + epsilon).

What tells them from any other scale and shift is the root of a constant vector plus a constant number. Without it (an
exporter has computed s and t already) the operators fold as what they are, but nothing says that they are a BatchNorm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile

import numpy as np
import onnx_ir as ir

from bnfold.folding.decomposed import Affine, Decomposed, find_decomposed
from bnfold.folding.relations.operands import per_channel
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure, attempted
from bnfold.graph.computed import Computed
from bnfold.graph.constants import is_float, store_constant
from bnfold.graph.inference import infer_shapes
from bnfold.graph.layers import layer_name, layer_of_parameter
from bnfold.graph.operators import kind_of
from bnfold.graph.scaled import fits, largest
from bnfold.graph.shapes import static_length
from bnfold.numerics.affine import Float64

__all__ = ["Composed", "compose_batchnorms", "restore_digits"]

# gamma, beta, mean and variance of BatchNorms that were put together, in float64.
Composed = dict[ir.Node, tuple[Float64, ...]]

_ROOT = 0.5  # the power, or -0.5
_OLDEST_OPSET = 9  # from which on BatchNormalization is for inference and constants broadcast as in NumPy
_OLDEST_BFLOAT16 = 14


def compose_batchnorms(model: ir.Model) -> Composed:
    """Replace each decomposed BatchNorm along axis 1 by one BatchNormalization, in place; functions must be inlined.

    Source: Ioffe and Szegedy 2015 (arXiv:1502.03167), algorithm 2; ONNX operator BatchNormalization.

    Returns:
        The nodes, with the digits of their parameters that their type does not hold, for `restore_digits`.
    """
    made: Composed = {}
    opset = model.opset_imports.get("", 0)
    if opset < _OLDEST_OPSET or not any(kind_of(node) in (op.Pow, op.Sqrt) for node in model.graph.all_nodes()):
        return made
    constants = Computed(model)
    found = find_decomposed(model, constants)
    if not found:
        return made
    infer_shapes(model)
    wanted = [value for decomposed in found for value in decomposed.constants]
    values = attempted(
        "computing the constants of decomposed BatchNorms", "the graph", lambda: constants.evaluate(wanted)
    )
    if isinstance(values, Failure):
        return made
    for decomposed in found:
        if opset >= _OLDEST_BFLOAT16 or decomposed.factor.x.dtype != ir.DataType.BFLOAT16:
            made |= _replace(_within_axis(decomposed, values), values, constants)
    return made


def _within_axis(decomposed: Decomposed, values: Mapping[ir.Value, np.ndarray]) -> Decomposed:
    """Without the operators from the first on, on either side of the factor, whose constant varies along other axes."""
    channels, rank = static_length(decomposed.factor.x, 1) or 0, len(decomposed.factor.x.shape or ())

    def fits_axis(operator: Affine) -> bool:
        return per_channel(values[operator.constant], rank, channels) is not None

    at = decomposed.operators.index(decomposed.factor)
    before = list(takewhile(fits_axis, reversed(decomposed.operators[:at])))[::-1]
    behind = takewhile(fits_axis, decomposed.operators[at + 1 :])
    return replace(decomposed, operators=(*before, decomposed.factor, *behind))


def _replace(decomposed: Decomposed, values: Mapping[ir.Value, np.ndarray], constants: Computed) -> Composed:
    """Write the BatchNormalization, unless the constants are no parameters of one."""
    first, last = decomposed.operators[0], decomposed.operators[-1].node
    graph, y, dtype = last.graph, last.outputs[0], first.x.dtype
    variance, epsilon = sorted(decomposed.spread, key=lambda v: _as_variance(v, values, constants), reverse=True)
    found = _parameters(decomposed, values, values[variance], values[epsilon])
    if found is None or graph is None or dtype is None or not is_float(first.x):
        return {}
    arrays, stored_epsilon = found
    if not all(fits(largest(array), dtype) for array in arrays.values()):
        return {}
    node = ir.node(
        op.BatchNormalization,
        [first.x, *(store_constant(graph, f"{y.name}_{kind}", array, dtype) for kind, array in arrays.items())],
        {"epsilon": stored_epsilon},
        name=layer_of_parameter(constants.origin(variance)) or layer_name(decomposed.factor.node),
        metadata_props=dict(decomposed.factor.node.metadata_props),
    )
    nodes = [operator.node for operator in decomposed.operators]
    ir.convenience.replace_nodes_and_values(graph, last, nodes, [node], [y], node.outputs)
    return {node: tuple(np.array(array) for array in arrays.values())}


def restore_digits(composed: Composed) -> None:
    """Give BatchNorms that were put together the float64 digits of their parameters, to be rounded once, at the end."""
    for node, arrays in composed.items():
        for value, array in zip(node.inputs[1:5], arrays, strict=False):
            if value is not None and value.const_value is not None and value.const_value.shape == array.shape:
                value.const_value = ir.Tensor(array, name=value.name)


def _as_variance(
    value: ir.Value, values: Mapping[ir.Value, np.ndarray], constants: Computed
) -> tuple[int, bool, float]:
    """Which of two terms is the variance: the vector; of one channel, the layer's own parameter, else the larger."""
    array = values[value]
    return array.size, bool(layer_of_parameter(constants.origin(value))), float(array.max(initial=0))


def _parameters(
    decomposed: Decomposed, values: Mapping[ir.Value, np.ndarray], variance: Float64, epsilon: Float64
) -> tuple[dict[str, Float64], float] | None:
    """gamma, beta, mean, variance, each (C,), and epsilon; None where these constants are no such parameters.

    gamma = s sqrt(variance + epsilon), beta = t + s mean. epsilon is float32 in ONNX: the variance takes the rest.
    """
    x = decomposed.operators[0].x
    channels, rank = static_length(x, 1), len(x.shape or ())
    powers = [float(values[value].reshape(-1)[0]) for value in decomposed.root.inputs[1:] if value is not None]
    mean = np.zeros(1) if decomposed.mean is None else values[decomposed.mean]
    sizes = (variance.size, epsilon.size) == (channels, 1) and mean.size in (1, channels)
    if not sizes or any(abs(power) != _ROOT for power in powers) or not (variance + epsilon > 0).all():
        return None
    scale, shift = np.ones(variance.size), np.zeros(variance.size)
    for operator in decomposed.operators:
        constant = per_channel(values[operator.constant], rank, variance.size)
        if constant is None:
            return None
        scale, shift = _after(operator.node.op_type, constant, scale, shift)
    found = _as_batchnorm(scale, shift, mean.reshape(-1), variance.reshape(-1), float(epsilon.reshape(())))
    return found if all(np.isfinite(array).all() for array in found[0].values()) else None


def _after(op_type: str, constant: Float64, scale: Float64, shift: Float64) -> tuple[Float64, Float64]:
    """`s x + t` after one more operator with a constant."""
    if op_type in (op.Add, op.Sub):
        return scale, shift + (constant if op_type == op.Add else -constant)
    factor = constant if op_type == op.Mul else 1 / constant
    return scale * factor, shift * factor


def _as_batchnorm(
    scale: Float64, shift: Float64, mean: Float64, variance: Float64, epsilon: float
) -> tuple[dict[str, Float64], float]:
    nearest = np.float32(epsilon)
    stored = float(nearest if nearest <= epsilon else np.nextafter(nearest, np.float32(0)))
    parameters = {
        "gamma": scale * np.sqrt(variance + epsilon),
        "beta": shift + scale * mean,
        "mean": np.broadcast_to(mean, scale.shape),
        "variance": variance + (epsilon - stored),
    }
    return parameters, stored
