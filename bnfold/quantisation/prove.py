"""The proof of a quantised file: three checks that know nothing of each other.

1. ONNX Runtime's integers, at the level at which the file is deployed, against our own simulation, operator by
   operator: each is given the integers that ONNX Runtime gave to it, so that a difference is the operator's own.
2. ONNX Runtime's optimized graph, read: layers called int8 are integer kernels, those called float are none.
3. Every scale, zero point, integer weight and bias derived again from the folded weights in float64 and the recipe.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np
import onnx

from bnfold.derivation.integers import Derivation
from bnfold.quantisation.kernels import allow_signed, executed_nodes, kernel_counts, wrong_kernels
from bnfold.quantisation.simulate import Simulation
from bnfold.records.quantisation import ProofFacts
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from bnfold.records.certificate import Exact
    from bnfold.records.recipes import Recipe

__all__ = ["MOST_OFF_BY_ONE", "Compared", "Proof", "compare_with_simulation", "prove"]

LEVELS = 255
MOST_OFF_BY_ONE = 1e-3
"""The share of an operator's integers that may differ by one step. Kernels of sums of products agree in all of them; a
sum of two scaled numbers in float32 lands on the other side of a half where it lies within 2^-16 steps of it, of which
there are 2^-15 where they are spread evenly, a third of this."""
_FEW = 4  # of a small tensor, whatever the share


@dataclasses.dataclass
class Compared:
    """ONNX Runtime against the simulation.

    Attributes:
        n: integers compared.
        n_off_by_one: that differ by one step.
        steps: the largest difference.
        failures: a sentence for each operator that differs by more, in graph order.
    """

    n: int = 0
    n_off_by_one: int = 0
    steps: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Proof:
    """The outcome; `failures` is empty where the file is right, `unknown` names float nodes without a simulation."""

    facts: ProofFacts
    steps: int
    failures: tuple[str, ...]
    unknown: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return not self.failures


def prove(
    file: Path,
    folded: onnx.ModelProto,
    recipe: Recipe,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    digits: Mapping[str, Exact] | None = None,
    threads: int | None = None,
) -> Proof:
    """Run the three checks.

    Args:
        file: the quantised file.
        folded: the float graph that it was made from.
        recipe: what it was made with.
        feeds: inputs to compare on.
        digits: float64 digits of the float graph's parameters by name, from the certificate of the fold.
        threads: of one operator.
    """
    model = onnx.load(file)
    derivation = Derivation(folded, model, recipe, digits)
    signed = recipe.activations == "s8"
    nodes = executed_nodes(file, signed=signed, threads=threads)
    simulation = Simulation(model)
    compared = compare_with_simulation(file, simulation, feeds, signed=signed, threads=threads)
    failures = (*derivation.differences, *wrong_kernels(nodes, recipe), *compared.failures)
    facts = ProofFacts(compared.n, compared.n_off_by_one, derivation.n_parameters, kernel_counts(nodes))
    return Proof(facts, compared.steps, failures, simulation.unknown)


def compare_with_simulation(
    file: Path,
    simulation: Simulation,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    signed: bool = False,
    threads: int | None = None,
) -> Compared:
    """Compare every tensor of integers, and the outputs of the file as it is deployed.

    Args:
        file: the quantised file.
        simulation: of it.
        feeds: inputs to compare on.
        signed: whether activations are s8, see `allow_signed`.
        threads: of one operator.
    """
    configure = allow_signed if signed else None
    exposed = onnx.load(file)
    exposed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), None)
        for name, dtype in simulation.stored.items()
    )
    deployed = open_session(file, threads=threads, configure=configure)
    inside = open_session(exposed.SerializeToString(deterministic=True), threads=threads, configure=configure)
    names = [value.name for value in inside.get_outputs()]
    outputs = [value.name for value in deployed.get_outputs()]
    found = Compared()
    for feed in feeds:
        given = dict(zip(names, inside.run(names, dict(feed)), strict=True))
        given |= dict(zip(outputs, deployed.run(outputs, dict(feed)), strict=True))
        simulation.run(feed, functools.partial(_compare, found, given))
    return found


def _compare(found: Compared, given: Mapping[str, np.ndarray], node: str, name: str, own: np.ndarray) -> np.ndarray:
    """Note the difference in steps, and go on with what the runtime gave."""
    runtime = given[name]
    if own.shape != runtime.shape:
        found.failures.append(f"{node}: ONNX Runtime writes {runtime.shape}, the simulation {own.shape}, into {name}")
        return runtime
    steps = _steps(own, runtime)
    largest, off = int(steps.max(initial=0)), int((steps == 1).sum())
    found.n += steps.size
    found.n_off_by_one += off
    found.steps = max(found.steps, largest)
    if largest > 1 or off > max(_FEW, MOST_OFF_BY_ONE * steps.size):
        found.failures.append(
            f"{node}: {int((steps > 0).sum())} of {steps.size} values of {name} differ from the simulation, by up to "
            f"{largest} steps"
        )
    return runtime


def _steps(own: np.ndarray, runtime: np.ndarray) -> np.ndarray:
    """Differences in whole steps; a float output has the step that it would have in 8 bits."""
    if runtime.dtype.kind in "iub":
        return np.asarray(np.abs(own.astype(np.int64) - runtime.astype(np.int64)))
    span = float(runtime.max(initial=0.0)) - float(runtime.min(initial=0.0))
    if not np.isfinite(span):
        return np.asarray(np.where(np.isfinite(runtime), 0, LEVELS), np.int64)
    return np.asarray(np.floor(np.abs(own - runtime) / (span / LEVELS if span else 1.0)), np.int64)
