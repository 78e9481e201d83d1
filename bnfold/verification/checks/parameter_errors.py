"""Whether a file's parameters are right, apart from how far its sums take them: both judged in float64.

A fold may be right and yet leave float32 further from the answer than the source was: in front of a Linear, it moves
the mean of a thousand inputs into one bias, and large partial sums cancel. Outputs in float32 cannot tell this from
a slightly wrong fold. In float64 the file has no rounding errors but those of its stored parameters, so that

    distance  =  file in float64 - source in float64
    rounding  =  file in float64, every parameter w at w (1 + u r) - file in float64,    r uniform on [-1, 1]

are of one size when every parameter is the right one, rounded once. `rounding` is the condition of the function in
its parameters, times u / sqrt(3): for one linear operator sqrt(sum_k (W_k x_k)^2 + b^2) u / sqrt(3), N. J. Higham,
"Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, chapter 3.

An execution rounds more than the parameters. Where these are right and the file still lies further off than one draw of
roundings explains, it is asked what they explain at all:

    execution  =  as `rounding`, with every value that a sum of products reads moved by one rounding, too

in several draws, since the roundings of one value upstream move all outputs together: on one input of a LeViT a draw
moves them by 6e-6 or by 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph.float64 import Float64Graph
from bnfold.numerics.error_bounds import PooledError
from bnfold.verification.execution.roundings import MANY_DRAWS, n_draws, stored_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

    from bnfold.verification.data.feeds import Feed
    from bnfold.verification.execution.reference import Reference

__all__ = ["ParameterErrors", "judge_execution", "judge_parameters"]


@dataclass
class ParameterErrors:
    """Of one output: the distance of two functions, and what roundings move it; see above.

    `execution` is None until `judge_execution` was asked.
    """

    distance: PooledError = field(default_factory=PooledError)
    rounding: PooledError = field(default_factory=PooledError)
    execution: PooledError | None = None

    @property
    def executed(self) -> PooledError:
        """What roundings move the output: those of every factor where that was asked, else those of parameters."""
        return self.rounding if self.execution is None else self.execution

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
        for _ in range(n_draws(feed.arrays)):
            rounded = {name: w * (1 + u * generator.uniform(-1, 1, w.shape)) for name, w in parameters.items()}
            moved = graph.evaluate({**feed.arrays, **rounded})  # a feed overrides the initializer of its name
            for name in floats:
                errors[name].rounding.add(moved[name] - ours[name])
    return errors


def judge_execution(model: onnx.ModelProto, feeds: Iterable[Feed], *, u: float, seed: int) -> dict[str, PooledError]:
    """What one rounding of every factor moves the file's outputs in float64, in several draws.

    Args:
        model: the file, external data loaded.
        feeds: the inputs of the comparison.
        u: unit roundoff of the format that the file stores.
        seed: of the roundings.

    Returns:
        The errors by name of output, those of floating point.

    Raises:
        InputRefused: as `judge_parameters`.
    """
    graph = Float64Graph(model)
    parameters = dict(stored_parameters(model))
    generator = np.random.default_rng(seed)
    errors: dict[str, PooledError] = {}

    def moved(value: np.ndarray) -> np.ndarray:
        return value * (1 + u * generator.uniform(-1, 1, value.shape))

    for feed in feeds:
        ours = graph.evaluate(feed.arrays)
        for _ in range(MANY_DRAWS):
            rounded = {name: moved(parameter) for name, parameter in parameters.items()}
            answer = graph.evaluate({**feed.arrays, **rounded}, factor=moved)
            for name, values in ours.items():
                if values.dtype.kind == "f":
                    errors.setdefault(name, PooledError()).add(answer[name] - values)
    return errors
