"""`bnfold bench`: .onnx files measured side by side in one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

from bnfold.benchmarking import bench_files
from bnfold.benchmarking.axes import Axes, Optimize, OptLevel
from bnfold.benchmarking.gates import against_baseline, against_name, read_baseline
from bnfold.benchmarking.load import Load, Mode
from bnfold.benchmarking.subjects import distinct_names
from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records.input_shapes import check_shapes
from bnfold.report.progress import notebook_progress
from bnfold.runtime import available_threads, environment, most_telling
from bnfold.workflows.arguments import (
    IN_A_FILE,
    PEERS,
    batch_sizes,
    check_names,
    check_paths,
    check_positive,
    check_provider,
    check_threads,
)
from bnfold.workflows.bench_peers import PeerSamples, bench_peers, peer_name
from bnfold.workflows.session_files import session_axes
from bnfold.workflows.static_peers import files_of
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.records import BenchReport, MissingPeer
    from bnfold.runtime import Provider
    from bnfold.workflows.session_files import Session

__all__ = ["bench"]


@runs_user_code()
def bench(
    *files: str | Path,
    names: Sequence[str] | None = None,
    provider: Provider | Sequence[Provider] = "cpu",
    threads: int | Sequence[int | None] | None = None,
    opt_level: OptLevel | Sequence[OptLevel] = "all",
    optimize: Optimize | Sequence[Optimize] = "online",
    cuda_graph: bool = False,
    mode: Mode = "latency",
    concurrency: int | None = None,
    slo_p95_ms: float = 10.0,
    profile: bool = False,
    batch: tuple[int, ...] | int = (1,),
    budget_s: float = 20.0,
    input_shapes: Sequence[tuple[int, ...]] | Sequence[Sequence[tuple[int, ...]]] | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    partial: Callable[[BenchReport], None] | None = None,
    baseline: str | Path | None = None,
    fail_if_slower: float | None = None,
    fail_if_slower_than: str | None = None,
    against: Sequence[str] = (),
    source: str | None = None,
    weights: Path | None = None,
    pretrained: bool = False,
    inputs: Path | None = None,
    data: str | None = None,
    download: bool = False,
    session: Session | None = None,
) -> BenchReport:
    """Measure `.onnx` files side by side; every ratio is time(first file) / time(other file).

    Where `provider`, `threads`, `opt_level`, `batch` or `input_shapes` have several values, every combination of them
    is measured.

    Args:
        files: one or more files with the same inputs.
        names: names for the report, None for the files' stems.
        provider: one or several; never another one instead.
        threads: threads of one operator, None for every CPU this process may use.
        opt_level: how far ONNX Runtime may change the graph: "disabled", "basic", "extended", "all".
        optimize: the graph is changed when the file is loaded ("online"), or in a file written before ("offline").
        cuda_graph: on a provider that makes them, measure with CUDA graphs, too.
        mode: "latency", "throughput" or "open-loop"; see `bnfold.benchmarking.load`.
        concurrency: requests that run at the same time in the modes throughput and open-loop, None for as many as this
            process may use CPUs.
        slo_p95_ms: in the open loop, the limit of the 95th percentile.
        profile: tell where the time of each file goes, by operator and by layer.
        batch: the batch sizes, or one of them.
        budget_s: seconds for everything together, about.
        input_shapes: shapes of the inputs, batch first, where axes besides the batch are dynamic; or several shapes for
            each input.
        dims: sizes of dynamic axes by their name in the files (INPUT[AXIS] where one has none).
        seed: of the input values and of the bootstrap.
        progress: told the share that is done, 0 to 1; None shows a bar in a notebook.
        partial: given what was measured so far when an interrupt ends the work.
        baseline: the JSON report of an earlier run on this machine; each run it has becomes a gate.
        fail_if_slower: for these gates, 0.03 lets a file be 3 % slower; decided on the interval.
        fail_if_slower_than: the name of another file; that the first is not slower than it becomes a gate.
        against: other ways to run `source`, some of `PEERS`, built from it and measured in the same rounds.
        source: what the files were made from, see docs/sources.md.
        weights: parameters for a source that has none of its own.
        pretrained: take the pretrained parameters of timm or torchvision.
        inputs: samples that peers in int8 are calibrated on, and that all files are judged on: an `.npz` file of arrays
            by input name, or a folder of images.
        data: the same from a data set, see `evaluate`; with labels, the accuracy of the files is measured too.
        download: whether data that is not on this machine may be fetched.
        session: a session.json of `bnfold.tune`, or settings, for every file in place of provider, threads, opt_level,
            optimize and cuda_graph.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, the provider does not load, or `rival` is a peer that
            cannot take part.
        InputRefused: a file is missing, does not load or run, or the files cannot be compared.
    """
    check_paths(files, remedy=IN_A_FILE)
    batch = batch_sizes(batch)
    check_threads(threads)
    check_provider(provider)
    check_names("optimization level", opt_level, get_args(OptLevel))
    check_names("time of optimization", optimize, get_args(Optimize))
    check_names("mode", mode, get_args(Mode))
    check_names("peer", tuple(against), PEERS)
    check_positive("budget_s", budget_s)
    check_positive("slo_p95_ms", slo_p95_ms)
    check_shapes(input_shapes)
    own, settings = session_axes(
        session, files, provider=provider, threads=threads, opt_level=opt_level, optimize=optimize,
        cuda_graph=cuda_graph,
    )  # fmt: skip
    axes = Axes(**own, batch=batch, input_shapes=input_shapes, load=_load(mode, concurrency, slo_p95_ms))
    paths = [Path(file) for file in files]
    known = distinct_names(paths) if names is None else list(names)
    _check_gates(baseline, fail_if_slower, fail_if_slower_than, [*known[1:], *(peer_name(p, known) for p in against)])
    telling = most_telling(axes.providers).name
    earlier = None if baseline is None else read_baseline(Path(baseline), environment(telling))
    with TemporaryDirectory(prefix="bnfold-") as folder, notebook_progress("bench", progress) as told:
        samples = PeerSamples(inputs, data, seed, download=download)
        peers, missing = bench_peers(
            against,
            source,
            Path(folder),
            samples,
            known=known,
            weights=weights,
            pretrained=pretrained,
            input_shapes=input_shapes,
            dims=dims,
        )
        _require_rival(fail_if_slower_than, missing, known)
        report = bench_files(
            paths,
            axes,
            names=known,
            peers=peers,
            profile=profile,
            budget_s=budget_s,
            dims=dims,
            seed=seed,
            progress=told,
            partial=_with_missing(partial, missing),
            settings=settings,
        )
        lost = samples.losses({**dict(zip(known, paths, strict=True)), **files_of(peers)})
    rival, limit = fail_if_slower_than, fail_if_slower or 0.0
    gates = [] if rival is None else against_name(report, rival, limit)
    if earlier is not None:
        gates += against_baseline(report, earlier, limit, str(baseline))
    return dataclasses.replace(report, gates=tuple(gates), missing=tuple(missing), losses=lost)


def _check_gates(baseline: Any, fail_if_slower: float | None, rival: str | None, others: Sequence[str]) -> None:
    """Refuse what would make no gate."""
    if fail_if_slower is None and baseline is not None:
        raise InputRefused("a baseline needs a limit that it is held to", remedy="give fail_if_slower=0.03, or another")
    if fail_if_slower is not None and baseline is None and rival is None:
        raise InputRefused(
            "fail_if_slower needs something to compare with", found=f"fail_if_slower={fail_if_slower}",
            remedy="give a baseline, or fail_if_slower_than",
        )  # fmt: skip
    if rival is not None and rival not in others:
        raise InputRefused(
            "fail_if_slower_than must name another file of the measurement", found=rival,
            expected=", ".join(others) or "a second file",
            remedy="name one of the files as the table does",
        )  # fmt: skip


def _require_rival(rival: str | None, missing: Sequence[MissingPeer], known: Sequence[str]) -> None:
    """Refuse a gate against a peer that cannot take part: it would never fail."""
    for peer in missing:
        if peer_name(peer.name, known) == rival:
            raise EnvironmentNotReady(
                "the peer that fail_if_slower_than names cannot take part", where=peer.name,
                found=peer.reason, remedy=peer.remedy,
            )  # fmt: skip


def _load(mode: Mode, concurrency: int | None, slo_p95_ms: float) -> Load:
    workers = 1 if mode == "latency" else concurrency or available_threads()
    return Load(mode, workers, slo_p95_ms)


def _with_missing(
    partial: Callable[[BenchReport], None] | None, missing: list[MissingPeer]
) -> Callable[[BenchReport], None] | None:
    if partial is None:
        return None
    return lambda report: partial(dataclasses.replace(report, missing=tuple(missing)))
