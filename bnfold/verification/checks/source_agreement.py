"""Whether the float64 evaluation of a graph and ONNX Runtime mean the same network by it.

Where they do not, the "error of the source" is the difference of two functions, and nothing may be allowed on its
account. An output that keeps less than half of its digits in the source's own precision has either lost them to
rounding, or is another function. Rounding is tried in float64: inputs and parameters moved by one rounding each, and
every result of a node rounded to the format of the source,

    E_sim  =  f(x (1 + u r), w (1 + u r)), every node's result rounded, - f(x, w),      r uniform on [-1, 1].

A sum of K products as it is executed is the exact sum of operands moved by K u at most (N. J. Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd ed., 2002, section 3.1), and sqrt(K) u as roundings go. So a source that only
rounds has

    E_src <= K_ORDER sqrt(1 + K) E_sim,

K its longest sum: the measure that `bnfold.verification.checks.criterion` applies to files.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.numerics.error_bounds import PooledError, unit_roundoff
from bnfold.verification.checks.criterion import K_ORDER
from bnfold.verification.data.precision import LOGISTIC_TERMS, accumulation_lengths
from bnfold.verification.execution.roundings import moved_by_roundings, n_draws, stored_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    import onnx

    from bnfold.graph.float64 import Float64Graph
    from bnfold.verification.checks.criterion import OutputErrors
    from bnfold.verification.data.feeds import Feed
    from bnfold.verification.execution.answers import Answer
    from bnfold.verification.execution.reference import Reference

__all__ = ["Disagreement", "disagreement"]

N_FEEDS_SHOWN = 3


@dataclass(frozen=True)
class Disagreement:
    """An output whose error in the source's own precision no rounding accounts for.

    Attributes:
        output: its name.
        e_source: root mean square error of the source.
        rounding: what roundings leave of it.
        allowed: at most, for the longest sum.
        feeds: some that show it.
    """

    output: str
    e_source: float
    rounding: float
    allowed: float
    feeds: tuple[Feed, ...] = field(repr=False)

    def refusal(self, clause: str = "") -> InputRefused:
        """Of the source; `clause` says where the two begin to disagree."""
        return InputRefused(
            "ONNX Runtime and the float64 evaluation disagree about what the source computes",
            where=f"output {self.output}{clause}",
            found=f"an error of {self.e_source:.3g}, where roundings leave {self.rounding:.3g}",
            expected=f"{self.allowed:.3g} at most, for its longest sum",
            remedy="verify against the PyTorch source, or export with another opset or without that operator",
        )


def disagreement(
    outputs: Mapping[str, OutputErrors],
    reference: Reference,
    feeds: Callable[[], Iterable[Feed]],
    answers: Iterable[Answer],
    *,
    seed: int,
) -> Disagreement | None:
    """The first output that is another function; nothing is computed where every output has its digits.

    Args:
        outputs: the errors of the source, over `feeds`.
        reference: the source; one that PyTorch evaluates is not asked, as its float64 and float32 are one program.
        feeds: makes the inputs that the source has answered.
        answers: its answers to these.
        seed: of the roundings.
    """
    limit = math.sqrt(max(unit_roundoff(reference.stored_format), unit_roundoff("float32")))
    found = [errors for errors in outputs.values() if errors.e_source > limit * errors.reference.rms]
    if not found or reference.graph64 is None or (plain := reference.plain) is None:
        return None
    names = [errors.name for errors in found]
    simulated = _simulated(
        reference.graph64, plain, feeds(), answers, names, stored_format=reference.stored_format, seed=seed
    )
    order = math.sqrt(1 + max([*accumulation_lengths(plain), *_polynomials(plain)], default=1))
    for errors in found:
        rounding = simulated[errors.name].rms
        allowed = K_ORDER * order * rounding
        if not errors.e_source <= allowed:
            shown = tuple(itertools.islice(feeds(), N_FEEDS_SHOWN))
            return Disagreement(errors.name, errors.e_source, rounding, allowed, shown)
    return None


def _polynomials(model: onnx.ModelProto) -> list[int]:
    """The terms of the polynomials by which ONNX Runtime evaluates a logistic function (MlasComputeLogistic)."""
    return [LOGISTIC_TERMS] if any(kind_of(node) == op.Sigmoid for node in model.graph.node) else []


def _simulated(
    graph: Float64Graph,
    plain: onnx.ModelProto,
    feeds: Iterable[Feed],
    answers: Iterable[Answer],
    names: Collection[str],
    *,
    stored_format: str,
    seed: int,
) -> dict[str, PooledError]:
    """What roundings leave of the outputs of these names, by the evaluator's own meaning of each operator."""
    import ml_dtypes  # noqa: F401 - NumPy knows bfloat16 by it

    u, generator = unit_roundoff(stored_format), np.random.default_rng(seed)
    parameters = dict(stored_parameters(plain))
    errors = {name: PooledError() for name in names}
    for feed, answer in zip(feeds, answers, strict=True):
        for _ in range(n_draws(feed.arrays)):
            moved = dict(moved_by_roundings({**feed.arrays, **parameters}, u, generator))
            rounded = graph.evaluate(moved, rounded_to=np.dtype(stored_format))
            for name, pooled in errors.items():
                pooled.add(rounded[name].astype(np.float64) - answer.exact[name])
    return errors
