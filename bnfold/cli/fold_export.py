"""`bnfold fold-export SOURCE -o DIR`."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import (
    comparison_options,
    interface_options,
    json_option,
    metadata_options,
    provider_option,
    seed_option,
    source_options,
    threads_option,
    verbosity_options,
)
from bnfold.cli.parameter_types import NamedPath
from bnfold.cli.quantities import Percent, Seconds
from bnfold.cli.summaries import summary_options, write_summaries
from bnfold.errors import GateFailed
from bnfold.workflows.arguments import MAX_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bnfold.records import FoldExportReport

    _Share = Callable[[float], None]

__all__ = ["command"]


@click.command(name="fold-export")
@click.argument("source")
@click.option(
    "-o", "--output", required=True, type=NamedPath(), metavar="DIR",
    help="Folder for model.onnx and report.json.",
)  # fmt: skip
@source_options
@interface_options
@click.option(
    "--opset",
    type=click.IntRange(min=1),
    metavar="N",
    help="ONNX opset of the file, from 11 on.  [default: the exporter's]",
)
@click.option(
    "--static-batch", type=click.IntRange(min=1, max=MAX_BATCH), metavar="N",
    help="Fix the batch dimension to N.  [default: dynamic]",
)  # fmt: skip
@metadata_options
@comparison_options
@provider_option
@threads_option
@seed_option
@click.option("--golden", is_flag=True, help="Write golden/ too, for `bnfold verify --against-bundle` without PyTorch.")
@click.option(
    "--certificate", is_flag=True,
    help="Write certificate.json and .npz too, for `bnfold verify --certificate` without folding.",
)  # fmt: skip
@click.option(
    "--quick", is_flag=True,
    help="Prove the file operator by operator and compare it on one input only; the verdict says so.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--keep-failed", is_flag=True, help="Keep a file that did not pass, as model.failed.onnx.")
@click.option("--keep-plain", is_flag=True, help="Write plain.onnx too: what torch.onnx.export makes by default.")
@click.option(
    "--measure", is_flag=True,
    help="Fold in other ways too, and take what is measured faster here: BatchNorms behind their ReLUs, dead channels "
    "left in, branches left apart.",
)  # fmt: skip
@click.option(
    "--budget", "budget_s", type=Seconds(or_none=True), default=None, metavar="TIME",
    help="Time of the measurement at the end, against the plain export or an .onnx SOURCE: 3s, 500ms; 0 for none.  "
    "[default: 3s]",
)  # fmt: skip
@click.option(
    "--fail-if-slower", type=Percent(), metavar="3%",
    help="Exit code 1, and no file, if the whole interval is slower than that by more than this.",
)  # fmt: skip
@click.option(
    "--input-format", default=None, metavar="uint8,nhwc,bgr,...",
    help="Let the file take pixels, and fold their preprocessing into the first weights: uint8,nhwc,bgr,divide=255,"
    "mean=0.485:0.456:0.406,std=0.229:0.224:0.225; imagenet, half or source in the place of the numbers; "
    "resize=256 for images of any size.",
)  # fmt: skip
@click.option("--drop-unused-inputs", is_flag=True, help="Leave out inputs that no output depends on.")
@click.option("--html", is_flag=True, help="Write report.html too: the report as a page that opens offline.")
@summary_options
@json_option
@verbosity_options
def command(
    source: str,
    output: Path,
    *,
    batch: tuple[int, ...],
    json_file: str | None,
    junit: Path | None,
    markdown_file: Path | None,
    **options: Any,
) -> None:
    """Fold every BatchNorm of SOURCE that can vanish, export ONNX, and prove the file equal.

    SOURCE: a run folder of `bnfold train`; a zoo name or .py file, with --weights; timm:NAME or torchvision:NAME, with
    --weights or --pretrained; package.module:factory or file.py:factory; a .pt2 or .onnx file.
    """
    from bnfold.report import write_json
    from bnfold.report.conversion_summaries import fold_export_junit, fold_export_markdown
    from bnfold.workflows.fold_export import fold_export

    options["input_shapes"] = options["input_shapes"] or None
    if options["budget_s"] is None:
        del options["budget_s"]  # the workflow has the default
    elif not options["budget_s"] and options["fail_if_slower"] is not None:
        raise click.UsageError("--fail-if-slower wants a measurement: give a --budget above 0.")
    with _show_stages(options) as (progress, share):
        report = fold_export(source, output, batches=batch, progress=progress, share=share, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        _echo_summary(report, output, html=options["html"])
    write_summaries(fold_export_markdown(report), fold_export_junit(report), junit=junit, markdown_file=markdown_file)
    if not report.verify.passed:
        raise GateFailed(
            "the folded file is not equal to the source",
            where=source,
            found=report.verify.failure,
            remedy=_remedy(report, output),
        )
    if not report.passed:
        raise _too_slow(report, source, output)


@contextmanager
def _show_stages(options: Mapping[str, Any]) -> Iterator[tuple[Callable[[str], None] | None, _Share | None]]:
    """A bar with the stage and the time left on a terminal; elsewhere the workflow logs the stages itself (None)."""
    if not sys.stderr.isatty() or not logging.getLogger("bnfold").isEnabledFor(logging.INFO):
        yield None, None
        return
    from bnfold.report import StagePace, stage_bar
    from bnfold.workflows.stages import BUDGET_S, expected_seconds

    budget_s = options.get("budget_s", BUDGET_S)
    pace = StagePace(expected_seconds(measure=options["measure"]), {"bench": budget_s} if budget_s else {})
    with stage_bar(pace):
        yield pace.begin, pace.tell


def _echo_summary(report: FoldExportReport, output: Path, *, html: bool) -> None:
    from bnfold.records import as_json
    from bnfold.records.sentences import preprocessing_sentence
    from bnfold.records.verdicts import verdict_in_words
    from bnfold.report import render_outcomes, render_removed_channels, render_verdict, tree_fits
    from bnfold.report.timings import slower_warning, timing_sentence

    ledger = report.ledger
    counts = ", ".join(f"{getattr(ledger, name)} {name}" for name in ("absorbed", "merged", "removed", "kept"))
    click.echo(f"BatchNorms: {ledger.found} found, {counts}")
    if ledger.kept and tree_fits(ledger):
        render_outcomes(ledger)
    else:
        for entry in ledger.entries:
            if entry.outcome == "kept":
                click.echo(f"  kept {entry.name}: {entry.reason}")
    render_removed_channels(report.removed_channels)
    if ledger.preprocessing is not None:
        click.echo(f"preprocessing: {preprocessing_sentence(ledger.preprocessing)}")
    for warning in ledger.warnings:
        click.echo(f"warning: {warning}")
    for m in ledger.choices:
        click.echo(
            f"measured on {m.provider}: {m.rewrite}: {m.with_ms:.3f} ms against {m.without_ms:.3f} ms, "
            f"ratio {m.ratio:.3f} ({m.low:.3f} to {m.high:.3f}), {verdict_in_words(vars(m))}, "
            f"{'taken' if m.taken else 'not taken'}"
        )
    render_verdict(report.verify)
    if report.timing is not None:
        facts = as_json(report.timing)
        click.echo(f"time: {timing_sentence(facts)}")
        if (lost := slower_warning(facts)) is not None:
            click.echo(f"warning: {lost}")
    if report.output is not None:
        click.echo(f"{output / report.output.path}: {report.output.bytes:,} bytes, opset {report.output.opset}")
    click.echo(str(output / "report.json"))
    if html:
        click.echo(str(output / "report.html"))


def _too_slow(report: FoldExportReport, source: str, output: Path) -> GateFailed:
    """The error for a file that is equal, and slower than allowed."""
    from bnfold.report.timings import AGAINST

    timing = report.timing
    if timing is None or timing.limit is None:
        raise RuntimeError("an equal file did not pass, and no limit of its time was given")
    lost = [part.name for part in timing.slower]
    return GateFailed(
        "the folded file is slower than allowed",
        where=source,
        found=f"{timing.low:.3f} to {timing.high:.3f} of the time of {AGAINST[timing.against]}, lost in "
        f"{', '.join(lost) or 'no operator alone'}",
        expected=f"at most {timing.limit:.3f}",
        remedy=f"try --measure, or keep the file you have; see {output / 'report.json'}; --keep-failed keeps this one",
    )


def _remedy(report: FoldExportReport, output: Path) -> str:
    kept = f"see {output / 'report.json'}; --keep-failed keeps the file for a closer look"
    departure = report.verify.departure
    if departure is None or departure.reproduction is None:
        return kept
    return f"python {output / departure.reproduction / 'reproduce.py'} shows the layer alone; {kept}"
