"""The comparison of a file with its reference."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import accumulation_error, unit_roundoff
from bnfold.records import InputSpec, Verdict
from bnfold.verification.criterion import OutputErrors
from bnfold.verification.graph_facts import accumulation_lengths, coarsest_format
from bnfold.verification.inputs import Feed, make_feeds
from bnfold.verification.rows import RowsAlone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bnfold.verification.reference import Reference

__all__ = ["Comparison", "compare", "verify_file"]

DEPLOYED, AS_WRITTEN = "graph optimizations as deployed", "graph optimizations off"
log = logging.getLogger("bnfold.verification")

Arrays = dict[str, np.ndarray]


class _Unequal(Exception):  # noqa: N818 - not an error of the program: it carries the verdict's sentence
    """The file differs in a way that needs no measure."""


def verify_file(
    candidate: Path,
    reference: Reference,
    *,
    inputs: tuple[InputSpec, ...],
    samples: Mapping[str, np.ndarray] | None = None,
    batches: Sequence[int] = (1, 2, 3),
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare an `.onnx` file with its reference, in ONNX Runtime, with graph optimizations off and as deployed.

    Names, dtypes, shapes and finiteness come before values; values are judged by `bnfold.verification.criterion`.
    Outputs of whole numbers or booleans must be equal wherever the source's own executions agree with float64 (they
    need not where two scores tie). Row 0 alone must equal row 0 of a batch.

    Args:
        candidate: the file.
        reference: see `reference_for`.
        inputs: of the source, in order; an axis that the file fixes is taken from the file.
        samples: real inputs by name, rows first; None takes random ones.
        batches: sizes to compare at, where the batch is dynamic.
        provider: the ONNX Runtime provider that the file runs on.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the random inputs.

    Raises:
        InputRefused: the file does not load, the inputs cannot be made, or the source has no finite answer.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    comparison = Comparison(candidate, reference, provider=provider, threads=threads)
    failure: str | None = None
    used: list[int] = []
    try:
        used = compare(comparison, inputs, samples=samples, batches=batches, seed=seed)
        failure = comparison.failure()
    except _Unequal as unequal:
        failure = str(unequal)
    return Verdict(
        passed=failure is None,
        n_compared=sum(errors.n_compared for errors in comparison.outputs.values()),
        providers=comparison.providers,
        batches=tuple(used),
        outputs=tuple(errors.verdict() for errors in comparison.outputs.values()),
        reference=comparison.describe_reference(),
        failure=failure,
    )


def compare(
    comparison: Comparison,
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    batches: Sequence[int],
    seed: int,
) -> list[int]:
    """Feed both sides; the batches used come back, the errors are in `comparison.outputs`."""
    shaped = comparison.match_inputs(inputs)
    comparison.match_outputs()
    dynamic = all(spec.batch_dynamic for spec in shaped if spec.shape)
    used = sorted(set(batches)) if dynamic else _fixed_batch(shaped)
    for feed in make_feeds(shaped, samples=samples, facts=comparison.reference.input_facts, batches=used, seed=seed):
        log.debug("comparing on %s", feed)
        comparison.run(feed)
    return used


def _fixed_batch(inputs: Sequence[InputSpec]) -> list[int]:
    """The batch that the file fixes; inputs without a batch do not count."""
    sizes = {spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None}
    return [max(sizes, default=1)]


class Comparison:
    """The file's two sessions, and the errors of its outputs as they accumulate."""

    def __init__(
        self, candidate: Path, reference: Reference, *, provider: Literal["cpu", "cuda"], threads: int | None
    ) -> None:
        import onnx

        from bnfold.runtime import open_session

        self.reference = reference
        self.sessions = {
            name: open_session(candidate, provider=provider, threads=threads, optimized=name == DEPLOYED)
            for name in (AS_WRITTEN, DEPLOYED)
        }
        session = self.sessions[DEPLOYED]
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self._declared_inputs = {value.name: value for value in session.get_inputs()}
        self._declared_outputs = [value.name for value in session.get_outputs()]
        graph = onnx.load(candidate, load_external_data=False)
        self.stored_format = coarsest_format(graph)
        self.u = unit_roundoff(self.stored_format)
        self.relative_bound = accumulation_error(max(accumulation_lengths(graph), default=1), self.u)
        self.coarser = max(self.u / unit_roundoff(reference.stored_format), 1.0)
        self.outputs: dict[str, OutputErrors] = {}
        self.rows = RowsAlone()

    def match_inputs(self, inputs: Sequence[InputSpec]) -> list[InputSpec]:
        """The inputs as the file declares them, where that does not contradict the source."""
        expected = [spec.name for spec in inputs]
        if sorted(self._declared_inputs) != sorted(expected):
            raise _Unequal(_differ("inputs", list(self._declared_inputs), expected))
        return [_matched(spec, self._declared_inputs[spec.name]) for spec in inputs]

    def match_outputs(self) -> None:
        expected = list(self.reference.output_names)
        if self._declared_outputs != expected:
            raise _Unequal(_differ("outputs", self._declared_outputs, expected))

    def run(self, feed: Feed) -> None:
        """Both sides on one feed; errors are pooled, differences of kind end the comparison."""
        exact = self.reference.evaluate64(feed.arrays)
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
                _match_kind(name, got[name], native[name], where)
                agreed = _agreed(exact[name], [execution[name] for execution in executions])
                self.outputs[name].add_candidate(label, _difference(got[name], exact[name])[agreed], str(feed))
            self.rows.add(f"the file ({label})", feed, got)

    def _add_source(self, feed: Feed, name: str, exact: np.ndarray, executions: list[np.ndarray]) -> None:
        if not (_is_finite(exact) and all(_is_finite(execution) for execution in executions)):
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
        if self.coarser > 1:
            text += f"; the file stores {self.stored_format} and is judged by that format"
        if weak:
            text += f"; ill-conditioned: the source keeps less than half of its digits in {', '.join(weak)}"
        return text


def _run(session: Any, feed: Feed, label: str) -> list[Any]:
    try:
        outputs: list[Any] = session.run(None, dict(feed.arrays))
    except Exception as error:
        raise _Unequal(f"the file does not run on {feed} ({label}): {' '.join(str(error).split())}") from error
    return outputs


def _matched(spec: InputSpec, declared: Any) -> InputSpec:
    """The source's input with the axes that the file fixes.

    `declared` is an onnxruntime NodeArg: `shape` holds numbers, and names or None on dynamic axes.
    """
    dtype = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16"}
    found = declared.type.removeprefix("tensor(").removesuffix(")")
    found = dtype.get(found, found)
    if found != spec.dtype:
        raise _Unequal(f"input {spec.name}: dtype {found}, expected {spec.dtype}")
    if len(declared.shape) != len(spec.shape):
        raise _Unequal(f"input {spec.name}: {len(declared.shape)} axes, expected {len(spec.shape)}")
    shape = []
    for ours, theirs in zip(spec.shape, declared.shape, strict=True):
        fixed = theirs if isinstance(theirs, int) else None
        if ours is not None and fixed is not None and ours != fixed:
            raise _Unequal(f"input {spec.name}: shape {declared.shape}, expected {list(spec.shape)}")
        shape.append(ours if fixed is None else fixed)
    return InputSpec(spec.name, tuple(shape), spec.dtype)


def _differ(what: str, found: list[str], expected: list[str]) -> str:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [f"not in the source: {', '.join(extra)}"] if extra else []
    return f"the file's {what} differ: {'; '.join(parts) or 'another order'} (found {found}, expected {expected})"


def _match_kind(name: str, got: Any, native: np.ndarray, where: str) -> None:
    """Dtype, shape and finiteness of one output."""
    if not isinstance(got, np.ndarray):
        raise _Unequal(f"output {name}: {type(got).__name__}, expected a tensor ({where})")
    if got.dtype != native.dtype:
        raise _Unequal(f"output {name}: dtype {got.dtype}, expected {native.dtype} ({where})")
    if got.shape != native.shape:
        raise _Unequal(f"output {name}: shape {got.shape}, expected {native.shape} ({where})")
    if not _is_finite(got):
        n_bad = int(got.size - np.count_nonzero(np.isfinite(got)))
        raise _Unequal(f"output {name}: {n_bad} of {got.size} values are NaN or infinite ({where})")


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub" or bool(np.isfinite(array).all())


def _difference(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return got.astype(np.float64) - exact.astype(np.float64)


def _agreed(exact: np.ndarray, executions: list[np.ndarray]) -> np.ndarray:
    """Where whole numbers and booleans are compared; everywhere for floating point."""
    if exact.dtype.kind not in "iub":
        return np.ones(exact.shape, dtype=bool)
    agreed: np.ndarray = np.logical_and.reduce([execution == exact for execution in executions])
    return agreed
