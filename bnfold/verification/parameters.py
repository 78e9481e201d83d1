"""Whether a file's parameters are right, apart from how far its sums take them: both judged in float64.

A fold may be right and yet leave float32 further from the answer than the source was: in front of a Linear, it moves
the mean of a thousand inputs into one bias, and large partial sums cancel. Outputs in float32 cannot tell this from
a slightly wrong fold. In float64 the file has no rounding errors but those of its stored parameters, so that

    distance  =  file in float64 - source in float64
    rounding  =  file in float64, every parameter w at w (1 + u r) - file in float64,    r uniform on [-1, 1]

are of one size when every parameter is the right one, rounded once. `rounding` is the condition of the function in
its parameters, times u / sqrt(3): for one linear operator sqrt(sum_k (W_k x_k)^2 + b^2) u / sqrt(3), N. J. Higham,
"Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from bnfold.graph.float64 import Float64Graph
from bnfold.numerics.error_bounds import PooledError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import onnx

    from bnfold.verification.inputs import Feed
    from bnfold.verification.reference import Reference

__all__ = ["N_DRAWS", "PARAMETRIC", "SMALL_FEED", "ParameterErrors", "judge_parameters", "stored_parameters"]

# Where the parameters of a network stand; sizes, axes and bounds (Resize, Clip, Pad) are none.
PARAMETRIC = frozenset(
    {"Add", "BatchNormalization", "Conv", "ConvTranspose", "Div", "GRU", "Gather", "Gemm", "GroupNormalization"}
    | {"InstanceNormalization", "LSTM", "LayerNormalization", "MatMul", "Mul", "PRelu", "RNN", "Sub"}
)
_FLOATS = frozenset({TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT})
N_DRAWS = 16  # for small rows: the error that a whole network has in common is one number, and needs as many draws
SMALL_FEED = 1 << 14  # values up to which a feed is drawn N_DRAWS times, and else once


@dataclass
class ParameterErrors:
    """Of one output: the distance of two functions, and what one rounding of every parameter moves it."""

    distance: PooledError = field(default_factory=PooledError)
    rounding: PooledError = field(default_factory=PooledError)

    @property
    def ratio(self) -> float:
        """Distance over rounding, as root mean squares; infinite where nothing can be rounded."""
        return self.distance.rms / self.rounding.rms if self.rounding.rms else float("inf")


def judge_parameters(
    model: onnx.ModelProto,
    reference: Reference,
    feeds: Iterable[Feed],
    *,
    u: float,
    seed: int,
    known: Iterable[Mapping[str, np.ndarray]] = (),
) -> dict[str, ParameterErrors]:
    """Evaluate the file and its source in float64, and the file with parameters rounded at random.

    Args:
        model: the file, external data loaded.
        reference: its source.
        feeds: the inputs of the comparison.
        u: unit roundoff of the format that the file stores.
        seed: of the roundings.
        known: what the source has answered to the feeds in float64, the first ones or all.

    Returns:
        The errors by name of output, those of floating point.

    Raises:
        InputRefused: the file has an operator without a float64 meaning.
    """
    graph = Float64Graph(model)
    parameters = dict(stored_parameters(model))
    generator = np.random.default_rng(seed)
    errors: dict[str, ParameterErrors] = {}
    answers = iter(known)
    for feed in feeds:
        exact = next(answers, None) or reference.evaluate64(feed.arrays)
        ours = graph.evaluate(feed.arrays)
        floats = [name for name, values in ours.items() if values.dtype.kind == "f"]
        for name in floats:
            errors.setdefault(name, ParameterErrors()).distance.add(ours[name] - exact[name].astype(np.float64))
        size = sum(array.size for array in feed.arrays.values())
        for _ in range(N_DRAWS if size <= SMALL_FEED else 1):
            rounded = {name: w * (1 + u * generator.uniform(-1, 1, w.shape)) for name, w in parameters.items()}
            moved = graph.evaluate({**feed.arrays, **rounded})  # a feed overrides the initializer of its name
            for name in floats:
                errors[name].rounding.add(moved[name] - ours[name])
    return errors


def stored_parameters(model: onnx.ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    """The stored tensors that are parameters, in float64."""
    read = {name for node in model.graph.node if node.op_type in PARAMETRIC for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in read and tensor.data_type in _FLOATS:
            yield tensor.name, numpy_helper.to_array(tensor).astype(np.float64)
