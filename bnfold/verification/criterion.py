"""When a file is as close to the float64 answer as a right one is.

For each output, over all inputs together, as root mean square and as maximum:

    E_out <= max(k E_src, bound)

(`k E_src u_file / u_source` for a file of a coarser format than its source, such as float16 from float32.)
`E_src` is the error of the source in its own precision, the largest of its executions; `E_out` that of the file, the
larger of graph optimizations off and as deployed. `k` is how much further from the answer a right file usually comes to
lie than its source, see `K_RMS`. `bound` is what roundings alone can leave:

- of the output's size, what accumulation leaves (`accumulation_error`); it counts where the source happens to be exact;
- if that is not enough, what is left of the condition of the file's own sums, K_ORDER sqrt(1 + K) times what one
  rounding of every parameter moves the output (sums of K products in the worst order), *provided* that the file's
  function, in float64, lies no further from the source's than K_PARAMETERS times that: no wrong parameter hides in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bnfold.numerics.error_bounds import PooledError, expected_maximum
from bnfold.records import OutputVerdict

if TYPE_CHECKING:
    from bnfold.verification.parameters import ParameterErrors

__all__ = ["K_MAXIMUM", "K_ORDER", "K_PARAMETERS", "K_RMS", "OutputErrors"]

# Twice the largest E_out / E_src of right folds, rounded up. `scripts/calibrate_verification.py --seeds 40` (200 folds
# of 5 small architectures; PyTorch 2.13, ONNX Runtime 1.32, x86-64): root mean square median 0.97, 99 % below 1.23,
# largest 1.27 (1.38 in a run with other seeds); maximum median 0.96, 99 % below 1.99, largest 2.12. Six timm networks
# at 224 x 224 (resnet18, resnet50, mobilenetv3_small_100): largest 1.04 and 1.37. The mildest wrong fold there, a
# dropped epsilon where the variances are about 1: 8.5 and 5.6.
K_RMS = 3.0
K_MAXIMUM = 5.0
K_PARAMETERS = 5.0
K_ORDER = 2.0


@dataclass
class OutputErrors:
    """The errors of one output, pooled over the inputs as they come.

    Args:
        name: of the output.
        relative_bound: what accumulation alone leaves, relative to the output's size; 0 for whole numbers.
        coarser: unit roundoff of the file's format over that of the source's, at least 1: rounding errors, and with
            them what the source's error says about the conditioning of the network, scale with it.
        parameters: the judgement of the file's parameters, where there was need of one.
        worst_order: sqrt(1 + K) for sums of K products at most: what a sum in order leaves over one rounding each.
    """

    name: str
    relative_bound: float
    coarser: float = 1.0
    reference: PooledError = field(default_factory=PooledError)
    source: dict[int, PooledError] = field(default_factory=dict)
    candidate: dict[str, PooledError] = field(default_factory=dict)
    worst: tuple[float, str] = (0.0, "")
    parameters: ParameterErrors | None = None
    worst_order: float = 1.0

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
    def e_source(self) -> float:
        """Root mean square error of the source, of its worst execution."""
        return max((pooled.rms for pooled in self.source.values()), default=0.0)

    @property
    def e_output(self) -> float:
        """Root mean square error of the file, of its worse execution."""
        return max((pooled.rms for pooled in self.candidate.values()), default=0.0)

    @property
    def allowed(self) -> float:
        """The largest root mean square error that passes."""
        usual = max(K_RMS * self.coarser * self.e_source, self.relative_bound * self.reference.rms)
        if self.parameters is None or not self.has_right_parameters:
            return usual
        return max(usual, K_ORDER * self.worst_order * self.parameters.rounding.rms)

    @property
    def e_source_maximum(self) -> float:
        """Largest error of the source, of its worst execution."""
        return max((pooled.maximum for pooled in self.source.values()), default=0.0)

    @property
    def e_output_maximum(self) -> float:
        """Largest error of the file, of its worse execution."""
        return max((pooled.maximum for pooled in self.candidate.values()), default=0.0)

    @property
    def allowed_maximum(self) -> float:
        """The largest single error that passes."""
        bound = self.relative_bound * self.reference.rms * expected_maximum(self.reference.n)
        usual = max(K_MAXIMUM * self.coarser * self.e_source_maximum, bound)
        if self.parameters is None or not self.has_right_parameters:
            return usual
        return max(usual, K_ORDER * self.worst_order * self.parameters.rounding.maximum)

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

    def verdict(self) -> OutputVerdict:
        """The public facts, as root mean squares."""
        return OutputVerdict(self.name, self.e_source, self.e_output, self.allowed)

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
        if self.parameters is None:
            return ""
        if self.has_right_parameters:
            return "; its parameters are right, but it is executed with less than their precision"
        return f"; its parameters are wrong: without rounding errors still {self.parameters.distance.rms:.3g}"
