"""A file and its source on the same inputs, and the errors of both."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from bnfold.errors import InputRefused
from bnfold.graph.unread import unread_inputs
from bnfold.numerics.error_bounds import accumulation_error, unit_roundoff
from bnfold.runtime.memory import give_back_memory, map_large_blocks
from bnfold.verification.answers import Answer
from bnfold.verification.criterion import OutputErrors
from bnfold.verification.file_sessions import AS_WRITTEN, DEPLOYED, FileSessions
from bnfold.verification.graph_facts import (
    accumulation_lengths,
    coarsest_format,
    logistic_error,
    logistic_outputs,
)
from bnfold.verification.kinds import Unequal, differing_names, is_finite, match_kind, matched_input
from bnfold.verification.known_rows import KnownRows, chance
from bnfold.verification.parameters import judge_parameters
from bnfold.verification.rows import SOURCE, RowsAlone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from bnfold.records import Execution, InputSpec
    from bnfold.verification.answers import Answers, Kind
    from bnfold.verification.inputs import Extent, Feed
    from bnfold.verification.reference import Reference

__all__ = ["Comparison", "NotFinite"]

log = logging.getLogger("bnfold.verification")

Arrays = dict[str, np.ndarray]


class NotFinite(InputRefused):
    """The source has no finite answer to inputs that were made up; others may be in its range."""


class Comparison:
    """A file and its source, asked one after the other, and the errors of the outputs as they accumulate."""

    def __init__(
        self, candidate: Path, reference: Reference, *, provider: Literal["cpu", "cuda"], threads: int | None
    ) -> None:
        import onnx

        map_large_blocks()
        self.reference = reference
        self.provider, self.threads = provider, threads
        self.file = FileSessions(candidate, provider=provider, threads=threads)
        self.candidate = candidate
        graph = onnx.load(candidate, load_external_data=False)
        self.stored_format = coarsest_format(graph)
        self.u = unit_roundoff(self.stored_format)
        length = max(accumulation_lengths(graph), default=1)
        self._logistic = logistic_outputs(graph)
        del graph
        give_back_memory()
        self.relative_bound = accumulation_error(length, self.u)
        self.worst_order = math.sqrt(1 + length)
        self.coarser = max(self.u / unit_roundoff(reference.stored_format), 1.0)
        self.outputs: dict[str, OutputErrors] = {}
        self.rows = RowsAlone(source_may_mix=reference.is_file)
        self._known = KnownRows()
        self._first: tuple[Feed, Arrays] | None = None

    def executions(self) -> tuple[Execution, ...]:
        """Where the nodes of each session run, and with which arithmetic."""
        return self.file.executions()

    @property
    def providers(self) -> tuple[str, ...]:
        """That the file runs on, as deployed."""
        return self.file.providers

    @property
    def declared_axes(self) -> dict[str, tuple[int | str | None, ...]]:
        """The axes of the file's inputs: numbers where they are fixed, names or None where they are dynamic."""
        return {name: value.shape for name, value in self.file.inputs.items()}

    def match_inputs(self, inputs: Sequence[InputSpec]) -> list[InputSpec]:
        """The inputs as the file declares them, where that does not contradict the source.

        The file may do without inputs that no output of the source depends on: they vary, and its answer may not.
        """
        found, expected = self.file.inputs, [spec.name for spec in inputs]
        missing = {name for name in expected if name not in found}
        plain = self.reference.plain if missing else None
        if set(found) - set(expected) or (missing and (plain is None or not missing <= set(unread_inputs(plain)))):
            raise Unequal(differing_names("inputs", list(found), expected))
        return [spec if spec.name in missing else matched_input(spec, found[spec.name]) for spec in inputs]

    def match_outputs(self) -> None:
        expected = list(self.reference.output_names)
        if list(self.file.outputs) != expected:
            raise Unequal(differing_names("outputs", list(self.file.outputs), expected))
        for name, declared in self.file.outputs.items():
            if not declared.type.startswith("tensor(") or declared.type == "tensor(string)":
                raise InputRefused(
                    "an output is no tensor of numbers, and others cannot be compared",
                    where=f"output {name}",
                    found=declared.type,
                    remedy="take it off the outputs of the graph",
                )

    def ask_source(self, feed: Feed, answers: Answers, *, extent: Extent = "all") -> None:
        """Add the source's answer to a feed, and pool its own errors.

        Where few inputs decide, one execution of the source counts, and rows that are known are not asked again. Its
        error is the largest of fewer then, so that no file passes for it; one that fails is compared on all.

        Args:
            feed: the inputs.
            answers: to add to.
            extent: of the feeds.

        Raises:
            InputRefused: the source has no answer, or another one each time.
        """
        exact, *executions = self._asked(feed) if extent == "all" else self._asked_by_row(feed)
        for name in self.reference.output_names:
            _refuse_other_shapes(name, exact[name], [execution[name] for execution in executions])
        answer = Answer.of(exact, executions)
        for name in self.reference.output_names:
            if name not in self.outputs:
                is_float = answer.kinds[name].dtype.kind not in "iub"
                self.outputs[name] = OutputErrors(name, self.relative_bound if is_float else 0.0, self.coarser)
                self.outputs[name].absolute_bound = logistic_error(self.u) if name in self._logistic else 0.0
            self._add_source(feed, name, answer, [execution[name] for execution in executions])
        self.rows.add(SOURCE, feed, exact)
        answers.add(answer)
        give_back_memory()

    def _asked(self, feed: Feed) -> list[Arrays]:
        exact = self.reference.evaluate64(feed.arrays)
        if not self.outputs:
            self._refuse_chance(exact, feed)
        return [exact, *self.reference.executions32(feed.arrays)]

    def _asked_by_row(self, feed: Feed) -> list[Arrays]:
        known = self._known.answers(feed)
        if known is not None:
            return known
        found = [self.reference.evaluate64(feed.arrays), self.reference.execution32(feed.arrays)]
        if not self._known.learn(feed, found):
            self._refuse_chance(found[0], feed)
        self._first = self._first or (feed, found[0])
        return found

    def end_source(self) -> None:
        """Ask a network once again that has been asked for no row twice; a file holds no chance that it could hide.

        Raises:
            InputRefused: it has another answer.
        """
        if self._first is not None and not self._known.is_held and not self.reference.is_file:
            self._refuse_chance(self._first[1], self._first[0])
        self._first = None

    def ask_file(self, feeds: Callable[[], Iterable[Feed]], answers: Answers) -> None:
        """The file on every feed that the source has answered; differences of kind end the comparison.

        Args:
            feeds: makes them again, once for each way of executing the file.
            answers: in the order of the feeds.

        Raises:
            Unequal: dtypes or shapes differ, values are not finite, or the file does not run.
        """
        for label in (AS_WRITTEN, DEPLOYED):
            for (feed, got), answer in zip(self.file.run(label, feeds()), answers, strict=True):
                for name in self.reference.output_names:
                    self._match_kind(name, got[name], answer.kinds[name], f"{feed}, {label}")
                    error = answer.agreed_values(name, _difference(got[name], answer.exact[name]))
                    self.outputs[name].add_candidate(label, error, str(feed))
                self.rows.add(f"the file ({label})", feed, got)

    def _match_kind(self, name: str, got: np.ndarray, kind: Kind, where: str) -> None:
        try:
            match_kind(name, got, kind, where)
        except Unequal:
            self.outputs[name].comparable = False
            raise

    def _refuse_chance(self, first: Arrays, feed: Feed) -> None:
        """A source that gives other values when run again has no answer to compare with."""
        again = self.reference.evaluate64(feed.arrays)
        for name, values in first.items():
            if difference := chance(values, again[name]):
                raise InputRefused(
                    "the source gives other values when it is run again",
                    where=f"output {name}",
                    found=f"a difference of {difference:.3g} on the same input",
                    remedy="take randomness and counters out of forward, and call eval() on every layer",
                )

    def _add_source(self, feed: Feed, name: str, answer: Answer, executions: list[np.ndarray]) -> None:
        exact = answer.exact[name]
        if not (is_finite(exact) and all(is_finite(execution) for execution in executions)):
            raise NotFinite(
                "the source itself gives NaN or infinity, so that nothing can be compared",
                where=f"output {name}",
                found=f"non-finite values on {feed}",
                remedy="check its parameters and the range of its inputs",
            )
        errors = self.outputs[name]
        errors.reference.add(exact)
        for number, execution in enumerate(executions):
            errors.add_source(number, answer.agreed_values(name, _difference(execution, exact)))

    def judge_parameters(self, feeds: Iterable[Feed], answers: Iterable[Answer] = (), *, seed: int) -> None:
        """Tell a right file that float32 treats badly from a wrong one; see `bnfold.verification.parameters`.

        Files of float64 are left to the first criterion: the reference has no digits beyond theirs.
        """
        from bnfold.sources.external_data import load_with_data

        if self.u <= unit_roundoff("float64"):
            return
        try:
            known = (answer.exact for answer in answers)
            judged = judge_parameters(
                load_with_data(self.candidate), self.reference, feeds, u=self.u, seed=seed, known=known
            )
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

    def warnings(self) -> tuple[str, ...]:
        """What is odd in the source and no fault of the file."""
        found = (self.rows.warning(errors) for errors in self.outputs.values())
        return tuple(sentence for sentence in found if sentence is not None)


def _refuse_other_shapes(name: str, exact: np.ndarray, executions: Sequence[np.ndarray]) -> None:
    for execution in executions:
        if execution.shape != exact.shape:
            raise InputRefused(
                "the source has another shape in float64 than in its own precision",
                where=f"output {name}",
                found=f"{exact.shape} and {execution.shape}",
                remedy="export it with another opset, or without the operator that its executions read in two ways",
            )


def _difference(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return got.astype(np.float64) - exact.astype(np.float64)
