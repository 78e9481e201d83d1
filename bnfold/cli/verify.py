"""`bnfold verify REFERENCE CANDIDATE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import (
    comparison_options,
    interface_options,
    json_option,
    provider_option,
    seed_option,
    session_option,
    source_options,
    threads_option,
    verbosity_options,
)
from bnfold.cli.parameter_types import NamedPath
from bnfold.cli.summaries import summary_options, write_summaries
from bnfold.errors import GateFailed

if TYPE_CHECKING:
    from bnfold.records import Verdict

__all__ = ["command"]

SCHEMA = "bnfold.verify/1"
"""Of the JSON: a verdict, which fold-export's report holds too, without one."""
QUANTISED = (
    "the file is quantised: if bnfold quantize made it from the reference, its report.json has the proof, and bnfold "
    "evaluate says what it loses; else export it again from this source"
)


@click.command(name="verify")
@click.argument("files", metavar="[REFERENCE] CANDIDATE", nargs=-1, required=True)
@click.option(
    "--against-bundle", "bundle", type=NamedPath(), metavar="DIR",
    help="Judge CANDIDATE alone, by the folder that fold-export --golden or bundle wrote; needs no PyTorch.",
)  # fmt: skip
@source_options
@interface_options
@comparison_options
@provider_option
@threads_option
@session_option
@seed_option
@click.option(
    "--reproduction", type=NamedPath(file_okay=False), metavar="DIR",
    help="Write the first diverging layer of a file that is not equal to DIR, to run without bnfold.",
)  # fmt: skip
@click.option(
    "--certificate", type=NamedPath(), metavar="FILE",
    help="Prove CANDIDATE by the certificate.json that fold-export --certificate wrote.",
)  # fmt: skip
@summary_options
@json_option
@verbosity_options
def command(
    files: tuple[str, ...],
    *,
    bundle: Path | None,
    json_file: str | None,
    junit: Path | None,
    markdown_file: Path | None,
    **options: Any,
) -> None:
    """Compare the .onnx file CANDIDATE with REFERENCE, any SOURCE of fold-export.

    Both are measured against REFERENCE in float64; CANDIDATE may lie no further from it than right files do. Exit
    code 1 where it is not equal.
    """
    from bnfold.records import as_json
    from bnfold.report import render_verdict, write_json
    from bnfold.report.verification_summaries import verify_junit, verify_markdown

    candidate = files[-1]
    verdict = _against_source(files, options) if bundle is None else _against_bundle(files, bundle, options)
    if json_file is not None:
        write_json({"schema": SCHEMA, **as_json(verdict)}, json_file)
    if json_file != "-":
        render_verdict(verdict)
    write_summaries(
        verify_markdown(verdict, candidate), verify_junit(verdict, candidate), junit=junit, markdown_file=markdown_file
    )
    if not verdict.passed:
        raise GateFailed(
            "the file is not equal to its reference",
            where=candidate,
            found=verdict.failure,
            remedy=QUANTISED if _is_quantised(candidate) else _remedy(verdict),
        )


def _against_source(files: tuple[str, ...], options: dict[str, Any]) -> Verdict:
    from bnfold.workflows.compare import verify

    if len(files) != 2:
        raise click.UsageError("give REFERENCE and CANDIDATE, or --against-bundle DIR and CANDIDATE.")
    options["input_shapes"] = options["input_shapes"] or None
    return verify(*files, batches=options.pop("batch"), **options)


def _against_bundle(files: tuple[str, ...], bundle: Path, options: dict[str, Any]) -> Verdict:
    from bnfold.workflows.compare import verify_bundle

    if len(files) != 1:
        raise click.UsageError("--against-bundle takes the place of REFERENCE: give CANDIDATE alone.")
    kept = {name: options.pop(name) for name in ("provider", "threads", "seed", "session")}
    given = sorted(name for name, value in options.items() if value)
    if given:
        raise click.UsageError(f"--against-bundle holds its inputs, and takes no {', '.join(given)}.")
    return verify_bundle(bundle, files[0], **kept)


def _is_quantised(file: str) -> bool:
    import onnx

    from bnfold.graph.operators import Trait, having

    known = {operator.name for operator in having(Trait.QUANTISED)}
    return any(node.op_type in known for node in onnx.load(file, load_external_data=False).graph.node)


def _remedy(verdict: Verdict) -> str:
    departure = verdict.departure
    if departure is None:
        return "export it again from this source, or compare it with the source it was made from"
    if departure.reproduction is None:
        return "see the layer alone with --reproduction DIR, or export it again from this source"
    return f"python {Path(departure.reproduction) / 'reproduce.py'} shows the layer alone"
