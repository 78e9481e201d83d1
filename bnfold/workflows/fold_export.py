"""`bnfold fold-export`: a source becomes `model.onnx` without its BatchNorms, proven equal, and `report.json`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bnfold.errors import InputRefused
from bnfold.records import FoldExportReport, Verdict
from bnfold.workflows.arguments import batch_sizes, check_threads, check_time_gate, require_provider
from bnfold.workflows.conversion import Conversion, convert, into_metadata, measured_conversion, with_facts
from bnfold.workflows.files import output_facts, plain_file, settle_interface, write_model
from bnfold.workflows.staging import staged_folder
from bnfold.workflows.stopwatch import Progress, Stopwatch
from bnfold.workflows.timing import time_against
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    import onnx

    from bnfold.sources.types import Source

__all__ = ["FAILED_NAME", "MODEL_NAME", "PLAIN_NAME", "REPORT_NAME", "STAGES", "fold_export", "plain_file"]

STAGES = ("load", "export", "fold", "simplify", "verify", "bench")
# Of a ResNet-50, the interpreter's imports included; what counts is what they are of each other.
EXPECTED_SECONDS = {"load": 3.6, "export": 4.4, "fold": 0.9, "simplify": 0.3, "verify": 3.4}
MEASURE_SECONDS = 20.0
BUDGET_S = 3.0

MODEL_NAME = "model.onnx"
FAILED_NAME = "model.failed.onnx"
PLAIN_NAME = "plain.onnx"
REPRODUCTION_NAME = "reproduction"
GOLDEN_NAME = "golden"
REPORT_NAME = "report.json"
HTML_NAME = "report.html"
CERTIFICATE_NAME = "certificate.json"
CERTIFICATE_NUMBERS_NAME = "certificate.npz"
_FILES = (MODEL_NAME, FAILED_NAME, PLAIN_NAME)
# .data: networks above 2 GB
_FOLDERS = (REPRODUCTION_NAME, GOLDEN_NAME)
_CERTIFICATE = (CERTIFICATE_NAME, CERTIFICATE_NUMBERS_NAME)
_OUTPUT_NAMES = (REPORT_NAME, HTML_NAME, *_CERTIFICATE, *_FOLDERS, *_FILES, *(f"{name}.data" for name in _FILES))

logger = logging.getLogger("bnfold.workflows")


@runs_user_code()
def fold_export(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_dim: str | None = None,
    opset: int | None = None,
    static_batch: int | None = None,
    batch: int | Sequence[int] | None = None,
    batches: int | Sequence[int] = (),
    inputs: Path | None = None,
    classes: str | os.PathLike[str] | None = None,
    normalize: str | None = None,
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
    seed: int = 0,
    force: bool = False,
    keep_failed: bool = False,
    keep_plain: bool = False,
    measure: bool = False,
    budget_s: float = BUDGET_S,
    fail_if_slower: float | None = None,
    golden: bool = False,
    drop_unused_inputs: bool = False,
    certificate: bool = False,
    quick: bool = False,
    html: bool = False,
    progress: Progress | None = None,
    share: Callable[[float], None] | None = None,
) -> FoldExportReport:
    """Fold the BatchNorms of a network into its weights, export it to ONNX, and prove the file equal.

    `output` holds `model.onnx` and `report.json` afterwards. When the file is not equal, the report says so
    (`report.passed`), and there is no `model.onnx`. An equal file is measured beside the plain export, or beside the
    source where that is an `.onnx` file; the bytes of the file do not depend on it.

    Args:
        source: what to export, see SOURCE in the README: a run folder, a file, or a name such as `timm:resnet18`.
        output: the folder to write to; made where missing.
        weights: parameters for a source that has none of its own (`.safetensors`, `.pt`).
        pretrained: take the pretrained parameters of timm or torchvision, which may download them.
        input_shapes: one shape per input, batch first, where the source does not tell them.
        input_dtypes: NumPy's name of each input's type, or one for all, where Python code does not tell them.
        dims: sizes of an `.onnx` file's dynamic axes, by their name in the file (`INPUT[AXIS]` where it has none).
        batch_dim: the name of the axis that counts the samples; None for one called batch, else axis 0.
        opset: the ONNX opset of the file; None takes the exporter's own.
        static_batch: fix the batch dimension to this size; None keeps it dynamic.
        batch: batch sizes at which the file is compared besides 1, 2 and 3, or one of them.
        batches: the same by another name.
        inputs: an `.npz` file of arrays by input name, or a folder of images, that the file is compared on; see
            `bnfold.verification.user_inputs`. None takes the source's own samples, or random inputs.
        classes: for the file's metadata: a file with the class names in the order of the output, or "imagenet"; None
            takes what the source says, see `bnfold.sources.file_facts`.
        normalize: how images become the input, see `bnfold.sources.preprocessing`, likewise.
        provider: the ONNX Runtime provider that the file is compared on.
        threads: threads of ONNX Runtime; None takes all that this process may use.
        seed: seed of the random inputs of the comparison.
        force: replace an existing output.
        keep_failed: keep a file that is not equal as `model.failed.onnx`.
        keep_plain: write `plain.onnx` too, the file that `torch.onnx.export` makes by default, to compare with.
        measure: fold in other ways too: BatchNorms moved behind their ReLUs, dead channels left in, branches left
            apart; take what is measured faster on `provider`.
        budget_s: seconds of the measurement at the end, about; 0 for none.
        fail_if_slower: 0.03 lets the file be 3 % slower; a whole interval beyond that is a failure, as one that is not
            equal. What is undecided does not fail.
        golden: write the folder `golden` too, by which `bnfold verify --against-bundle` judges a file without PyTorch.
        drop_unused_inputs: leave out inputs that no output depends on; without it they stay, with a warning.
        certificate: write `certificate.json` and `certificate.npz` too, by which `bnfold verify --certificate` proves
            the file again without folding.
        quick: compare a file that is proven operator by operator on one input only; the verdict says so (`quick`). One
            that is not proven, or does not pass on that input, is compared on all.
        html: write `report.html` too, the report as a page.
        progress: called with the name of each of `STAGES` when it begins (no "bench" without a budget); None logs it.
        share: told how much of "verify" is done, from 0 to 1.

    Raises:
        InputRefused: the source or the output cannot be used, or a limit of time was given and cannot be measured.
        EnvironmentNotReady: ONNX Runtime, the provider or another package is missing.
    """
    from bnfold.report import write_html, write_json
    from bnfold.sources import facts_of, load_source, stated
    from bnfold.verification.settle import settled
    from bnfold.verification.user_inputs import with_inputs

    spec, folder = os.fspath(source), Path(output)
    batches = batch_sizes(batch, batches)
    batch_sizes(static_batch)
    check_threads(threads)
    check_time_gate(budget_s, fail_if_slower)
    _refuse_to_overwrite_source(spec, folder)
    require_provider(provider)
    watch = Stopwatch(progress or _log_stage)
    with staged_folder(folder, _OUTPUT_NAMES, force=force) as stage:
        with watch.stage("load"):
            loaded = load_source(
                spec, weights=weights, pretrained=pretrained, input_shapes=input_shapes, input_dtypes=input_dtypes,
                dims=dims, batch_dim=batch_dim,
            )  # fmt: skip
            loaded = settled(with_inputs(loaded, inputs), batch=static_batch)
            facts = stated(facts_of(loaded), classes=classes, normalize=normalize)
        conversion = convert(loaded, watch, opset=opset, static_batch=static_batch, provider=provider)
        if measure:
            with watch.stage("measure"):
                conversion = measured_conversion(
                    conversion, batch=static_batch or 1, provider=provider, threads=threads, input_shapes=input_shapes
                )
        settle_interface(
            loaded, conversion.plain, conversion.folded, static_batch=static_batch, drop=drop_unused_inputs,
            golden=golden,
        )  # fmt: skip
        facts = into_metadata(facts, loaded, conversion)
        files = write_model(conversion.folded, stage / MODEL_NAME, output=folder)
        with watch.stage("verify"):
            verdict = _verify(
                loaded, conversion, files[0], batches=batches, provider=provider, threads=threads, seed=seed,
                quick=quick, share=share,
            )  # fmt: skip
        timing = None
        if verdict.passed and budget_s:
            with watch.stage("bench"):
                timing = time_against(
                    files[0], loaded, lambda: plain_file(loaded, conversion.plain), batch=static_batch,
                    provider=provider, threads=threads, seed=seed, budget_s=budget_s, fail_if_slower=fail_if_slower,
                )  # fmt: skip
        passed = verdict.passed and not (timing is not None and timing.failed)
        report = FoldExportReport(
            passed=passed,
            source=loaded.facts,
            output=output_facts(files, conversion.folded) if passed else None,
            ledger=conversion.ledger,
            graph=conversion.graph,
            verify=verdict,
            seconds=watch.seconds,
            facts=facts,
            timing=timing,
        )
        if not report.passed:
            for file in files:
                file.unlink()
            if keep_failed:
                write_model(conversion.folded, stage / FAILED_NAME, output=folder)
        elif keep_plain:
            write_model(
                with_facts(plain_file(loaded, conversion.plain), conversion, facts), stage / PLAIN_NAME, output=folder
            )
        if certificate and report.passed:
            options = {"opset": opset, "static_batch": static_batch}
            _write_certificate(stage / CERTIFICATE_NAME, conversion, report, options)
        if golden and report.passed:
            _write_golden(stage / GOLDEN_NAME, loaded, conversion.plain, report, seed=seed)
        write_json(report, stage / REPORT_NAME)
        if html:
            write_html(report, stage / HTML_NAME)
    return report


def expected_seconds(*, measure: bool = False) -> dict[str, float]:
    """What each stage takes of the others, in their order, apart from the measurement at the end.

    Args:
        measure: as of `fold_export`.
    """
    expected = dict(EXPECTED_SECONDS)
    verify = expected.pop("verify")
    return {**expected, **({"measure": MEASURE_SECONDS} if measure else {}), "verify": verify}


def _verify(
    source: Source,
    conversion: Conversion,
    candidate: Path,
    *,
    batches: Sequence[int],
    provider: Literal["cpu", "cuda"],
    threads: int | None,
    seed: int,
    quick: bool,
    share: Callable[[float], None] | None,
) -> Verdict:
    from bnfold.verification import reference_for, verify_file

    verdict = verify_file(
        candidate,
        reference_for(source, conversion.plain),
        inputs=source.inputs,
        samples=source.samples,
        batches=tuple(batches),
        provider=provider,
        threads=threads,
        seed=seed,
        reproduction=candidate.parent / REPRODUCTION_NAME,
        certificate=conversion.ledger.certificate,
        extent="one" if quick else "few",
        share=share,
    )
    if verdict.departure is None or verdict.departure.reproduction is None:
        return verdict
    return replace(verdict, departure=replace(verdict.departure, reproduction=REPRODUCTION_NAME))


def _write_certificate(
    path: Path, conversion: Conversion, report: FoldExportReport, options: Mapping[str, int | None]
) -> None:
    from bnfold.verification.certificate import write_certificate

    if conversion.ledger.certificate is None or report.output is None:
        raise RuntimeError("a file that passed has a certificate and facts")
    write_certificate(
        path,
        conversion.ledger.certificate,
        conversion.folded,
        source_sha256=report.source.sha256,
        file_sha256=report.output.sha256,
        options=options,
    )


def _write_golden(folder: Path, source: Source, plain: onnx.ModelProto, report: FoldExportReport, *, seed: int) -> None:
    from bnfold.verification import reference_for
    from bnfold.verification.bundle import write_bundle

    reference = reference_for(source, plain)
    write_bundle(folder, reference, report, inputs=source.inputs, samples=source.samples, seed=seed)


def _refuse_to_overwrite_source(spec: str, folder: Path) -> None:
    source = Path(spec)
    if source.is_file() and any(source.resolve() == (folder / name).resolve() for name in _OUTPUT_NAMES):
        raise InputRefused("the output would overwrite the source", where=spec, remedy="choose another folder with -o")


def _log_stage(stage: str) -> None:
    logger.info("%s", stage)
