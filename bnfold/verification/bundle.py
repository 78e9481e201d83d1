"""Golden values: what a file is to compute, written where the source is, and judged where only the file is.

A folder of three files. `inputs.npz` holds the inputs as `feed/name`, feeds counted from 0; `outputs.npz` the source in
float64 as `feed/name/exact` and its own executions as `feed/name/0`, `feed/name/1`; `bundle.json` (schema
`bnfold.golden/1`) the names, types, errors allowed, the constants of the criterion, and the digests of the arrays. A
file is judged by the criterion of `bnfold.verification`, with neither PyTorch nor the source.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnfold.records import InputSpec, Verdict, as_json
from bnfold.verification import criterion
from bnfold.verification.answers import Answers
from bnfold.verification.bundle_files import open_bundle, read_arrays
from bnfold.verification.comparison import Comparison
from bnfold.verification.inputs import Feed, make_feeds
from bnfold.verification.judgement import judgement
from bnfold.verification.kinds import Unequal
from bnfold.verification.ranges import as_compared

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bnfold.records import FoldExportReport
    from bnfold.verification.reference import Reference

__all__ = ["SCHEMA", "GoldenReference", "verify_bundle", "write_bundle"]

SCHEMA = "bnfold.golden/1"
CONSTANTS = ("K_RMS", "K_MAXIMUM", "K_PARAMETERS", "K_ORDER")
INPUT_FIELDS = ("name", "shape", "dtype", "batch_axis")
Arrays = dict[str, np.ndarray]


def write_bundle(
    folder: Path,
    reference: Reference,
    report: FoldExportReport,
    *,
    inputs: Sequence[InputSpec],
    samples: Mapping[str, np.ndarray] | None,
    seed: int,
) -> None:
    """Write the golden values of a file that has passed.

    Args:
        folder: does not exist yet.
        reference: the source.
        report: on the file; the batches it was compared at are those of the bundle.
        inputs: of the source, in order.
        samples: real inputs by name, rows first; None takes random ones.
        seed: of the random inputs.
    """
    folder.mkdir()
    inputs = as_compared(inputs, report.verify.values)
    stored: Arrays = {}
    golden: Arrays = {}
    dtypes: dict[str, str] = {}
    facts = dict(reference.input_facts)
    feeds = list(make_feeds(inputs, samples=samples, facts=facts, batches=report.verify.batches, seed=seed))
    for number, feed in enumerate(feeds):
        stored |= {f"{number}/{name}": array for name, array in feed.arrays.items()}
        golden |= {f"{number}/{name}/exact": array for name, array in reference.evaluate64(feed.arrays).items()}
        for k, execution in enumerate(reference.executions32(feed.arrays)):
            golden |= {f"{number}/{name}/{k}": array for name, array in execution.items()}
            dtypes = {name: array.dtype.name for name, array in execution.items()}
    np.savez_compressed(folder / "inputs.npz", **stored)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
    np.savez_compressed(folder / "outputs.npz", **golden)  # type: ignore[arg-type]
    shapes = {
        name: _varying([golden[f"{number}/{name}/exact"].shape for number in range(len(feeds))])
        for name in reference.output_names
    }
    facts_of_outputs = {facts.name: facts for facts in report.verify.outputs}
    account = {
        "schema": SCHEMA,
        "source": report.source,
        "model": report.output,
        "facts": report.facts,
        "reference": reference.description,
        "stored_format": reference.stored_format,
        "inputs": [{name: getattr(spec, name) for name in INPUT_FIELDS} for spec in inputs],
        "outputs": [
            {"name": name, "dtype": dtypes[name], "shape": shapes[name]}
            | {"e_source": facts_of_outputs[name].e_source, "allowed": facts_of_outputs[name].allowed}
            for name in reference.output_names
        ],
        "feeds": [{"kind": feed.kind, "batch": feed.batch, "rows": feed.rows} for feed in feeds],
        "constants": {name.lower(): getattr(criterion, name) for name in CONSTANTS},
        "sha256": {name: _digest(folder / name) for name in ("inputs.npz", "outputs.npz")},
    }
    (folder / "bundle.json").write_text(json.dumps(as_json(account), indent=2) + "\n", encoding="utf-8")


def _varying(shapes: Sequence[tuple[int, ...]]) -> list[int | None]:
    """A shape with None on the axes that differ; on axis 0 where none does, since a batch may be fixed."""
    first = shapes[0]
    alike = [shape for shape in shapes if len(shape) == len(first)]
    sizes = [size if all(shape[axis] == size for shape in alike) else None for axis, size in enumerate(first)]
    return sizes if None in sizes else [None, *sizes[1:]]


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class GoldenReference:
    """A source by what it has computed: a `Reference` that knows the answers to `feeds` and to nothing else.

    `answers` holds, in the order of `feeds`, the float64 values and the executions in the source's own precision.
    """

    description: str
    output_names: tuple[str, ...]
    stored_format: str
    inputs: tuple[InputSpec, ...]
    feeds: tuple[Feed, ...]
    answers: tuple[tuple[Arrays, list[Arrays]], ...]
    constants: Mapping[str, float]
    is_file = True  # what it computed has been judged already
    plain = None
    graph64 = None
    coverage = None

    @property
    def input_facts(self) -> Mapping[str, Any]:
        """None: the inputs are there already."""
        return {}

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """What the source computed in float64."""
        return self._answer(feed)[0]

    def executions32(self, feed: Mapping[str, np.ndarray]) -> list[Arrays]:
        """What the source computed in its own precision."""
        return self._answer(feed)[1]

    def execution32(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """The first of them."""
        return self._answer(feed)[1][0]

    def release(self) -> None:
        """Nothing: the answers are all there is."""

    def _answer(self, arrays: Mapping[str, np.ndarray]) -> tuple[Arrays, list[Arrays]]:
        for feed, answer in zip(self.feeds, self.answers, strict=True):
            if feed.arrays is arrays:
                return answer
        raise KeyError("a bundle has answers to its own feeds only")

    def warnings(self) -> tuple[str, ...]:
        """What differs between the bundle's criterion and this program's."""
        ours = {name.lower(): getattr(criterion, name) for name in CONSTANTS}
        changed = [f"{name} {self.constants.get(name)} then, {k} now" for name, k in ours.items()
                   if self.constants.get(name) != k]  # fmt: skip
        return (f"the bundle was written under another criterion: {', '.join(changed)}",) if changed else ()


def read_bundle(folder: Path) -> GoldenReference:
    """The golden values in a folder.

    Raises:
        InputRefused: a file is missing or is not as it was written.
    """
    with open_bundle(folder, SCHEMA) as account:
        inputs = tuple(
            InputSpec(one["name"], tuple(one["shape"]), one["dtype"], one.get("batch_axis", 0))
            for one in account["inputs"]
        )
        shared = any(not spec.has_batch for spec in inputs)
        outputs = {one["name"]: one["dtype"] for one in account["outputs"]}
        stored = read_arrays(folder / "inputs.npz", account["sha256"])
        golden = read_arrays(folder / "outputs.npz", account["sha256"])
        feeds, answers = [], []
        for number, one in enumerate(account["feeds"]):
            arrays = {spec.name: _typed(stored[f"{number}/{spec.name}"], spec.dtype) for spec in inputs}
            feeds.append(Feed(one["kind"], one["batch"], arrays, tuple(one["rows"]), shared=shared))
            exact = {name: golden[f"{number}/{name}/exact"] for name in outputs}
            n_executions = sum(f"{number}/{next(iter(outputs))}/{k}" in golden for k in range(len(golden)))
            executions = [
                {name: _typed(golden[f"{number}/{name}/{k}"], dtype) for name, dtype in outputs.items()}
                for k in range(n_executions)
            ]
            answers.append((exact, executions))
        return GoldenReference(
            f"{account['reference']}, from the bundle of {account['source']['spec']}",
            tuple(outputs), account["stored_format"], inputs, tuple(feeds), tuple(answers), account["constants"],
        )  # fmt: skip


def _typed(array: np.ndarray, dtype: str) -> np.ndarray:
    """NumPy stores bfloat16, which is not its own, as two bytes without a meaning."""
    return array.view(np.dtype(dtype)) if array.dtype.kind == "V" else array


def verify_bundle(
    candidate: Path,
    folder: Path,
    *,
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    seed: int = 0,
) -> Verdict:
    """Judge a file by golden values, with graph optimizations off and as deployed.

    Args:
        candidate: the `.onnx` file.
        folder: written by `write_bundle`.
        provider: the ONNX Runtime provider that the file runs on.
        threads: of one operator in ONNX Runtime; None takes all that this process may use.
        seed: of the roundings by which parameters are judged.

    Raises:
        InputRefused: the bundle is damaged, or the file does not load.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    golden = read_bundle(folder)
    comparison = Comparison(candidate, golden, provider=provider, threads=threads)
    failure: str | None = None
    try:
        comparison.match_inputs(golden.inputs)
        comparison.match_outputs()
        with Answers() as answers:
            for feed in golden.feeds:
                comparison.ask_source(feed, answers)
            comparison.ask_file(lambda: golden.feeds, answers)
        if any(errors.failure() for errors in comparison.outputs.values()):
            comparison.judge_parameters(golden.feeds, seed=seed)
        failure = comparison.failure()
    except Unequal as unequal:
        failure = str(unequal)
    return Verdict(
        passed=failure is None,
        n_compared=sum(errors.n_compared for errors in comparison.outputs.values()),
        providers=comparison.providers,
        batches=tuple(sorted({feed.batch for feed in golden.feeds})),
        **judgement(comparison, passed=failure is None),
        reference=golden.description,
        failure=failure,
        executions=comparison.executions(),
        warnings=golden.warnings(),
    )
