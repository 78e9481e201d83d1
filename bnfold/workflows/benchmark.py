"""`bnfold bench`: .onnx files measured side by side in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.benchmarking import bench_files

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

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: a file is missing, does not load or run, or the files cannot be compared.
    """
    return bench_files(
        [Path(file) for file in files],
        names=names,
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
