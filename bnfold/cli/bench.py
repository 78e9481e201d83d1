"""`bnfold bench FILE [FILE ...]`."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.bench_options import check_usage
from bnfold.cli.options import batch_option, dim_option, json_option, seed_option, session_option, verbosity_options
from bnfold.cli.outputs import writable
from bnfold.cli.parameter_types import NamedPath, Names, ShapeList, Threads
from bnfold.cli.quantities import Percent, Seconds
from bnfold.cli.summaries import summary_options, write_summaries
from bnfold.errors import GateFailed
from bnfold.runtime.providers import provider_names
from bnfold.workflows.arguments import MAX_THREADS, PEERS

if TYPE_CHECKING:
    from bnfold.records import BenchReport

__all__ = ["command"]


@click.command(name="bench")
@click.argument("files", metavar="FILE [FILE ...]", nargs=-1, required=True, type=NamedPath())
@batch_option((1,))
@click.option(
    "--provider", type=Names(*provider_names()), default="cpu", show_default=True,
    metavar=f"{'|'.join(provider_names())}[,...]",
    help="Where ONNX Runtime runs. Exit code 4 where it does not load; never another one instead.",
)  # fmt: skip
@click.option(
    "--threads", type=Threads(), default=None, metavar="N[,N...]",
    help="Threads of one operator.  [default: the CPUs this process may use]",
)  # fmt: skip
@click.option(
    "--opt-level", type=Names("disabled", "basic", "extended", "all"), default="all", show_default=True,
    metavar="LEVEL[,...]", help="How far ONNX Runtime may change the graph: disabled, basic, extended, all.",
)  # fmt: skip
@click.option(
    "--optimize", type=Names("online", "offline"), default="online", show_default=True, metavar="online|offline[,...]",
    help="When ONNX Runtime changes the graph: when it opens the file, or in a file that it has written before.",
)  # fmt: skip
@click.option("--cuda-graph", is_flag=True, help="With --provider cuda: measure with CUDA graphs, too.")
@click.option(
    "--mode", type=click.Choice(["latency", "throughput", "open-loop"]), default="latency", show_default=True,
    help="One request after the other; several at a time; or at random moments (Poisson), for the highest rate that "
    "keeps --slo-p95.",
)  # fmt: skip
@click.option(
    "--concurrency", type=click.IntRange(min=1, max=MAX_THREADS), metavar="N",
    help="Requests that run at the same time, in the modes throughput and open-loop.  "
    "[default: the CPUs this process may use]",
)  # fmt: skip
@click.option(
    "--slo-p95", "slo_s", type=Seconds(), metavar="TIME",
    help="Open loop: what 95 % of the requests must keep, from their arrival to the answer: 10ms.  [default: 10ms]",
)  # fmt: skip
@session_option
@click.option("--profile", is_flag=True, help="Tell where the time goes, by operator and by layer, for each file.")
@click.option(
    "--strict-provider", is_flag=True,
    help="Exit code 1 if a node that computes runs elsewhere than on --provider (arithmetic on shapes may).",
)  # fmt: skip
@click.option(
    "--input-shape", "input_shapes", type=ShapeList(), multiple=True, metavar="1xCxHxW[,...]",
    help="Shape of an input, batch first, where it cannot be known; once per input, in their order.",
)  # fmt: skip
@dim_option()
@click.option(
    "--budget", "budget_s", type=Seconds(), default=20.0, show_default="20s", metavar="TIME",
    help="Time for everything together, about: 60, 60s, 2m. Each file is opened six times in any case.",
)  # fmt: skip
@click.option("--baseline", type=NamedPath(), metavar="FILE", help="What --json wrote on this machine earlier.")
@click.option(
    "--fail-if-slower", type=Percent(), metavar="3%",
    help="Exit code 1 if the whole interval is slower than the baseline by more than this.",
)  # fmt: skip
@click.option(
    "--fail-if-slower-than", metavar="NAME",
    help="Exit code 1 if the first file is slower than this one, beyond --fail-if-slower or 0 %.",
)  # fmt: skip
@click.option(
    "--against", type=Names(*PEERS), default=(), metavar="PEER[,...]",
    help=f"Measure these in the same rounds, built from --source: {', '.join(PEERS)}.",
)  # fmt: skip
@click.option("--source", metavar="SOURCE", help="What the files were made from; see fold-export --help.")
@click.option("--weights", type=NamedPath(), metavar="FILE", help="Parameters of --source, .safetensors or .pt.")
@click.option("--pretrained", is_flag=True, help="Published parameters of --source (timm, torchvision).")
@click.option(
    "--inputs", type=NamedPath(), default=None, metavar="FILE.npz|FOLDER",
    help="Samples that the peers ort-static and ort-static-best are calibrated on.  [default: those of --source]",
)  # fmt: skip
@click.option("--data", metavar="DATA", help="The same from a data set; with labels, accuracy is measured too.")
@click.option("--download", is_flag=True, help="Fetch data that is not on this machine.")
@summary_options
@click.option(
    "--html", type=NamedPath(), metavar="FILE", callback=writable, help="Write the report as a page that opens offline."
)
@click.option(
    "--picture",
    type=NamedPath(),
    metavar="FILE",
    callback=writable,
    help="Write the pictures of it: FILE.svg or FILE.png.",
)
@seed_option
@json_option
@verbosity_options
def command(
    files: tuple[Path, ...],
    *,
    input_shapes: tuple[tuple[tuple[int, ...], ...], ...],
    slo_s: float | None,
    strict_provider: bool,
    json_file: str | None,
    junit: Path | None,
    markdown_file: Path | None,
    html: Path | None,
    picture: Path | None,
    **options: Any,
) -> None:
    """Measure .onnx files side by side, in turns; a ratio is time(first file) / time(other file).

    A ratio whose 99 % interval holds 1 is a tie. Put the file you want to know about first:
    bnfold bench folded.onnx plain.onnx

    Options with several values span a grid: --batch 1,8 --threads 1,2 measures four combinations. Ctrl-C prints what
    was measured so far.
    """
    from bnfold.benchmarking.placements import require_provider
    from bnfold.report import progress_bar, require_matplotlib
    from bnfold.workflows.benchmark import bench

    check_usage(slo_s=slo_s, input_shapes=input_shapes, picture=picture, **options)
    if html is not None or picture is not None:
        require_matplotlib()  # before the work begins
    if slo_s is not None:
        options["slo_p95_ms"] = slo_s * 1e3
    deliver = partial(
        _deliver, first=files[0], json_file=json_file, junit=junit, markdown_file=markdown_file, html=html,
        picture=picture,
    )  # fmt: skip
    so_far: list[BenchReport] = []
    try:
        with progress_bar("bench") as progress:
            report = bench(
                *files, input_shapes=input_shapes or None, progress=progress, partial=so_far.append, **options
            )
    except KeyboardInterrupt:
        for part in so_far:
            deliver(part)
        raise
    deliver(report)
    if strict_provider:
        require_provider(report.placements)
    failed = [gate for gate in report.gates if gate.verdict == "failed"]
    if failed:
        note = f" ({failed[0].note})" if failed[0].note else ""
        raise GateFailed(
            "slower than allowed", where=failed[0].name,
            found=f"{failed[0].low:.3f} to {failed[0].high:.3f}{note}", expected=f"at most {failed[0].limit:.3f}",
            remedy=f"{len(failed)} of {len(report.gates)} gates failed: find the change that costs time",
        )  # fmt: skip


def _deliver(
    report: BenchReport, *, first: Path, json_file: str | None, junit: Path | None, markdown_file: Path | None,
    html: Path | None, picture: Path | None,
) -> None:  # fmt: skip
    """Print and write a report, or what there is of it; what cannot be written leaves the rest.

    The page holds the proof of the first file, where it lies beside it.
    """
    from bnfold.records import as_json
    from bnfold.report import write_html, write_json, write_picture
    from bnfold.report.bench_summaries import bench_junit, bench_markdown
    from bnfold.workflows.proof import proof_beside

    with ExitStack() as rest:  # from the last to the first, whichever of them fails
        if picture is not None and report.runs:
            rest.callback(write_picture, as_json(report), picture)
        if html is not None:
            rest.callback(write_html, report, html, proof=proof_beside(first))
        rest.callback(
            write_summaries, bench_markdown(report), bench_junit(report), junit=junit, markdown_file=markdown_file
        )
        if json_file is not None:
            rest.callback(write_json, report, json_file)
        if json_file != "-" and report.runs:
            rest.callback(_echo, report)


def _echo(report: BenchReport) -> None:
    from bnfold.report import render_bench
    from bnfold.report.bench_summaries import gate_sentence

    render_bench(report)
    for gate in report.gates:
        click.echo(gate_sentence(gate))
    for peer in report.missing:
        click.echo(f"missing: {peer.name}: {peer.reason}; {peer.remedy}")
