"""`bnfold quantize`: a source becomes an int8 or fp16 file, proven, and no worse and no slower than was allowed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.records.quantisation import CalibrationFacts, QuantizeReport
from bnfold.report.progress import notebook_stages
from bnfold.workflows.accounts import drawn
from bnfold.workflows.arguments import require_provider
from bnfold.workflows.calibration_samples import calibration_samples, network_and_inputs
from bnfold.workflows.conversion import convert, into_metadata
from bnfold.workflows.files import output_facts, write_model
from bnfold.workflows.int8_candidate import with_times
from bnfold.workflows.int8_plans import Search
from bnfold.workflows.networks import undisturbed
from bnfold.workflows.quantize_gates import failures_of, warnings_of
from bnfold.workflows.quantize_options import (
    HTML_NAME,
    OUTPUT_NAMES,
    PLAN_NAME,
    PROVIDERS,
    REPORT_NAME,
    Asked,
    check_options,
    failed_name,
    file_inputs,
    model_name,
    oldest_opset,
    provider_here,
    refuse_to_overwrite,
    target_of,
)
from bnfold.workflows.stages import BUDGET_S, QUANTIZE_STAGES
from bnfold.workflows.staging import staged_folder
from bnfold.workflows.stopwatch import Progress, Stopwatch
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from bnfold.records.recipes import Target, WeightScales

__all__ = ["MIN_SQNR_DB", "quantize"]

MIN_SQNR_DB = 15.0


@runs_user_code()
def quantize(
    source: Any,
    output: str | os.PathLike[str],
    *,
    example: Any = None,
    inputs: Any = None,
    data: str | None = None,
    precision: Asked = "int8",
    weights_file: str | os.PathLike[str] | None = None,
    weights: WeightScales = "per-channel",
    target: Target | None = None,
    keep_float: Sequence[str] = (),
    plan: str | os.PathLike[str] | None = None,
    measure: bool = False,
    max_drop: float | None = None,
    min_sqnr_db: float = MIN_SQNR_DB,
    budget_s: float = BUDGET_S,
    strict: bool = False,
    force: bool = False,
    keep_failed: bool = False,
    html: bool = False,
    pretrained: bool = False,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_dim: str | None = None,
    classes: str | os.PathLike[str] | None = None,
    normalize: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    download: bool = False,
    progress: Progress | None = None,
) -> QuantizeReport:
    """Fold a network, lower its precision, prove the file, and measure what it loses and what it is worth.

    `output` holds `model.int8.onnx` (or `model.fp16.onnx`) and `report.json` afterwards. Where the file is wrong, loses
    too much or is slower than the folded float file, the report says so (`report.passed`, `report.failures`), and there
    is no file.

    Args:
        source: a network in memory, as `fold_export` takes it, or a SOURCE, see docs/sources.md.
        output: the folder to write to; made where missing.
        example: what a module is called with, see `fold_export`; None takes two of the arrays in `inputs`.
        inputs: samples without labels: arrays or tensors by input name, samples first, or the one of the one input; an
            `.npz` file of such arrays, or a folder of images.
        data: samples of a data set, see `evaluate`; its test part says the accuracy of both files, if it has labels.
        precision: "int8" for CPUs, or "fp16" for CUDA, whose ranges are judged on the samples.
        weights_file: parameters for a source that has none of its own.
        weights: one scale for each output channel of a weight, or one for all.
        target: the processor that the file is for; None takes this machine's, for fp16 CUDA.
        keep_float: layers that stay float: by name, or all of a module.
        plan: a file that `measure` wrote: what it keeps float stays float.
        measure: time several plans here, take the fastest, and write it as `plan.json`.
        max_drop: with labels, how much accuracy the file may lose: 0.005 allows half a point.
        min_sqnr_db: without that, the least signal over noise of an output, in decibels.
        budget_s: seconds of the measurement against the folded float file, about; 0 for none.
        strict: what is undecided fails too.
        force: replace an existing output.
        keep_failed: keep a file that did not pass, as `model.int8.failed.onnx`.
        html: write `report.html` too.
        pretrained: see `fold_export`, as
        input_shapes: and
        input_dtypes: and
        dims: and
        batch_dim: and
        classes: and
        normalize: too.
        threads: threads of ONNX Runtime; None takes all that this process may use.
        seed: of the samples that are held out, and of the measurement.
        download: whether data that is not on this machine may be fetched.
        progress: called with the name of each stage when it begins; None logs it, and shows a bar in a notebook.

    Raises:
        InputRefused: the source, the samples or the output cannot be used.
        EnvironmentNotReady: ONNX Runtime or another package is missing.
    """
    from bnfold.quantisation.plans import plan_text
    from bnfold.quantisation.samples import split_samples
    from bnfold.quantisation.targets import this_target
    from bnfold.report import write_html, write_json
    from bnfold.sources import facts_of, stated
    from bnfold.sources.in_memory import named
    from bnfold.workflows.candidates import (
        candidate_of,
        digits_of,
        lowered,
        plans_where_slower,
        sensitivities_of,
        share_of_int8,
    )

    spec, folder, plan_from = named(source), Path(output), None if plan is None else Path(plan)
    chosen = target_of(precision, target)
    check_options(
        precision, min_sqnr_db, max_drop, inputs, data, plan=plan_from, measure=measure, weights=weights,
        threads=threads, budget_s=budget_s,
    )  # fmt: skip
    refuse_to_overwrite(spec, folder)
    require_provider("cpu")
    here = provider_here(chosen)
    with (
        notebook_stages(f"quantize {spec}", progress, QUANTIZE_STAGES) as told,
        undisturbed(source),
        staged_folder(folder, OUTPUT_NAMES, force=force) as stage,
        tempfile.TemporaryDirectory() as place,
    ):
        watch = Stopwatch(told)
        with watch.stage("load"):
            loaded, given = network_and_inputs(
                source, example, inputs, weights=weights_file, pretrained=pretrained, input_shapes=input_shapes,
                input_dtypes=input_dtypes, dims=dims, batch_dim=batch_dim,
            )  # fmt: skip
            facts = stated(facts_of(loaded), classes=classes, normalize=normalize)
        conversion = convert(
            loaded, watch, opset=oldest_opset(loaded), static_batch=None, provider=PROVIDERS[precision],
            bytes_read=precision == "int8",
        )  # fmt: skip
        facts = into_metadata(facts, loaded, conversion)
        float_file = write_model(conversion.folded, Path(place) / "float.onnx", output=folder)[0]
        specs = file_inputs(conversion.folded, loaded.inputs)
        with watch.stage("calibrate"):
            called, arrays = calibration_samples(
                given, data, float_file, specs, facts, where=spec, normalize=normalize, download=download
            )
            samples = split_samples(arrays, seed=seed, where=called)
            search = Search(
                conversion.folded, float_file, samples, specs, weights, chosen, threads, seed, spec,
                sensitivities_of(conversion, loaded, samples, precision), digits_of(conversion),
            )  # fmt: skip
            made, left, tried = lowered(
                search, precision, plan_from, measure=measure, keep_float=keep_float, budget_s=budget_s
            )  # fmt: skip
        files = write_model(made.model, stage / model_name(precision), output=folder)
        candidate = candidate_of(made, files[0], search, here)
        with watch.stage("prove"):
            proof, layers = candidate.prove(), candidate.layers()
        with watch.stage("measure"):
            error = candidate.error(proof.steps)
            accuracy = candidate.accuracy(data, max_drop, normalize=normalize, download=download)
        timing = None
        if budget_s and here is not None:
            with watch.stage("bench"):
                timing, times = candidate.timing(budget_s, seed)
            layers = with_times(layers, times)
            if precision == "int8" and plan is None:
                tried = plans_where_slower(search, timing, tried, keep_float=keep_float, budget_s=budget_s)
        failures = failures_of(proof, error, accuracy, timing, min_sqnr_db=min_sqnr_db, strict=strict)
        report = QuantizeReport(
            passed=not failures,
            precision=precision,
            source=loaded.facts,
            output=None if failures else output_facts(files, made.model),
            target=chosen,
            calibration=CalibrationFacts(called, samples.n, samples.sha256, samples.n_held_out, seed),
            gauge=made.gauge,
            layers=layers,
            error=error,
            proof=proof.facts,
            accuracy=accuracy,
            timing=timing,
            seconds=watch.seconds,
            warnings=warnings_of(error, accuracy, timing, chosen, this_target() if here is None else chosen),
            failures=failures,
            int8_share=share_of_int8(made),
            plans=tried,
            ledger=conversion.ledger,
            network=drawn(conversion.plain, conversion.folded),
            float_operators=candidate.float_operators(proof.unknown),
        )
        if measure:
            (stage / PLAN_NAME).write_text(plan_text(left, chosen), encoding="utf-8")
        _keep_or_remove(report, files, made.model, stage, output=folder, keep_failed=keep_failed)
        write_json(report, stage / REPORT_NAME)
        if html:
            write_html(report, stage / HTML_NAME)
    return report


def _keep_or_remove(
    report: QuantizeReport, files: Sequence[Path], model: onnx.ModelProto, stage: Path, *, output: Path,
    keep_failed: bool,
) -> None:  # fmt: skip
    """Take a file that did not pass away, or give it the name of one that failed."""
    if report.passed:
        return
    for file in files:
        file.unlink()
    if keep_failed:
        write_model(model, stage / failed_name(report.precision), output=output)
