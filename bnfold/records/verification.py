"""Whether a file computes the same function as its source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from enum import StrEnum

from bnfold.records.certificate import CertificateFacts
from bnfold.shown import Shown

__all__ = ["Coverage", "Criterion", "Departure", "Execution", "OutputVerdict", "Verdict"]


class Criterion(StrEnum):
    """What decides whether a file is equal to its source; of what passes, the later one is the further from certain.

    Attributes:
        SOURCE: the error of the file against that of the source.
        BOUND: what accumulation alone can leave, where the source happens to be closer to the answer.
        PARAMETERS: in float64 every parameter is judged, since rounding takes the outputs further than both.
        BATCH_INVARIANCE: a sample depends on the others in its batch.
        INTERFACE: names, types, shapes, values that are not finite, or a file that does not run.
        CERTIFICATE: on inputs all is well, but an operator of the file is not what the certificate says.
    """

    SOURCE = "source"
    BOUND = "bound"
    PARAMETERS = "parameters"
    BATCH_INVARIANCE = "batch_invariance"
    INTERFACE = "interface"
    CERTIFICATE = "certificate"


@dataclasses.dataclass(frozen=True)
class OutputVerdict:
    """Errors of one output against float64: root mean square relative to nothing, in the output's own units.

    `e_output` is NaN (null in JSON) where the file gave nothing to compare: another type or shape, NaN, infinity.
    `decided_by` is the criterion that it passes or fails, None where nothing was compared. `ill_conditioned`: the
    source itself keeps less than half of its digits.
    """

    name: str
    e_source: float
    e_output: float
    allowed: float
    decided_by: Criterion | None = None
    ill_conditioned: bool = False


@dataclasses.dataclass(frozen=True)
class Departure:
    """The first layer of a file that computes something else than its source.

    `layer` is its name in the user's model; `operator` and `value` are the file's node and what it writes. Errors are
    root mean squares in float64, relative to the value's size: of the value, and the largest of its inputs'.
    `source_layers` are the layers of the source that it stands for, `reproduction` the folder that shows it.
    """

    layer: str
    operator: str
    value: str
    error: float
    inputs_error: float
    compared_with: str
    source_layers: tuple[str, ...] = ()
    reproduction: str | None = None

    def sentence(self) -> str:
        """One clause for a message."""
        size = f"error {self.error:.2g} of its size" if math.isfinite(self.error) else "not comparable at all"
        return (
            f"it first diverges in layer {self.layer} ({self.operator}, value {self.value}): {size}, its inputs' "
            f"{self.inputs_error:.2g}, against {self.compared_with}"
        )


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Channels behind activations, and how many of them gave one and the same value for every input, by layer."""

    channels: int
    never_active: int
    layers: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Execution:
    """How one session ran the file.

    `optimizations` is "off" or "all". `nodes` counts the nodes by the provider they were given to, None where this
    ONNX Runtime does not tell. `tf32` says whether CUDA may round to TF32, None on other providers.
    """

    optimizations: str
    nodes: Mapping[str, int] | None
    tf32: bool | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Verdict(Shown):
    """The result of the comparison; true when it passed. `failure` is the sentence that says why it did not.

    `decided_by` is the criterion that the file failed, or of those that its outputs passed the last one.
    `ill_conditioned` says that the source keeps less than half of its digits in an output, `judged_as` names the format
    of the file's parameters where it is a coarser one than the source's.
    `departure` is where it went wrong, None where it passed or could not be localised. `sizes` holds the shapes of a
    row that each input was compared at, `dims` those of the source's dynamic axes by name, `batch_dim` the name of the
    axis that counts the samples, `values` the range of inputs where it is not that of standard normal numbers.
    `coverage` is None where it is not known. `certificate` is what proves the file operator by operator, whatever the
    inputs reach; None where there is none, and the file is verified on inputs only. `unproven` names
    the operator of a fresh fold that cannot be proven, which fails the file. `quick` says that besides it one
    input was compared, as asked for.
    """

    passed: bool
    n_compared: int
    providers: tuple[str, ...]
    batches: tuple[int, ...]
    outputs: tuple[OutputVerdict, ...]
    reference: str
    failure: str | None = None
    decided_by: Criterion | None = None
    ill_conditioned: bool = False
    judged_as: str | None = None
    departure: Departure | None = None
    sizes: Mapping[str, tuple[tuple[int, ...], ...]] = dataclasses.field(default_factory=dict)
    coverage: Coverage | None = None
    certificate: CertificateFacts | None = None
    unproven: str | None = None
    executions: tuple[Execution, ...] = ()
    warnings: tuple[str, ...] = ()
    dims: Mapping[str, int] = dataclasses.field(default_factory=dict)
    batch_dim: str | None = None
    values: Mapping[str, str] = dataclasses.field(default_factory=dict)
    quick: bool = False

    def in_a_line(self) -> str:
        """Whether it passed, on how many values, or why it did not."""
        verdict = "passed" if self.passed else f"failed, {self.failure}"
        return f"{self.n_compared:,} values on {', '.join(self.providers)}: {verdict}"

    def __bool__(self) -> bool:
        return self.passed
