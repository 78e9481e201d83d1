"""`.onnx` files measured side by side: latency, throughput, memory, and the ratio of the first file to each other."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.cold_start import ColdStart, measure_cold_start
from bnfold.benchmarking.inputs import check_same_inputs, input_specs, random_inputs, resolve_shapes
from bnfold.benchmarking.noise import CpuMeter, noise_verdict
from bnfold.benchmarking.schedule import FileTimes, time_files
from bnfold.benchmarking.statistics import compare, dispersion, percentile_95
from bnfold.benchmarking.timing import BoundFile
from bnfold.errors import InputRefused
from bnfold.records import BenchRatio, BenchReport, BenchRun
from bnfold.runtime import PROVIDERS, Provider, available_threads, environment, open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bnfold.records import InputSpec

__all__ = ["bench_files", "distinct_names"]

log = logging.getLogger("bnfold.benchmarking")


def bench_files(
    files: Sequence[Path],
    *,
    names: Sequence[str] | None = None,
    provider: Provider = "cpu",
    threads: int | None = None,
    batches: tuple[int, ...] = (1,),
    budget_s: float = 10.0,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> BenchReport:
    """Measure files side by side in this process, and compare the first with each other one.

    A run is `session.run_with_iobinding` with inputs and outputs bound on the provider's device: on "cuda" it holds
    no copy between host and device. See `schedule` for the order of the runs and `statistics` for the interval.

    Args:
        files: the first is the candidate, `a` of every ratio.
        names: names for the report, in the order of the files; None for their stems.
        provider: where every node runs; never another one instead.
        threads: threads of one operator, None for every CPU this process may use.
        batches: batch sizes, each measured by itself.
        budget_s: seconds of loads, warm-up and timed runs at each batch size, for all files together, about.
        input_shapes: shapes of the inputs in their order, batch first, where axes besides the batch are dynamic.
        seed: of the input values and of the bootstrap.
        progress: told the share that is done, 0 to 1.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: a file does not load or run, or the files cannot be compared.
    """
    names = distinct_names(files) if names is None else list(names)
    if not files or len(names) != len(files):
        raise ValueError(f"{len(files)} files and {len(names)} names: give at least one file, and a name for each")
    setting = _Setting(provider, threads or available_threads(), budget_s, seed)
    facts = environment(provider, setting.threads)
    specs = _read_inputs(files, setting, facts)
    shapes = {batch: _shapes(files, specs, batch, input_shapes) for batch in batches}
    parts = []
    for index, batch in enumerate(batches):
        log.info("batch %d: %s", batch, ", ".join(names))
        part = partial(_part, progress, index, len(batches))
        parts.append(
            _bench_batch(
                dict(zip(names, files, strict=True)), specs[0], shapes[batch], batch, setting=setting, progress=part
            )
        )
    facts.update(
        noise_verdict(
            [value for part in parts for value in part.dispersions], max(part.others for part in parts), setting.threads
        ),
        budget_s=budget_s,
        seed=seed,
    )
    return BenchReport(
        environment=facts,
        runs=tuple(run for part in parts for run in part.runs),
        ratios=tuple(ratio for part in parts for ratio in part.ratios),
    )


@dataclass(frozen=True)
class _Setting:
    provider: Provider
    threads: int
    budget_s: float
    seed: int


@dataclass(frozen=True)
class _BatchResult:
    runs: list[BenchRun]
    ratios: list[BenchRatio]
    dispersions: list[float]
    others: float


def distinct_names(files: Sequence[Path]) -> list[str]:
    """The files' stems; with the parent folder where stems clash, with a number where that clashes too."""
    names = [file.stem for file in files]
    folders = {stem: {file.resolve().parent for file in files if file.stem == stem} for stem in names}
    names = [
        f"{file.resolve().parent.name}/{stem}" if len(folders[stem]) > 1 else stem
        for file, stem in zip(files, names, strict=True)
    ]
    seen: Counter[str] = Counter()
    for index, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[index] = f"{name}#{seen[name]}"
    return names


def _part(progress: Callable[[float], None] | None, index: int, n_parts: int, share: float) -> None:
    """Report the share of one part as a share of the whole."""
    if progress is not None:
        progress((index + share) / n_parts)


def _read_inputs(files: Sequence[Path], setting: _Setting, facts: dict[str, Any]) -> list[tuple[InputSpec, ...]]:
    """The inputs of each file, equal in names and types; notes the provider's options in the facts."""
    specs = []
    for file in files:
        session = open_session(file, provider=setting.provider, threads=setting.threads)
        specs.append(input_specs(session, str(file)))
        facts["provider_options"] = dict(session.get_provider_options()[PROVIDERS[setting.provider]])
    check_same_inputs([str(file) for file in files], specs)
    return specs


def _shapes(
    files: Sequence[Path],
    specs: Sequence[tuple[InputSpec, ...]],
    batch: int,
    given: Sequence[tuple[int, ...]] | None,
) -> dict[str, tuple[int, ...]]:
    """The input shapes at a batch size, the same for every file."""
    shapes = [resolve_shapes(own, batch, given, str(file)) for file, own in zip(files, specs, strict=True)]
    for file, own in zip(files, shapes, strict=True):
        if own != shapes[0]:
            raise InputRefused(
                "the files have inputs of different shapes", where=str(file), found=str(own),
                expected=f"{shapes[0]}, as {files[0]}", remedy="compare exports of one network at one input size",
            )  # fmt: skip
    return shapes[0]


def _bench_batch(
    files: Mapping[str, Path],
    specs: tuple[InputSpec, ...],
    shapes: Mapping[str, tuple[int, ...]],
    batch: int,
    *,
    setting: _Setting,
    progress: Callable[[float], None],
) -> _BatchResult:
    """Cold starts, each in its own process; then the interleaved runs in this one."""
    provider, threads, seed = setting.provider, setting.threads, setting.seed
    first, *rest = files
    cold = [
        measure_cold_start(file, specs, shapes, provider=provider, threads=threads, seed=seed)
        for file in files.values()
    ]
    inputs = random_inputs(specs, shapes, seed)
    openers = [partial(BoundFile, file, inputs, provider=provider, threads=threads) for file in files.values()]
    meter = CpuMeter.now()
    times = dict(zip(files, time_files(openers, setting.budget_s, progress), strict=True))
    others = meter.others_since()
    return _BatchResult(
        runs=[
            _run(name, file, own, start, batch=batch, provider=provider)
            for (name, file), own, start in zip(files.items(), times.values(), cold, strict=True)
        ],
        ratios=[
            compare(first, other, times[first].rounds / times[other].rounds, batch=batch, seed=seed) for other in rest
        ],
        dispersions=[dispersion(own.rounds) for own in times.values()],
        others=others,
    )


def _run(name: str, file: Path, times: FileTimes, cold: ColdStart, *, batch: int, provider: Provider) -> BenchRun:
    median_ms = float(np.median(times.runs))
    return BenchRun(
        name=name,
        path=str(file),
        provider=PROVIDERS[provider],
        batch=batch,
        n=int(times.runs.size),
        load_ms=cold.load_ms,
        first_ms=cold.first_ms,
        median_ms=median_ms,
        p95_ms=percentile_95(times.runs),
        images_per_s=batch / median_ms * 1e3,
        peak_mb=cold.peak_mb,
    )
