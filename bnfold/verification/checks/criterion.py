"""When a file is as close to the float64 answer as a right one is.

For each output, over all inputs together, as root mean square and as maximum:

    E_out <= max(k E_src, bound)

(`k E_src u_file / u_source` for a file of a coarser format than its source, such as float16 from float32.)
`E_src` is the error of the source in its own precision, the largest of its executions; `E_out` that of the file, the
larger of graph optimizations off and as deployed. `k` is how much further from the answer a right file usually comes to
lie than its source, see `K_RMS`. `bound` is what roundings alone can leave:

- of the output's size, what accumulation leaves (`accumulation_error`); it counts where the source happens to be exact;
- if that is not enough, what is left of the condition of the file's own sums, K_ORDER sqrt(1 + K) times what one
  rounding of every factor moves the output (sums of K products in the worst order), *provided* that the file's
  function, in float64, lies no further from the source's than K_PARAMETERS times what one rounding of every parameter
  moves it: no wrong parameter hides in it. Factors are the parameters first, in one draw; where that does not explain
  it, the values too, in several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnfold.numerics.error_bounds import PooledError, expected_maximum
from bnfold.records import Criterion, OutputVerdict

if TYPE_CHECKING:
    from bnfold.verification.checks.parameter_errors import ParameterErrors

__all__ = ["K_MAXIMUM", "K_ORDER", "K_PARAMETERS", "K_RMS", "OutputErrors"]

# `scripts/calibrate_verification.py --seeds 20 --runs 5` (PyTorch 2.13, ONNX Runtime 1.32, x86-64): 390 right folds of
# 10 small architectures and of BNNet trained on digits, 175 with epsilon dropped; and with --zoo eight timm networks
# (resnet18, resnetv2_18, repvgg_a0, mobileone_s0, densenet121, fastvit_t8, levit_128s, visformer_tiny). As root mean
# square and as maximum:
#
#                                                             largest right     smallest wrong
#     E_out / E_src                                           1.53, 2.36        6.6, 5.6 (over earlier runs)
#         of timm networks                                    1.20, 1.51        152, 166
#         of networks that begin with a BatchNorm             8.19, 5.91        9.6, 8.4
#     distance in float64 / one rounding of each parameter    1.83, 0.86        12.3, 12.0
#     E_out / (sqrt(1 + K) one rounding of each factor)       0.59, 0.73        right parameters only
#         of timm networks                                    0.74, 0.80
#         of levit_128s with gammas of 0, one border input    1.40
#
# (the last three of 162 right folds with `--quick` and `--zoo`, and of `scripts/right_folds.py`).
#
# E_out / E_src tells right from wrong unless the network begins with a BatchNorm: there a right fold may lose digits,
# and the distance in float64 tells. Constants are geometric means of the two sides, rounded, but for K_ORDER.
K_RMS = 3.0
K_MAXIMUM = 4.0
K_PARAMETERS = 5.0
K_ORDER = 3.0  # twice the largest, rounded: what it is to catch is execution in another precision


@dataclass
class OutputErrors:
    """The errors of one output, pooled over the inputs as they come.

    Args:
        name: of the output.
        relative_bound: what accumulation alone leaves, relative to the output's size; 0 for whole numbers.
        coarser: unit roundoff of the file's format over that of the source's, at least 1: rounding errors, and with
            them what the source's error says about the conditioning of the network, scale with it.
        n_own: how many executions of the source, from the first, are its own.
        parameters: the judgement of the file's parameters, where there was need of one.
        worst_order: sqrt(1 + K) for sums of K products at most: what a sum in order leaves over one rounding each.
        absolute_bound: what the runtime's kernel that writes the output leaves, however small its values are.
        comparable: False as soon as the file gave something that has no error: another type or shape, NaN, infinity.
    """

    name: str
    relative_bound: float
    coarser: float = 1.0
    n_own: int = 1
    reference: PooledError = field(default_factory=PooledError)
    source: dict[int, PooledError] = field(default_factory=dict)
    candidate: dict[str, PooledError] = field(default_factory=dict)
    worst: tuple[float, str] = (0.0, "")
    parameters: ParameterErrors | None = None
    worst_order: float = 1.0
    absolute_bound: float = 0.0
    comparable: bool = True

    def add_source(self, execution: int, error: np.ndarray) -> None:
        """Take in the error of one execution of the source."""
        self.source.setdefault(execution, PooledError()).add(error)

    def add_candidate(self, execution: str, error: np.ndarray, where: str) -> None:
        """Take in the error of one execution of the file, on inputs described by `where`."""
        self.candidate.setdefault(execution, PooledError()).add(error)
        largest = float(np.abs(error).max(initial=0.0))
        if largest > self.worst[0]:
            self.worst = (largest, f"{execution}, {where}")

    @property
    def n_compared(self) -> int:
        """Values of the file that were compared."""
        return sum(pooled.n for pooled in self.candidate.values())

    @property
    def trusted(self) -> list[PooledError]:
        """The executions that count: the source's own, and others that would pass against these.

        An export that computes something else than its network must not widen its own tolerance.
        """
        executions = [self.source[number] for number in sorted(self.source)]
        own, rest = executions[: self.n_own], executions[self.n_own :]
        limit = max(K_RMS * max((pooled.rms for pooled in own), default=0.0), self._of_accumulation[0])
        return [*own, *(pooled for pooled in rest if pooled.rms <= limit)]

    @property
    def e_source(self) -> float:
        """Root mean square error of the source, of its worst execution that counts."""
        return max((pooled.rms for pooled in self.trusted), default=0.0)

    @property
    def e_output(self) -> float:
        """Root mean square error of the file, of its worse execution; NaN where it was not compared."""
        if not self.comparable or self.n_compared == 0:
            return math.nan
        return max((pooled.rms for pooled in self.candidate.values()), default=0.0)

    @property
    def allowed(self) -> float:
        """The largest root mean square error that passes."""
        usual = max(self._of_source[0], self._of_accumulation[0])
        if self.parameters is None or not self.has_right_parameters:
            return usual
        return max(usual, K_ORDER * self.worst_order * self.parameters.executed.rms)

    @property
    def _of_source(self) -> tuple[float, float]:
        """What the source's own error allows, as root mean square and as maximum."""
        return K_RMS * self.coarser * self.e_source, K_MAXIMUM * self.coarser * self.e_source_maximum

    @property
    def _of_accumulation(self) -> tuple[float, float]:
        """What accumulation alone can leave, as root mean square and as maximum."""
        bound = self.relative_bound * self.reference.rms
        return bound + self.absolute_bound, bound * expected_maximum(self.reference.n) + self.absolute_bound

    @property
    def decided_by(self) -> Criterion | None:
        """The first criterion that the output passes, else the last one that it was judged by; None without values."""
        if self.n_compared == 0:
            return None
        if not self.comparable:
            return Criterion.INTERFACE
        errors, of_source, of_accumulation = (
            (self.e_output, self.e_output_maximum), self._of_source, self._of_accumulation
        )  # fmt: skip
        if all(error <= allowed for error, allowed in zip(errors, of_source, strict=True)):
            return Criterion.SOURCE
        usual = map(max, of_source, of_accumulation)
        if self.parameters is None or all(error <= allowed for error, allowed in zip(errors, usual, strict=True)):
            return Criterion.BOUND
        return Criterion.PARAMETERS

    @property
    def e_source_maximum(self) -> float:
        """Largest error of the source, of its worst execution that counts."""
        return max((pooled.maximum for pooled in self.trusted), default=0.0)

    @property
    def e_output_maximum(self) -> float:
        """Largest error of the file, of its worse execution."""
        return max((pooled.maximum for pooled in self.candidate.values()), default=0.0)

    @property
    def allowed_maximum(self) -> float:
        """The largest single error that passes."""
        usual = max(self._of_source[1], self._of_accumulation[1])
        if self.parameters is None or not self.has_right_parameters:
            return usual
        return max(usual, K_ORDER * self.worst_order * self.parameters.executed.maximum)

    @property
    def has_right_parameters(self) -> bool:
        """Whether the parameters were judged, and every one can be the right one, rounded once."""
        if self.parameters is None:
            return False
        distance, rounding = self.parameters.distance, self.parameters.rounding
        is_right_at_large = distance.rms <= K_PARAMETERS * rounding.rms
        return is_right_at_large and distance.maximum <= K_PARAMETERS * rounding.maximum

    def is_ill_conditioned(self, u: float) -> bool:
        """Whether the source itself keeps less than half of the digits of its format, of unit roundoff `u`."""
        return self.coarser * self.e_source > math.sqrt(u) * self.reference.rms

    def verdict(self, u: float) -> OutputVerdict:
        """The public facts, errors as root mean squares; `u`: see `is_ill_conditioned`."""
        ill = self.is_ill_conditioned(u)
        return OutputVerdict(self.name, self.e_source, self.e_output, self.allowed, self.decided_by, ill)

    def failure(self) -> str | None:
        """The sentence that says why the output does not pass; None where it does."""
        if self.n_compared == 0:
            return f"output {self.name}: no value could be compared"
        by_measure = (
            ("root mean square error", self.e_output, self.allowed, self.e_source),
            ("largest error", self.e_output_maximum, self.allowed_maximum, self.e_source_maximum),
        )
        for measure, error, allowed, source in by_measure:
            if not error <= allowed:
                return (
                    f"output {self.name}: {measure} {error:.3g} against float64, allowed {allowed:.3g} "
                    f"(the source's own {source:.3g}); largest with {self.worst[1]}{self._judgement()}"
                )
        return None

    def _judgement(self) -> str:
        if len(self.trusted) < len(self.source) and not self.has_right_parameters:
            worst = max(pooled.rms for pooled in self.source.values())
            return f"; the plain export lies as far off ({worst:.3g}): it does not compute what the network does"
        if self.parameters is None:
            return ""
        if self.has_right_parameters:
            return "; its parameters are right, but it is executed with less than their precision"
        return f"; its parameters are wrong: without rounding errors still {self.parameters.distance.rms:.3g}"
