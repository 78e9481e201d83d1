"""`bnfold quantize SOURCE -o DIR`."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import (
    json_option,
    metadata_options,
    seed_option,
    source_options,
    threads_option,
    verbosity_options,
)
from bnfold.cli.parameter_types import NamedPath
from bnfold.cli.quantities import Part, Seconds
from bnfold.cli.summaries import summary_options, write_summaries
from bnfold.errors import GateFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bnfold.records.quantisation import QuantizeReport

__all__ = ["command"]

_SCALES = ("per-channel", "per-tensor")


def _read_weights(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """`--weights` is both the scales of the weights and the file with the parameters of a source."""
    scales = [value for value in given if value in _SCALES]
    files = [value for value in given if value not in _SCALES]
    if len(scales) > 1 or len(files) > 1:
        raise click.BadParameter(
            f"{' and '.join(scales if len(scales) > 1 else files)} exclude each other.", ctx, param
        )
    file = NamedPath().convert(files[0], param, ctx) if files else None
    return {"weights": scales[0] if scales else "per-channel", "weights_file": file}


def _source_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a SOURCE may need, with a `--weights` that also takes the scales of the weights."""
    decorated = source_options(function)
    parameters = decorated.__click_params__  # type: ignore[attr-defined]
    parameters[:] = [parameter for parameter in parameters if parameter.name != "weights"]
    return click.option(
        "--weights", "both_weights", multiple=True, metavar="per-channel|per-tensor|FILE", callback=_read_weights,
        help="One scale for each output channel of a weight, or one for all  [default: per-channel]; or the parameters "
        "of SOURCE, .safetensors or .pt; repeatable.",
    )(decorated)  # fmt: skip


@click.command(name="quantize")
@click.argument("source")
@click.option(
    "-o", "--output", required=True, type=NamedPath(), metavar="DIR",
    help="Folder for model.int8.onnx (model.fp16.onnx) and report.json.",
)  # fmt: skip
@click.option(
    "--inputs", type=NamedPath(), default=None, metavar="FILE.npz|FOLDER",
    help="Samples without labels: arrays by input name, as the network reads them, or a folder of images.",
)  # fmt: skip
@click.option(
    "--data", metavar="DATA",
    help="Samples of a data set: digits, folder:PATH, npz:PATH, torchvision:NAME, hf:NAME; with labels, the accuracy "
    "of both files is measured.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["int8", "fp16"]), default="int8", show_default=True,
    help="int8 for CPUs; fp16 for CUDA, with float32 where values would leave its range.",
)  # fmt: skip
@click.option(
    "--target", type=click.Choice(["x86-vnni", "x86", "arm", "cuda"]), default=None,
    help="The processor that the file is for.  [default: this machine's; for fp16 cuda]",
)  # fmt: skip
@click.option(
    "--keep-float", multiple=True, metavar="LAYER", help="A layer, or a module, that stays float; repeatable."
)
@click.option(
    "--measure", is_flag=True,
    help="Time several plans of what stays float here, take the fastest, and write it as plan.json.",
)  # fmt: skip
@click.option(
    "--plan", type=NamedPath(), default=None, metavar="FILE", help="Keep float what a plan.json of --measure keeps."
)
@click.option(
    "--max-drop", type=Part(), metavar="0.5%|0.005",
    help="With labels: exit code 1, and no file, if accuracy falls by more than this.",
)  # fmt: skip
@click.option(
    "--min-sqnr", "min_sqnr_db", type=float, default=15.0, show_default=True, metavar="DB",
    help="Without --max-drop: exit code 1, and no file, if an output has less signal over quantisation noise.",
)  # fmt: skip
@click.option(
    "--budget", "budget_s", type=Seconds(or_none=True), default=None, metavar="TIME",
    help="Time of the measurement against the folded float file: 3s, 500ms; 0 for none.  [default: 3s]",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="What is undecided fails too.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--keep-failed", is_flag=True, help="Keep a file that did not pass, as model.int8.failed.onnx.")
@click.option("--html", is_flag=True, help="Write report.html too.")
@click.option("--download", is_flag=True, help="Fetch data that is not on this machine.")
@metadata_options
@_source_options
@threads_option
@seed_option
@summary_options
@json_option
@verbosity_options
def command(
    source: str,
    output: Path,
    *,
    json_file: str | None,
    junit: Path | None,
    markdown_file: Path | None,
    **options: Any,
) -> None:
    """Fold SOURCE, quantise it to int8 or write it in fp16, prove the file, and measure what it loses and is worth.

    A part of the samples is held out: on it the file is judged. Exit code 1, and no file, where ONNX Runtime does not
    compute what the file says, where too much is lost, or where the file is slower than float.
    """
    from bnfold.report import write_json
    from bnfold.report.quantisation_summaries import quantize_junit, quantize_markdown
    from bnfold.workflows.quantize import quantize

    options["input_shapes"] = options["input_shapes"] or None
    options |= options.pop("both_weights")
    if options["budget_s"] is None:
        del options["budget_s"]  # the workflow has the default
    with _show_stages() as progress:
        report = quantize(source, output, progress=progress, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        _echo_summary(report, output)
    write_summaries(quantize_markdown(report), quantize_junit(report), junit=junit, markdown_file=markdown_file)
    if not report.passed:
        raise GateFailed(
            f"the {report.precision} file did not pass",
            where=source,
            found="; ".join(report.failures[:3])
            + (f"; and {len(report.failures) - 3} more" * (len(report.failures) > 3)),
            remedy=f"keep the float file, or try --keep-float LAYER; see {output / 'report.json'}; --keep-failed keeps "
            "this one",
        )


@contextmanager
def _show_stages() -> Iterator[Callable[[str], None] | None]:
    """The stage on a terminal; elsewhere the workflow logs the stages itself (None)."""
    if not sys.stderr.isatty() or not logging.getLogger("bnfold").isEnabledFor(logging.INFO):
        yield None
        return
    from bnfold.report import stage_spinner

    with stage_spinner() as begin:
        yield begin


def _echo_summary(report: QuantizeReport, output: Path) -> None:
    from bnfold.records.verdicts import verdict_in_words

    counts = Counter(layer.precision for layer in report.layers)
    click.echo(f"layers: {counts[report.precision]} {report.precision}, {counts['float32']} float32")
    for layer in report.layers:
        if layer.reason is not None:
            click.echo(f"  float {layer.name}: {layer.sentence}")
    for group in report.float_operators:
        more = f" and {len(group.nodes) - 1} more" if len(group.nodes) > 1 else ""
        click.echo(f"  float {group.op}, {group.nodes[0]}{more}: {group.sentence}")
    if report.error is not None:
        for out in report.error.outputs:
            same = "" if out.agreement is None else f", the same class for {out.agreement:.1%}"
            samples = f"{report.error.n} held-out sample{'' if report.error.n == 1 else 's'}"
            click.echo(f"{out.name}: {out.sqnr_db:.1f} dB{same}, on {samples}")
    if report.accuracy is not None:
        own = report.accuracy
        click.echo(
            f"{own.metric}: {own.own:.4f} against {own.float_:.4f}, {100 * own.difference:+.2f} points "
            f"({100 * own.low:+.2f} to {100 * own.high:+.2f})"
        )
    if report.timing is not None:
        timing = report.timing
        click.echo(
            f"time: {timing.ratio:.3f} of the folded float file's ({timing.low:.3f} to {timing.high:.3f}), "
            f"{verdict_in_words(vars(timing))}"
        )
    for plan in report.plans:
        share = "" if plan.int8_share is None else f", {plan.int8_share:.0%} of the multiply-adds in int8"
        click.echo(
            f"  plan {plan.name}: {plan.ratio:.3f} of the float file's time ({plan.low:.3f} to {plan.high:.3f}), "
            f"{plan.sqnr_db:.1f} dB{share}"
        )
    for warning in report.warnings:
        click.echo(f"warning: {warning}")
    if report.output is not None:
        click.echo(f"{output / report.output.path}: {report.output.bytes:,} bytes, opset {report.output.opset}")
    click.echo(str(output / "report.json"))
