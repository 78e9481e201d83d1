"""A file and its source on the same inputs, and the errors of both."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import accumulation_error, unit_roundoff
from bnfold.records import Execution
from bnfold.verification.criterion import OutputErrors
from bnfold.verification.graph_facts import accumulation_lengths, coarsest_format
from bnfold.verification.kinds import Unequal, differing_names, is_finite, match_kind, matched_input
from bnfold.verification.parameters import judge_parameters
from bnfold.verification.plain_session import without_arena
from bnfold.verification.rows import RowsAlone

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bnfold.records import InputSpec
    from bnfold.verification.inputs import Feed
    from bnfold.verification.reference import Reference

__all__ = ["AS_WRITTEN", "DEPLOYED", "Comparison"]

DEPLOYED, AS_WRITTEN = "graph optimizations as deployed", "graph optimizations off"
OPTIMIZATIONS = {AS_WRITTEN: "off", DEPLOYED: "all"}
log = logging.getLogger("bnfold.verification")

Arrays = dict[str, np.ndarray]


class Comparison:
    """The file's two sessions, and the errors of its outputs as they accumulate."""

    def __init__(
        self, candidate: Path, reference: Reference, *, provider: Literal["cpu", "cuda"], threads: int | None
    ) -> None:
        import onnx

        from bnfold.runtime import open_session

        self.reference = reference
        self.provider, self.threads = provider, threads
        self.sessions = {
            name: open_session(
                candidate, provider=provider, threads=threads, optimized=name == DEPLOYED, configure=_configure
            )
            for name in (AS_WRITTEN, DEPLOYED)
        }
        session = self.sessions[DEPLOYED]
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._declared_inputs = {value.name: value for value in session.get_inputs()}
        self._declared_outputs = [value.name for value in session.get_outputs()]
        self.candidate = candidate
        graph = onnx.load(candidate, load_external_data=False)
        self.stored_format = coarsest_format(graph)
        self.u = unit_roundoff(self.stored_format)
        length = max(accumulation_lengths(graph), default=1)
        self.relative_bound = accumulation_error(length, self.u)
        self.worst_order = math.sqrt(1 + length)
        self.coarser = max(self.u / unit_roundoff(reference.stored_format), 1.0)
        self.outputs: dict[str, OutputErrors] = {}
        self.rows = RowsAlone()

    def executions(self) -> tuple[Execution, ...]:
        """Where the nodes of each session run, and with which arithmetic."""
        from bnfold.runtime.placement import node_counts, rounds_to_tf32

        return tuple(
            Execution(OPTIMIZATIONS[name], node_counts(session), rounds_to_tf32(session))
            for name, session in self.sessions.items()
        )

    @property
    def declared_axes(self) -> dict[str, tuple[int | str | None, ...]]:
        """The axes of the file's inputs: numbers where they are fixed, names or None where they are dynamic."""
        return {name: tuple(value.shape) for name, value in self._declared_inputs.items()}

    def match_inputs(self, inputs: Sequence[InputSpec]) -> list[InputSpec]:
        """The inputs as the file declares them, where that does not contradict the source."""
        expected = [spec.name for spec in inputs]
        if sorted(self._declared_inputs) != sorted(expected):
            raise Unequal(differing_names("inputs", list(self._declared_inputs), expected))
        return [matched_input(spec, self._declared_inputs[spec.name]) for spec in inputs]

    def match_outputs(self) -> None:
        expected = list(self.reference.output_names)
        if self._declared_outputs != expected:
            raise Unequal(differing_names("outputs", self._declared_outputs, expected))

    def run(self, feed: Feed) -> None:
        """Both sides on one feed; errors are pooled, differences of kind end the comparison."""
        exact = self.reference.evaluate64(feed.arrays)
        if not self.outputs:
            self._refuse_chance(exact, self.reference.evaluate64(feed.arrays))
        executions = self.reference.executions32(feed.arrays)
        native = executions[-1]
        for name in self.reference.output_names:
            if name not in self.outputs:
                is_float = native[name].dtype.kind not in "iub"
                self.outputs[name] = OutputErrors(name, self.relative_bound if is_float else 0.0, self.coarser)
            self._add_source(feed, name, exact[name], [execution[name] for execution in executions])
        self.rows.add("the source in float64", feed, exact)
        for label, session in self.sessions.items():
            got = dict(zip(self._declared_outputs, _run(session, feed, label), strict=True))
            for name in self.reference.output_names:
                where = f"{feed}, {label}"
                match_kind(name, got[name], native[name], where)
                agreed = _agreed(exact[name], [execution[name] for execution in executions])
                self.outputs[name].add_candidate(label, _difference(got[name], exact[name])[agreed], str(feed))
            self.rows.add(f"the file ({label})", feed, got)

    def _refuse_chance(self, first: Arrays, again: Arrays) -> None:
        """A source that gives other values when run again has no answer to compare with.

        What is left of float64 after rounding errors of any size still has half of its digits.
        """
        for name, values in first.items():
            if not is_finite(values):
                continue
            size = np.sqrt(np.mean(np.square(values.astype(np.float64)))) if values.size else 0.0
            difference = np.abs(_difference(again[name], values)).max(initial=0.0)
            if difference > math.sqrt(unit_roundoff("float64")) * size:
                raise InputRefused(
                    "the source gives other values when it is run again",
                    where=f"output {name}",
                    found=f"a difference of {difference:.3g} on the same input",
                    remedy="take randomness and counters out of forward, and call eval() on every layer",
                )

    def _add_source(self, feed: Feed, name: str, exact: np.ndarray, executions: list[np.ndarray]) -> None:
        if not (is_finite(exact) and all(is_finite(execution) for execution in executions)):
            raise InputRefused(
                "the source itself gives NaN or infinity, so that nothing can be compared",
                where=f"output {name}",
                found=f"non-finite values on {feed}",
                remedy="check its parameters and the range of its inputs",
            )
        errors = self.outputs[name]
        errors.reference.add(exact)
        agreed = _agreed(exact, executions)
        for number, execution in enumerate(executions):
            errors.add_source(number, _difference(execution, exact)[agreed])

    def judge_parameters(self, feeds: Iterable[Feed], *, seed: int) -> None:
        """Tell a right file that float32 treats badly from a wrong one; see `bnfold.verification.parameters`.

        Files of float64 are left to the first criterion: the reference has no digits beyond theirs.
        """
        import onnx

        if self.u <= unit_roundoff("float64"):
            return
        try:
            judged = judge_parameters(onnx.load(self.candidate), self.reference, feeds, u=self.u, seed=seed)
        except InputRefused as refused:
            log.warning("the parameters of the file cannot be judged: %s", refused)
            return
        for name, errors in judged.items():
            self.outputs[name].parameters = errors
            self.outputs[name].worst_order = self.worst_order

    def failure(self) -> str | None:
        """The first output that does not pass, or a row that depends on the others; None where all is well."""
        for errors in self.outputs.values():
            sentence = errors.failure() or self.rows.failure(errors)
            if sentence is not None:
                return sentence
        return None if self.outputs else "nothing was compared: the source has no outputs"

    def describe_reference(self) -> str:
        """Who computed the float64 values, and which outputs are ill-conditioned."""
        weak = [name for name, errors in self.outputs.items() if errors.is_ill_conditioned(self.u)]
        text = self.reference.description
        lossy = [
            f"{errors.name} lies {errors.e_output / errors.e_source:.1f} times as far from float64 as the source's"
            for errors in self.outputs.values()
            if errors.has_right_parameters and errors.e_source > 0
        ]
        if self.coarser > 1:
            text += f"; the file stores {self.stored_format} and is judged by that format"
        if weak:
            text += f"; ill-conditioned: the source keeps less than half of its digits in {', '.join(weak)}"
        if lossy:
            text += f"; {', '.join(lossy)}, by rounding alone: every parameter is the right one, rounded once"
        return text


def _configure(options: Any) -> None:
    from bnfold.runtime.placement import record_placement

    record_placement(options)
    without_arena(options)


def _run(session: Any, feed: Feed, label: str) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, dict(feed.arrays))
    except Exception as error:
        raise Unequal(f"the file does not run on {feed} ({label}): {' '.join(str(error).split())}") from error
    return outputs


def _difference(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return got.astype(np.float64) - exact.astype(np.float64)


def _agreed(exact: np.ndarray, executions: list[np.ndarray]) -> np.ndarray:
    """Where whole numbers and booleans are compared; everywhere for floating point."""
    if exact.dtype.kind not in "iub":
        return np.ones(exact.shape, dtype=bool)
    agreed: np.ndarray = np.logical_and.reduce([execution == exact for execution in executions])
    return agreed
