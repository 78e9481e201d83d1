"""Subjects measured side by side over a grid: latency, throughput, memory, and the ratio of the first to each other."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.axes import Axes, as_axis
from bnfold.benchmarking.cell import CellResult, measure_cell
from bnfold.benchmarking.cell_records import cell_ratios, cell_runs
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.noise import merged_noise
from bnfold.benchmarking.statistics import LEVEL
from bnfold.benchmarking.subjects import (
    distinct_names,
    file_subject,
    read_inputs,
    shapes_of,
    with_digest,
)
from bnfold.records import BenchReport, as_json
from bnfold.runtime import environment, most_telling, provider_spec, require_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bnfold.benchmarking.axes import Cell
    from bnfold.benchmarking.subjects import Subject
    from bnfold.records import InputSpec
    from bnfold.records.tuning import SessionSettings

__all__ = ["bench_files", "bench_subjects"]

log = logging.getLogger("bnfold.benchmarking")


def bench_files(
    files: Sequence[Path],
    axes: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    peers: Sequence[Subject] = (),
    profile: bool = False,
    cold_starts: bool = True,
    budget_s: float = 10.0,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    partial: Callable[[BenchReport], None] | None = None,
    settings: SessionSettings | None = None,
) -> BenchReport:
    """Measure files side by side in this process, and compare the first with each other one.

    A run is `session.run_with_iobinding` with inputs and outputs bound on the provider's device: on a GPU it holds
    no copy between host and device. See `schedule` for the order of the runs and `statistics` for the interval. Where
    an axis has several values, every combination is measured.

    Args:
        files: the first is the candidate, `a` of every ratio.
        axes: what to measure; None is the default of each axis.
        names: names for the report, in the order of the files; None for their stems.
        peers: take part in the same rounds, behind the files.
        profile: tell where the time of each file goes, too; this takes a second for each, beyond the budget.
        cold_starts: load and run every file in processes of its own, too, a second and more for each on a GPU.
        budget_s: seconds for everything together, about: cold starts, loads, warm-up and timed runs.
        dims: sizes of dynamic axes by their name in the files (INPUT[AXIS] where one has none).
        seed: of the input values and of the bootstrap.
        progress: told the share that is done, 0 to 1.
        partial: given what was measured so far, `complete` false, when an interrupt ends the work.
        settings: of every session, besides what the axes say.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: a file does not load or run, or the files cannot be compared.
    """
    names = distinct_names(files) if names is None else list(names)
    if not files or len(names) != len(files):
        raise ValueError(f"{len(files)} files and {len(names)} names: give at least one file, and a name for each")
    subjects = [*(file_subject(name, file, settings) for name, file in zip(names, files, strict=True)), *peers]
    return bench_subjects(
        subjects, (axes or Axes()).cells(), profile=profile, cold_starts=cold_starts, budget_s=budget_s, dims=dims,
        seed=seed,
        progress=progress or _no_progress, partial=partial,
    )  # fmt: skip


def bench_subjects(
    subjects: Sequence[Subject],
    cells: Sequence[Cell],
    *,
    profile: bool = False,
    cold_starts: bool = True,
    budget_s: float,
    dims: Mapping[str, int] | None = None,
    seed: int,
    progress: Callable[[float], None],
    partial: Callable[[BenchReport], None] | None = None,
) -> BenchReport:
    """Measure subjects in every cell of a grid; the arguments are those of `bench_files`."""
    deadline = time.monotonic() + budget_s
    providers = as_axis(tuple(cell.provider for cell in cells))
    specs, options, placements = read_inputs(subjects, providers, dims)
    facts = _facts(cells, options) | {"budget_s": budget_s, "seed": seed}
    if subjects[0].settings is not None:
        facts["session"] = as_json(subjects[0].settings)
    shapes = [shapes_of(specs, cell) for cell in cells]  # all are checked before the first is measured
    inputs = next(iter(specs.values()))
    _check_graphs(subjects, cells, shapes, inputs)
    located = tuple(placements)
    subjects = [with_digest(subject) for subject in subjects]
    results: list[CellResult] = []
    try:
        for index, cell in enumerate(cells):
            log.info("%s: %s", cell, ", ".join(subject.name for subject in subjects))
            result = CellResult(cell, shapes[index], [subject.name for subject in subjects])
            result.profiles = [] if profile else None
            results.append(result)
            measure_cell(
                result, subjects, inputs, cold_starts=cold_starts,
                budget_s=max(0.0, deadline - time.monotonic()) / (len(cells) - index),
                seed=seed,
                progress=functools.partial(_part, progress, index, len(cells)),
            )  # fmt: skip
    except KeyboardInterrupt:
        if partial is not None:
            partial(dataclasses.replace(_report(results, subjects, facts, seed), complete=False, placements=located))
        raise
    return dataclasses.replace(_report(results, subjects, facts, seed), placements=located)


def _check_graphs(
    subjects: Sequence[Subject], cells: Sequence[Cell], shapes: Sequence[Mapping[str, Any]], specs: Sequence[InputSpec]
) -> None:
    """Make each CUDA graph of the grid once, so that a file that makes none is refused before anything is measured."""
    for cell, own in zip(cells, shapes, strict=True):
        for subject in subjects if cell.cuda_graph else ():
            subject.opener(cell, random_inputs(specs, own, seed=0))


def _facts(cells: Sequence[Cell], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The environment, with the options that each provider says it has, by its name."""
    specs = [provider_spec(name) for name in as_axis(tuple(cell.provider for cell in cells))]
    facts = environment(most_telling(specs).name, max(cell.threads for cell in cells))
    facts |= {"provider_options": next(iter(options.values())), "interval_level": LEVEL}
    for spec in specs:
        facts |= spec.session_facts(require_onnxruntime(spec.name), options[spec.ort_name])
    if len(options) > 1:
        facts["provider_options_of"] = options
    return facts


def _report(
    results: Sequence[CellResult], subjects: Sequence[Subject], facts: dict[str, Any], seed: int
) -> BenchReport:
    measured = [result for result in results if result.times is not None]
    return BenchReport(
        environment={**facts, **merged_noise([result.noise for result in measured])},
        runs=tuple(run for result in measured for run in cell_runs(result, subjects)),
        ratios=tuple(ratio for result in measured for ratio in cell_ratios(result, seed)),
        profiles=tuple(profile for result in measured for profile in result.profiles or ()),
    )


def _part(progress: Callable[[float], None], index: int, n_parts: int, share: float) -> None:
    """Report the share of one part as a share of the whole."""
    progress((index + share) / n_parts)


def _no_progress(_share: float) -> None:
    """Nobody asked."""
