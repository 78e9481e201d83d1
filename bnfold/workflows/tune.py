"""`bnfold tune`: the session and provider options that are fastest for a file on this machine."""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from bnfold.benchmarking.load import Load, Mode
from bnfold.errors import InputRefused
from bnfold.records.input_shapes import check_shapes
from bnfold.records.tuning import TuneReport
from bnfold.report.progress import notebook_progress
from bnfold.runtime import available_threads, environment
from bnfold.runtime.sessions import require_onnx_file
from bnfold.workflows.arguments import (
    IN_A_FILE,
    batch_sizes,
    check_names,
    check_paths,
    check_positive,
    check_provider,
    check_threads,
    require_provider,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.records.tuning import TunedFile
    from bnfold.runtime import Provider

__all__ = ["SESSION_NAME", "require_free", "tune"]

SESSION_NAME = "session.json"
BUDGET_S = 60.0

log = logging.getLogger("bnfold.workflows")


def tune(
    *files: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    provider: Provider = "cpu",
    threads: int | None = None,
    batch: int = 1,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    dims: Mapping[str, int] | None = None,
    mode: Mode = "latency",
    concurrency: int | None = None,
    allow_tf32: bool = False,
    inputs: str | os.PathLike[str] | None = None,
    budget_s: float = BUDGET_S,
    cold_starts: bool = True,
    seed: int = 0,
    force: bool = False,
    progress: Callable[[float], None] | None = None,
) -> TuneReport:
    """Find the options of a session that are fastest, by measuring them beside the default session.

    What is recommended is faster by its whole 99 % interval, in a last round that chose nothing; else it is the
    default. An option that changes numbers is taken only where `bnfold verify`'s criterion lets it pass.

    Args:
        files: `.onnx` files, each tuned on its own.
        output: the session.json to write, for all files together; None writes nothing.
        provider: where every node runs.
        threads: the most of one operator; None for the CPUs that this process may use.
        batch: the batch size to tune for.
        input_shapes: one shape for each input, batch first, where axes besides the batch are dynamic.
        dims: sizes of dynamic axes by their name in the files (INPUT[AXIS] where one has none).
        mode: "latency" or "throughput", see `bnfold.benchmarking.load`.
        concurrency: requests that run at the same time, for "throughput"; None for as many as there are CPUs.
        allow_tf32: on a GPU, whether float32 may be rounded to TF32.
        inputs: real samples on which numbers are compared, an `.npz` file or a folder of images; None for random ones.
        budget_s: seconds to measure each file, about; proofs of options that change numbers come on top.
        cold_starts: whether starts in fresh processes are measured too, and graphs optimized offline with them.
        seed: of input values and intervals.
        force: replace an existing output.
        progress: told the share that is done, 0 to 1; None shows a bar in a notebook.

    Raises:
        InputRefused: a file is missing, does not load or run, or the output exists or cannot be written.
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
    """
    from bnfold.report import write_json
    from bnfold.workflows.tune_file import Wish, tune_file

    sizes = batch_sizes(batch)
    _check(files, sizes, mode=mode, concurrency=concurrency, threads=threads, provider=provider, budget_s=budget_s)
    check_shapes(input_shapes)
    if output is not None and not force:
        require_free(Path(output))
    require_provider(provider)
    load = Load(mode, 1 if mode == "latency" else concurrency or available_threads())
    wish = Wish(
        provider=provider, threads=threads or available_threads(), batch=sizes[0], load=load, dims=dims,
        input_shapes=input_shapes, samples=None if inputs is None else Path(inputs), allow_tf32=allow_tf32,
        budget_s=budget_s, cold_starts=cold_starts, seed=seed,
    )  # fmt: skip
    found: list[TunedFile] = []
    with notebook_progress("tune", progress) as told:
        for number, file in enumerate(files):
            log.info("%s", file)
            share = functools.partial(_part, told, number, len(files))
            found.append(tune_file(Path(file), wish, share))
    report = TuneReport(environment(provider), tuple(found))
    if output is not None:
        write_json(report, Path(output))
    return report


def require_free(output: Path) -> None:
    """Refuse a file that exists.

    Raises:
        InputRefused: it does.
    """
    if output.exists():
        raise InputRefused(
            "the session file exists", where=str(output), remedy="give --force to replace it, or another -o FILE"
        )


def _check(
    files: Sequence[str | os.PathLike[str]], sizes: Sequence[int], *, mode: Any, concurrency: Any, threads: Any,
    provider: Any, budget_s: Any,
) -> None:  # fmt: skip
    """Refuse what cannot be tuned, before anything is measured."""
    check_paths(files, remedy=IN_A_FILE)
    check_provider(provider)
    check_threads(threads)
    check_threads(concurrency)
    check_names("mode", mode, get_args(Mode)[:2])
    check_positive("budget_s", budget_s)
    if not files:
        raise InputRefused("there is nothing to tune", remedy="give an .onnx file")
    if len(sizes) != 1:
        raise InputRefused("a session is tuned for one batch size", found=str(tuple(sizes)), remedy="give one")
    if concurrency is not None and mode == "latency":
        raise InputRefused(
            "in latency mode one request runs at a time", found=f"concurrency={concurrency}",
            remedy="leave it out, or tune for mode throughput",
        )  # fmt: skip
    for file in files:
        require_onnx_file(Path(file))


def _part(told: Callable[[float], None] | None, index: int, n_parts: int, share: float) -> None:
    if told is not None:
        told((index + share) / n_parts)
