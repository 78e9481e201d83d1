"""`bnfold quantize`: a source becomes an int8 file that is proven, and no worse and no slower than was allowed."""

from __future__ import annotations

import logging
import math
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records.quantisation import (
    CalibrationFacts,
    QuantizeReport,
)
from bnfold.workflows.arguments import check_threads, check_time_gate, require_provider
from bnfold.workflows.calibration_samples import calibration_samples
from bnfold.workflows.conversion import convert, into_metadata
from bnfold.workflows.files import output_facts, write_model
from bnfold.workflows.int8_candidate import Candidate, failures_of, warnings_of
from bnfold.workflows.int8_plans import Search, share_in_integers, what_stays_float
from bnfold.workflows.stages import BUDGET_S
from bnfold.workflows.staging import staged_folder
from bnfold.workflows.stopwatch import Progress, Stopwatch
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx

    from bnfold.records import InputSpec
    from bnfold.records.quantisation import Target, WeightScales
    from bnfold.sources.types import Source

__all__ = ["FAILED_NAME", "MIN_SQNR_DB", "MODEL_NAME", "quantize"]

MODEL_NAME = "model.int8.onnx"
FAILED_NAME = "model.int8.failed.onnx"
REPORT_NAME = "report.json"
HTML_NAME = "report.html"
PLAN_NAME = "plan.json"
_OUTPUT_NAMES = (MODEL_NAME, FAILED_NAME, REPORT_NAME, HTML_NAME, PLAN_NAME)
MIN_SQNR_DB = 15.0

log = logging.getLogger("bnfold.workflows")


@runs_user_code()
def quantize(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    inputs: Path | None = None,
    data: str | None = None,
    weights_file: str | os.PathLike[str] | None = None,
    weights: WeightScales = "per-channel",
    target: Target | None = None,
    keep_float: Sequence[str] = (),
    plan: Path | None = None,
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
    """Fold a network, quantise it to int8, prove the file, and measure what it loses and what it is worth.

    `output` holds `model.int8.onnx` and `report.json` afterwards. Where the file is wrong, loses too much or is slower
    than the folded float file, the report says so (`report.passed`, `report.failures`), and there is no file.

    Args:
        source: see SOURCE in the README.
        output: the folder to write to; made where missing.
        inputs: samples without labels: an `.npz` file of arrays by input name, or a folder of images.
        data: samples of a data set, see `evaluate`; its test part says the accuracy of both files, if it has labels.
        weights_file: parameters for a source that has none of its own.
        weights: one scale for each output channel of a weight, or one for all.
        target: the processor that the file is for; None takes this machine's.
        keep_float: layers that stay float: by name, or all of a module.
        plan: a file that `measure` wrote: what it keeps float stays float.
        measure: time several plans here, take the fastest, and write it as `plan.json`.
        max_drop: with labels, how much accuracy the file may lose: 0.005 allows half a point.
        min_sqnr_db: without that, the least signal over noise of an output, in decibels.
        budget_s: seconds of the measurement against the folded float file, about; 0 for none.
        strict: what is undecided fails too.
        force: replace an existing output.
        keep_failed: keep a file that did not pass as `model.int8.failed.onnx`.
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
        progress: called with the name of each stage when it begins; None logs it.

    Raises:
        InputRefused: the source, the samples or the output cannot be used.
        EnvironmentNotReady: ONNX Runtime or another package is missing.
    """
    from bnfold.quantisation.plans import plan_text
    from bnfold.quantisation.quantise import quantise
    from bnfold.quantisation.samples import split_samples
    from bnfold.quantisation.targets import this_target
    from bnfold.report import write_html, write_json
    from bnfold.sources import facts_of, load_source, stated
    from bnfold.verification.execution.settled_sizes import settled

    spec, folder = os.fspath(source), Path(output)
    check_threads(threads)
    check_time_gate(budget_s, None)
    _check_options(min_sqnr_db, max_drop, data, plan if measure else None)
    _refuse_to_overwrite(spec, folder)
    require_provider("cpu")
    chosen: Target = target or this_target()
    watch = Stopwatch(progress or _log_stage)
    with staged_folder(folder, _OUTPUT_NAMES, force=force) as stage, tempfile.TemporaryDirectory() as place:
        with watch.stage("load"):
            loaded = settled(
                load_source(
                    spec, weights=weights_file, pretrained=pretrained, input_shapes=input_shapes,
                    input_dtypes=input_dtypes, dims=dims, batch_dim=batch_dim,
                )
            )  # fmt: skip
            facts = stated(facts_of(loaded), classes=classes, normalize=normalize)
        conversion = convert(loaded, watch, opset=_opset(loaded), static_batch=None, provider="cpu")
        facts = into_metadata(facts, loaded, conversion)
        float_file = write_model(conversion.folded, Path(place) / "float.onnx", output=folder)[0]
        specs = _file_inputs(conversion.folded, loaded.inputs)
        with watch.stage("calibrate"):
            called, arrays = calibration_samples(
                inputs, data, float_file, specs, facts, normalize=normalize, download=download
            )
            samples = split_samples(arrays, seed=seed, where=called)
            search = Search(conversion.folded, float_file, samples, specs, weights, chosen, threads, seed, spec)
            left, tried = what_stays_float(search, plan, measure=measure, keep_float=keep_float, budget_s=budget_s)
            made = quantise(
                conversion.folded, samples, specs, weights=weights, target=chosen, keep_float=keep_float, kept=left,
                threads=threads, where=spec,
            )  # fmt: skip
        files = write_model(made.model, stage / MODEL_NAME, output=folder)
        candidate = Candidate(files[0], float_file, made, samples, specs, threads)
        with watch.stage("prove"):
            proof, layers = candidate.prove(), candidate.layers()
        with watch.stage("measure"):
            error = candidate.error(proof.steps)
            accuracy = candidate.accuracy(data, max_drop, normalize=normalize, download=download)
        timing = None
        if budget_s and chosen == this_target():
            with watch.stage("bench"):
                timing = candidate.timing(budget_s, seed)
        failures = failures_of(proof, error, accuracy, timing, min_sqnr_db=min_sqnr_db, strict=strict)
        report = QuantizeReport(
            passed=not failures,
            precision="int8",
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
            warnings=warnings_of(error, timing, chosen, this_target()),
            failures=failures,
            int8_share=share_in_integers(made.reference, [node.name for node in made.recipe.nodes]),
            plans=tried,
        )
        if measure:
            (stage / PLAN_NAME).write_text(plan_text(list(left or ()), chosen), encoding="utf-8")
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
        write_model(model, stage / FAILED_NAME, output=output)


def _file_inputs(folded: onnx.ModelProto, inputs: Sequence[InputSpec]) -> tuple[InputSpec, ...]:
    """The inputs that the folded file still has, in its order."""
    own = {spec.name: spec for spec in inputs}
    return tuple(own[value.name] for value in folded.graph.input if value.name in own)


def _opset(source: Source) -> int | None:
    """13 for a file that is older: scales per channel begin there."""
    from bnfold.quantisation.prepare import OLDEST_OPSET
    from bnfold.sources.types import OnnxSource

    if not isinstance(source, OnnxSource):
        return None
    own = source.model.opset_imports.get("", OLDEST_OPSET)
    return OLDEST_OPSET if own < OLDEST_OPSET else None


def _check_options(min_sqnr_db: Any, max_drop: Any, data: str | None, plan: Path | None) -> None:
    if plan is not None:
        raise InputRefused("a plan is given, and one is to be measured", remedy="give --plan or --measure")
    if isinstance(min_sqnr_db, bool) or not isinstance(min_sqnr_db, (int, float)) or not math.isfinite(min_sqnr_db):
        raise InputRefused("min_sqnr_db must be a number of decibels", found=repr(min_sqnr_db), remedy="give 15")
    if max_drop is not None and data is None:
        raise InputRefused(
            "a limit on accuracy wants labels", found=f"max_drop={max_drop}, no data",
            remedy="give labelled data with --data, or --min-sqnr in its place",
        )  # fmt: skip


def _refuse_to_overwrite(spec: str, folder: Path) -> None:
    source = Path(spec)
    if source.is_file() and any(source.resolve() == (folder / name).resolve() for name in _OUTPUT_NAMES):
        raise InputRefused("the output would overwrite the source", where=spec, remedy="choose another folder with -o")


def _log_stage(stage: str) -> None:
    log.info("%s", stage)
