"""The time of a file that was just made against that of the file one would otherwise have, and what lost if it lost."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bnfold.errors import InputRefused
from bnfold.records import LayerTime, SlowerPart, Timing
from bnfold.sources.types import OnnxSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from bnfold.records import BenchProfile, BenchReport, ProfileEntry
    from bnfold.runtime import Provider
    from bnfold.sources.types import Source

__all__ = ["layer_times", "slower_parts", "time_against"]

N_PARTS = 3  # of each kind, named where a file is slower
SHARE = 0.1  # of all that was lost, from which a part is named

logger = logging.getLogger("bnfold.workflows")


def time_against(
    file: Path,
    source: Source,
    plain: Callable[[], onnx.ModelProto],
    *,
    batch: int | None,
    provider: Provider,
    threads: int | None,
    seed: int,
    budget_s: float,
    fail_if_slower: float | None,
    by_layer: bool = False,
) -> Timing | None:
    """Measure a file beside the source, where that is an `.onnx` file, else beside the plain export.

    Args:
        file: what was made of the source.
        source: gives the sizes of the inputs.
        plain: makes the plain export, or the source's graph; not called where the source is a file.
        batch: the batch that the file is fixed at; None takes the source's, or 1.
        provider: where both run.
        threads: threads of one operator.
        seed: of the input values and of the bootstrap.
        budget_s: seconds, about; files that are profiled take two more.
        fail_if_slower: the limit: 0.03 lets the file be 3 % slower.
        by_layer: profile both files in any case, as those where the first one is slower are.

    Returns:
        None where the files cannot be measured side by side and no limit was given; a warning says why.

    Raises:
        InputRefused: they cannot, and a limit was given.
    """
    from bnfold.benchmarking import Axes, bench_files

    against: Literal["plain", "source"] = "source" if isinstance(source, OnnxSource) else "plain"
    length = _batch(source, batch)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as place:
        own = source.path if isinstance(source, OnnxSource) else None
        other = own or _saved(plain(), Path(place) / "plain.onnx")
        try:
            report = bench_files(
                [file, other],
                Axes(
                    provider=provider,
                    threads=threads,
                    batch=(length,),
                    input_shapes=_shapes(source, file, length),
                ),
                names=["folded", against],
                cold_starts=False,
                budget_s=budget_s,
                seed=seed,
            )
        except InputRefused as refused:
            if fail_if_slower is not None:
                raise
            logger.warning("the time was not measured: %s", refused)
            return None
        timing = _timing(report, against, fail_if_slower)
        if timing.verdict == "slower" or by_layer:
            made, old = (_profile(path, source, report, provider, seed) for path in (file, other))
            timing = dataclasses.replace(
                timing,
                slower=slower_parts(made, old) if timing.verdict == "slower" else (),
                layers=layer_times(made, old) if by_layer else (),
            )
    return timing


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    from bnfold.export import save

    save(model, path)
    return path


def _batch(source: Source, static_batch: int | None) -> int:
    """The length of a dynamic axis 0: the batch that is fixed, else 1; where it is no batch, its own."""
    fixed = [spec.fixed_batch for spec in source.inputs if spec.fixed_batch is not None]
    lengths = [spec.shape[0] for spec in source.inputs if any(spec.symbols[:1]) and spec.batch_axis != 0]
    return static_batch or next((length for length in [*lengths, *fixed] if length is not None), 1)


def _shapes(source: Source, file: Path, batch: int) -> list[list[tuple[int, ...]]] | None:
    """The shapes that the source is tested with, in the order of the file's inputs; None where a size is not known."""
    import onnx

    graph = onnx.load_model(file, load_external_data=False).graph
    parameters = {tensor.name for tensor in graph.initializer}
    specs = {spec.name: spec for spec in source.inputs}
    found = [specs.get(value.name) for value in graph.input if value.name not in parameters]
    known = [spec for spec in found if spec is not None]
    shapes = [[batch if axis == spec.batch_axis else size for axis, size in enumerate(spec.shape)] for spec in known]
    if len(shapes) < len(found) or any(size is None for shape in shapes for size in shape[1:]):
        return None
    return [[tuple(size or batch for size in shape)] for shape in shapes]


def _timing(report: BenchReport, against: Literal["plain", "source"], fail_if_slower: float | None) -> Timing:
    (ratio,), (made, other) = report.ratios, report.runs
    noisy = report.environment.get("noise") == "noisy"
    noise = f"noisy machine: {report.environment.get('noise_causes')}" if noisy else None
    return Timing(
        against=against,
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        verdict=ratio.verdict,
        leaning=ratio.leaning,
        note=ratio.note or noise,
        provider=made.provider,
        batch=made.batch,
        threads=made.threads,
        median_ms=made.median_ms,
        against_ms=other.median_ms,
        limit=None if fail_if_slower is None or made.sha256 == other.sha256 else 1 + fail_if_slower,
    )


def _profile(file: Path, source: Source, report: BenchReport, provider: Provider, seed: int) -> BenchProfile:
    """Where the time of a file goes, as it was measured."""
    from bnfold.benchmarking.axes import Cell
    from bnfold.benchmarking.inputs import random_inputs
    from bnfold.benchmarking.profile import profile_file

    run = report.runs[0]
    cell = Cell(provider, run.threads or 1, "all", None, run.batch)
    specs = [spec for spec in source.inputs if spec.name in run.input_shapes]
    return profile_file(file.stem, file, file, cell, random_inputs(specs, run.input_shapes, seed))


def slower_parts(made: BenchProfile, other: BenchProfile) -> tuple[SlowerPart, ...]:
    """The operators and the layers on which a file lost most, compared with another one.

    Args:
        made: the profile of the file that is slower.
        other: that of the other one.
    """
    kinds: tuple[tuple[Any, Sequence[ProfileEntry], Sequence[ProfileEntry]], ...] = (
        ("operator", made.operators, other.operators),
        ("layer", made.layers, other.layers),
    )
    parts: list[SlowerPart] = []
    for kind, ours, theirs in kinds:
        before = {entry.name: entry.ms for entry in theirs}
        all_of_it = [SlowerPart(entry.name, kind, entry.ms, before.get(entry.name, 0.0)) for entry in ours]
        lost = sum(max(0.0, part.ms - part.against_ms) for part in all_of_it)
        named = [part for part in all_of_it if part.ms - part.against_ms >= SHARE * lost > 0]
        parts += sorted(named, key=lambda part: part.against_ms - part.ms)[:N_PARTS]
    return tuple(parts)


def layer_times(made: BenchProfile, other: BenchProfile) -> tuple[LayerTime, ...]:
    """The time of every layer in a file and in another one, those that take most first."""
    own, before = ({entry.name: entry.ms for entry in profile.layers} for profile in (made, other))
    found = [LayerTime(name, own.get(name), before.get(name)) for name in dict.fromkeys((*own, *before))]
    return tuple(sorted(found, key=lambda layer: -max(layer.ms or 0.0, layer.against_ms or 0.0)))
