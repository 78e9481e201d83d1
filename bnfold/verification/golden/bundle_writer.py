"""Golden values are written where the source is."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from bnfold.records import InputSpec, as_json
from bnfold.verification.data.feeds import make_feeds
from bnfold.verification.data.value_ranges import as_compared
from bnfold.verification.golden.bundle_files import SCHEMA, criterion_constants

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bnfold.records import FileFacts, FoldExportReport, OutputFacts, OutputVerdict, SourceFacts
    from bnfold.verification.data.feeds import Feed
    from bnfold.verification.execution.reference import Arrays, Reference

__all__ = ["write_bundle", "write_values"]

INPUT_FIELDS = ("name", "shape", "dtype", "batch_axis")


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
        samples: real inputs by name, samples first; None takes random ones.
        seed: of the random inputs.
    """
    inputs = as_compared(inputs, report.verify.values)
    facts = dict(reference.input_facts)
    write_values(
        folder,
        reference,
        make_feeds(inputs, samples=samples, facts=facts, batches=report.verify.batches, seed=seed),
        inputs=inputs,
        source=report.source,
        model=report.output,
        facts=report.facts,
        judged=report.verify.outputs,
    )


def write_values(
    folder: Path,
    reference: Reference,
    feeds: Iterable[Feed],
    *,
    inputs: Sequence[InputSpec],
    source: SourceFacts,
    model: OutputFacts | None,
    facts: FileFacts,
    judged: Sequence[OutputVerdict],
) -> None:
    """Write what a source computes of some inputs.

    Args:
        folder: does not exist yet.
        reference: the source.
        feeds: the inputs.
        inputs: of the source, in order, as the feeds have them.
        source: what is said of the source,
        model: of the file that was compared with it, and
        facts: of its metadata.
        judged: the outputs of that comparison.
    """
    folder.mkdir()
    stored: Arrays = {}
    golden: Arrays = {}
    dtypes: dict[str, str] = {}
    asked = list(feeds)
    for number, feed in enumerate(asked):
        stored |= {f"{number}/{name}": array for name, array in feed.arrays.items()}
        golden |= {f"{number}/{name}/exact": array for name, array in reference.evaluate64(feed.arrays).items()}
        for k, execution in enumerate(reference.executions32(feed.arrays)):
            golden |= {f"{number}/{name}/{k}": array for name, array in execution.items()}
            dtypes = {name: array.dtype.name for name, array in execution.items()}
    np.savez_compressed(folder / "inputs.npz", **stored)  # type: ignore[arg-type]  # numpy's stub: allow_pickle
    np.savez_compressed(folder / "outputs.npz", **golden)  # type: ignore[arg-type]
    shapes = {
        name: _varying([golden[f"{number}/{name}/exact"].shape for number in range(len(asked))])
        for name in reference.output_names
    }
    errors = {output.name: output for output in judged}
    account = {
        "schema": SCHEMA,
        "source": source,
        "model": model,
        "facts": facts,
        "reference": reference.description,
        "n_own": reference.n_own,
        "stored_format": reference.stored_format,
        "inputs": [{name: getattr(spec, name) for name in INPUT_FIELDS} for spec in inputs],
        "outputs": [
            {"name": name, "dtype": dtypes[name], "shape": shapes[name]}
            | {"e_source": errors[name].e_source, "allowed": errors[name].allowed}
            for name in reference.output_names
        ],
        "feeds": [{"kind": feed.kind, "batch": feed.batch, "rows": feed.rows} for feed in asked],
        "constants": criterion_constants(),
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
