"""`bnfold bench`: .onnx files measured side by side in one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking import bench_files
from bnfold.benchmarking.axes import as_axis
from bnfold.benchmarking.gates import against_baseline, against_name, read_baseline
from bnfold.benchmarking.subjects import distinct_names
from bnfold.errors import InputRefused
from bnfold.runtime import environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.benchmarking import OptLevel
    from bnfold.records import BenchReport
    from bnfold.runtime import Provider

__all__ = ["bench"]


def bench(
    *files: str | Path,
    names: Sequence[str] | None = None,
    provider: Provider | Sequence[Provider] = "cpu",
    threads: int | Sequence[int | None] | None = None,
    opt_level: OptLevel | Sequence[OptLevel] = "all",
    batch: tuple[int, ...] | int = (1,),
    budget_s: float = 20.0,
    input_shapes: Sequence[tuple[int, ...]] | Sequence[Sequence[tuple[int, ...]]] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    partial: Callable[[BenchReport], None] | None = None,
    baseline: str | Path | None = None,
    limit: float | None = None,
    rival: str | None = None,
) -> BenchReport:
    """Measure `.onnx` files side by side; every ratio is time(first file) / time(other file).

    Where `provider`, `threads`, `opt_level`, `batch` or `input_shapes` have several values, every combination of them
    is measured.

    Args:
        files: one or more files with the same inputs.
        names: names for the report, None for the files' stems.
        provider: "cpu", "cuda" or both; never another one instead.
        threads: threads of one operator, None for every CPU this process may use.
        opt_level: how far ONNX Runtime may change the graph: "disabled", "basic", "extended", "all".
        batch: the batch sizes, or one of them.
        budget_s: seconds for everything together, about.
        input_shapes: shapes of the inputs, batch first, where axes besides the batch are dynamic; or several shapes for
            each input.
        seed: of the input values and of the bootstrap.
        progress: told the share that is done, 0 to 1.
        partial: given what was measured so far when an interrupt ends the work.
        baseline: the JSON report of an earlier run on this machine; with `limit`, each run it has becomes a gate.
        limit: 0.03 lets a file be 3 % slower; decided on the interval.
        rival: the name of another file; that the first is not slower than it becomes a gate.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: a file is missing, does not load or run, or the files cannot be compared.
    """
    paths = [Path(file) for file in files]
    known = distinct_names(paths) if names is None else list(names)
    if rival is not None and rival not in known[1:]:
        raise InputRefused(
            "no other file has the name that the first shall not be slower than", found=rival,
            expected=", ".join(known[1:]) or "a second file", remedy="name one of the files as the table does",
        )  # fmt: skip
    earlier = None if baseline is None else _read_baseline(Path(baseline), provider)
    report = bench_files(
        paths,
        names=known,
        provider=provider,
        threads=threads,
        opt_level=opt_level,
        batches=batch,
        budget_s=budget_s,
        input_shapes=input_shapes,
        seed=seed,
        progress=progress,
        partial=partial,
    )
    gates = [] if rival is None else against_name(report, rival, limit or 0.0)
    if earlier is not None and limit is not None:
        gates += against_baseline(report, earlier, limit, str(baseline))
    return dataclasses.replace(report, gates=tuple(gates))


def _read_baseline(path: Path, provider: Provider | Sequence[Provider]) -> dict[str, Any]:
    return read_baseline(path, environment("cuda" if "cuda" in as_axis(provider) else "cpu"))
