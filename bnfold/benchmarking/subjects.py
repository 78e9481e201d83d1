"""What takes part in a measurement: `.onnx` files, and peers that run elsewhere."""

from __future__ import annotations

import itertools
import logging
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.inputs import check_same_inputs, input_specs, resolve_shapes
from bnfold.benchmarking.offline import write_offline
from bnfold.benchmarking.placements import placement_of
from bnfold.benchmarking.timing import BoundFile, Runner, output_sizes
from bnfold.errors import InputRefused
from bnfold.runtime import open_session, provider_spec
from bnfold.runtime.placement import record_placement
from bnfold.sources.digests import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bnfold.benchmarking.axes import Cell
    from bnfold.records import BenchPlacement, InputSpec
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider

__all__ = ["Subject", "distinct_names", "file_subject", "optimized_offline", "read_inputs", "shapes_of", "with_digest"]

log = logging.getLogger("bnfold.benchmarking")

NO_TEXT = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of a surrogate pair, ends of lines
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Signs that set the direction of what follows them (Unicode Standard Annex 9, section 2)."""


@dataclass(frozen=True)
class Subject:
    """One row of the table.

    Args:
        name: its name in the report.
        path: the file, or the source as the user named it.
        opener: opens it for a cell of the grid, with these inputs bound.
        file: the `.onnx` file that ONNX Runtime loads, None for a peer that runs elsewhere.
        engine: what runs it.
        sha256: of the file as it was named and its external data, None until `with_digest`.
        settings: of its sessions, besides what the cell says; None for bnfold's own.
    """

    name: str
    path: str
    opener: Callable[[Cell, Mapping[str, Any]], Runner]
    file: Path | None = None
    engine: str = "onnxruntime"
    sha256: str | None = None
    settings: SessionSettings | None = None


def file_subject(name: str, file: Path, settings: SessionSettings | None = None) -> Subject:
    """An `.onnx` file on ONNX Runtime."""
    return Subject(name, str(file), _FileOpener(file, settings), file, settings=settings)


class _FileOpener:
    """Opens a file for a cell; what a CUDA graph's outputs measure is found once for each shape of the inputs."""

    def __init__(self, file: Path, settings: SessionSettings | None) -> None:
        self._file, self._settings = file, settings
        self._outputs: dict[tuple[Any, ...], dict[str, Any]] = {}

    def __call__(self, cell: Cell, inputs: Mapping[str, Any]) -> Runner:
        return BoundFile(
            self._file, inputs, provider=cell.provider, threads=cell.threads, opt_level=cell.load_level,
            graph_outputs=self._graph_outputs(cell, inputs) if cell.cuda_graph else None, settings=self._settings,
        )  # fmt: skip

    def _graph_outputs(self, cell: Cell, inputs: Mapping[str, Any]) -> dict[str, Any]:
        key = (cell.provider, *((name, value.shape) for name, value in inputs.items()))
        if key not in self._outputs:
            self._outputs[key] = output_sizes(self._file, inputs, cell.provider)
        return self._outputs[key]


def with_digest(subject: Subject) -> Subject:
    """The subject with the digest of its file; one without stays as it is.

    So does one whose external data lies where bnfold does not read: what ONNX Runtime reads is measured all the same.
    """
    if subject.file is None:
        return subject
    try:
        return replace(subject, sha256=file_sha256(subject.file))
    except InputRefused as refused:
        log.debug("no digest of %s: %s", subject.name, refused)
        return subject


def optimized_offline(subject: Subject, cell: Cell, folder: Path) -> Subject:
    """The subject on the file that ONNX Runtime makes of its file for this cell; one without a file stays as it is."""
    if subject.file is None:
        return subject
    target = folder / f"{len(list(folder.iterdir()))}.onnx"
    write_offline(subject.file, target, cell.opt_level, cell.provider, subject.settings)
    return replace(subject, file=target, opener=_FileOpener(target, subject.settings))


def distinct_names(files: Sequence[Path]) -> list[str]:
    """The files' stems; with the parent folder where stems clash, with a number where that clashes too.

    What would turn the text around it, or is no text, becomes a replacement character: names go into tables, XML and
    pictures.
    """
    stems = [file.stem for file in files]
    folders = {stem: {file.resolve().parent for file in files if file.stem == stem} for stem in stems}
    names: list[str] = []
    for file, stem in zip(files, stems, strict=True):
        wanted = _as_text(f"{file.resolve().parent.name}/{stem}" if len(folders[stem]) > 1 else stem)
        numbered = (f"{wanted}#{number}" for number in itertools.count(2))
        names.append(next(name for name in itertools.chain([wanted], numbered) if name not in names))
    return names


def _as_text(name: str) -> str:
    return "".join("\ufffd" if unicodedata.category(sign) in NO_TEXT or sign in TURNING else sign for sign in name)


def read_inputs(
    subjects: Sequence[Subject], providers: Sequence[Provider], dims: Mapping[str, int] | None = None
) -> tuple[dict[Path, tuple[InputSpec, ...]], dict[str, dict[str, Any]], list[BenchPlacement]]:
    """The inputs of each file, equal in names and types; the options of each provider by its name; where nodes run.

    Raises:
        EnvironmentNotReady: a provider does not load.
        InputRefused: a file does not load on one of the providers, or the inputs differ.
    """
    specs: dict[Path, tuple[InputSpec, ...]] = {}
    options: dict[str, dict[str, Any]] = {}
    placements: list[BenchPlacement] = []
    for provider in providers:
        for subject in subjects:
            if subject.file is None:
                continue
            file = subject.file
            session = open_session(file, provider=provider, threads=1, configure=record_placement, fallback=True)
            specs[file] = input_specs(session, str(file), dims)
            name = provider_spec(provider).ort_name
            options[name] = dict(session.get_provider_options()[name])
            placements.append(placement_of(subject.name, file, session, provider))
    check_same_inputs([str(file) for file in specs], list(specs.values()))
    return specs, options, placements


def shapes_of(specs: Mapping[Path, tuple[InputSpec, ...]], cell: Cell) -> dict[str, tuple[int, ...]]:
    """The input shapes in a cell of the grid, the same for every file.

    Raises:
        InputRefused: the shapes do not fit, are not known, or differ between the files.
    """
    shapes = [(file, resolve_shapes(own, cell.batch, cell.shapes, str(file))) for file, own in specs.items()]
    first, expected = shapes[0]
    for file, own in shapes:
        if own != expected:
            raise InputRefused(
                "the files have inputs of different shapes", where=str(file), found=str(own),
                expected=f"{expected}, as {first}", remedy="compare exports of one network at one input size",
            )  # fmt: skip
    return expected
