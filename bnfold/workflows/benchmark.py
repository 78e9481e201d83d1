"""`bnfold bench`: .onnx files measured side by side in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.benchmarking import bench_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.records import BenchReport
    from bnfold.runtime import Provider

__all__ = ["bench"]


def bench(
    *files: str | Path,
    names: Sequence[str] | None = None,
    provider: Provider = "cpu",
    threads: int | None = None,
    batch: tuple[int, ...] | int = (1,),
    budget_s: float = 10.0,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> BenchReport:
    """Measure `.onnx` files side by side; every ratio is time(first file) / time(other file).

    Args:
        files: one or more files with the same inputs.
        names: names for the report, None for the files' stems.
        provider: "cpu" or "cuda"; never another one instead.
        threads: threads of one operator, None for every CPU this process may use.
        batch: the batch sizes, or one of them.
        budget_s: seconds at each batch size, for all files together, about.
        input_shapes: shapes of the inputs, batch first, where axes besides the batch are dynamic.
        seed: of the input values and of the bootstrap.
        progress: told the share that is done, 0 to 1.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: a file is missing, does not load or run, or the files cannot be compared.
    """
    return bench_files(
        [Path(file) for file in files],
        names=names,
        provider=provider,
        threads=threads,
        batches=(batch,) if isinstance(batch, int) else tuple(batch),
        budget_s=budget_s,
        input_shapes=input_shapes,
        seed=seed,
        progress=progress,
    )
