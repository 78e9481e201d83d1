"""`bnfold fold-export`: a source becomes `model.onnx` without its BatchNorms, proven equal, and `report.json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bnfold.workflows.accounts import drawn
from bnfold.workflows.arguments import batch_sizes, check_threads, check_time_gate, require_provider
from bnfold.workflows.files import output_facts, plain_file
from bnfold.workflows.fold_folder import Wanted, check_folder, place, write_files
from bnfold.workflows.networks import example_and_output, loaded_network, undisturbed
from bnfold.workflows.proven_file import REPRODUCTION_NAME, made_file, proven_file
from bnfold.workflows.result import MODEL_NAME, FoldExportResult
from bnfold.workflows.stages import BUDGET_S, STAGES
from bnfold.workflows.stopwatch import Progress, Stopwatch
from bnfold.workflows.timing import time_against
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from bnfold.runtime import Provider
    from bnfold.sources.interface import DynamicShapes

__all__ = ["fold_export"]


@runs_user_code()
def fold_export(
    network: Any,
    example: Any = None,
    output: str | os.PathLike[str] | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    input_dtypes: Sequence[str] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_dim: str | None = None,
    dynamic_shapes: DynamicShapes | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset: int | None = None,
    static_batch: int | None = None,
    batch: int | Sequence[int] | None = None,
    batches: int | Sequence[int] = (),
    inputs: Any = None,
    classes: str | os.PathLike[str] | None = None,
    normalize: str | None = None,
    input_format: str | None = None,
    provider: Provider = "cpu",
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
) -> FoldExportResult:
    """Fold the BatchNorms of a network into its weights, export it to ONNX, and prove the file equal.

    `output` holds `model.onnx` and `report.json` afterwards. When the file is not equal, the report says so
    (`report.passed`), and there is no `model.onnx`. An equal file is measured beside the plain export, or beside the
    source where that is an `.onnx` file; the bytes of the file do not depend on it. Without `output` nothing is
    written: the result has the model, and can be saved.

    Args:
        network: a `torch.nn.Module`, which stays as it is; a `torch.export.ExportedProgram`; an `onnx.ModelProto` or an
            `onnx_ir.Model`; or a SOURCE, see docs/sources.md: a run folder, a file, or a name such as `timm:resnet18`.
        example: what a module is called with: a tensor, a tuple of the arguments of `forward`, a dict of keyword
            arguments, or shapes, batch first. A text or path here is the output folder.
        output: the folder to write to; made where missing. None writes nothing.
        weights: parameters for a source that has none of its own (`.safetensors`, `.pt`).
        pretrained: take the pretrained parameters of timm or torchvision, which may download them.
        input_shapes: one shape per input, batch first, where the source does not tell them.
        input_dtypes: NumPy's name of each input's type, or one for all, where Python code does not tell them.
        dims: sizes of an `.onnx` file's dynamic axes, by their name in the file (`INPUT[AXIS]` where it has none).
        batch_dim: the name of the axis that counts the samples; None for one called batch, else axis 0.
        dynamic_shapes: axes of a PyTorch network that shall be dynamic besides the batch, and their names, by input
            and axis: `{"x": {0: "batch", 2: "height", 3: "width"}}`, or as `torch.export` takes them.
        input_names: names for the inputs of the file, in their order; None takes those of `forward`.
        output_names: names for its outputs, in their order.
        opset: the ONNX opset of the file; None takes the exporter's own.
        static_batch: fix the batch dimension to this size; None keeps it dynamic.
        batch: batch sizes at which the file is compared besides 1, 2 and 3, or one of them.
        batches: the same by another name.
        inputs: what the file is compared on: arrays by input name, samples first, an `.npz` file of such, or a folder
            of images; see `bnfold.sources.user_inputs`. None takes the source's own samples, or random inputs.
        classes: for the file's metadata: a file with the class names in the order of the output, or "imagenet"; None
            takes what the source says, see `bnfold.sources.file_facts`.
        normalize: how images become the input, see `bnfold.sources.preprocessing`, likewise.
        input_format: pixels that the file takes in the place of the network's input, and how they become it, as
            "uint8,nhwc,bgr,imagenet"; see `bnfold.sources.input_format`. Where the first convolutions can, they take
            the preprocessing into their weights (`ledger.preprocessing`).
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
        html: write `report.html` too, the report as a page; the measurement then tells the time of each layer, which
            takes two seconds more.
        progress: called with the name of each of `STAGES` when it begins (no "bench" without a budget); None shows a
            bar in a notebook, and logs it elsewhere.
        share: told how much of "verify" is done, from 0 to 1.

    Raises:
        InputRefused: the source or the output cannot be used, or a limit of time was given and cannot be measured.
        EnvironmentNotReady: ONNX Runtime, the provider or another package is missing.
    """
    from bnfold.report import notebook_stages
    from bnfold.sources import facts_of, stated
    from bnfold.sources.in_memory import named
    from bnfold.sources.input_format import with_pixels
    from bnfold.sources.user_inputs import with_inputs
    from bnfold.verification.execution.settled_sizes import settled

    example, folder = example_and_output(example, output)
    spec = named(network)
    batches = batch_sizes(batch, batches)
    batch_sizes(static_batch)
    check_threads(threads)
    check_time_gate(budget_s, fail_if_slower)
    wanted = Wanted(golden=golden, certificate=certificate, html=html, keep_failed=keep_failed, keep_plain=keep_plain)
    check_folder(folder, spec, wanted)
    require_provider(provider)
    with (
        notebook_stages(f"fold-export {spec}", progress, STAGES) as told,
        undisturbed(network),
        place(folder, force=force) as stage,
    ):
        watch = Stopwatch(told)
        output_folder = folder or stage
        with watch.stage("load"):
            loaded = loaded_network(
                network, example, weights=weights, pretrained=pretrained, input_shapes=input_shapes,
                input_dtypes=input_dtypes, dims=dims, batch_dim=batch_dim, dynamic_shapes=dynamic_shapes,
                input_names=input_names, output_names=output_names,
            )  # fmt: skip
            stated_facts = stated(facts_of(loaded), classes=classes, normalize=normalize)
            if input_format is not None:
                loaded, stated_facts = with_pixels(loaded, stated_facts, input_format)
            loaded = settled(with_inputs(loaded, inputs), batch=static_batch)
        made = proven_file(
            partial(
                made_file, loaded, stated_facts, watch, stage / MODEL_NAME, place=output_folder, opset=opset,
                static_batch=static_batch, measure=measure, input_shapes=input_shapes, drop=drop_unused_inputs,
                golden=golden, batches=batches, provider=provider, threads=threads, seed=seed, quick=quick, share=share,
                reproduction=None if folder is None else stage / REPRODUCTION_NAME,
            )
        )  # fmt: skip
        conversion, facts, files, verdict = made.conversion, made.facts, made.files, made.verdict
        timing = None
        if verdict.passed and budget_s:
            with watch.stage("bench"):
                timing = time_against(
                    files[0], loaded, lambda: plain_file(loaded, conversion.plain), batch=static_batch,
                    provider=provider, threads=threads, seed=seed, budget_s=budget_s, fail_if_slower=fail_if_slower,
                    by_layer=html,
                )  # fmt: skip
        passed = verdict.passed and not (timing is not None and timing.failed)
        report = FoldExportResult(
            passed=passed,
            source=loaded.facts,
            output=output_facts(files, conversion.folded) if passed else None,
            ledger=conversion.ledger,
            graph=conversion.graph,
            verify=verdict,
            seconds=watch.seconds,
            facts=facts,
            timing=timing,
            network=drawn(conversion.plain, conversion.folded),
            model=conversion.folded if passed else None,
        )
        write_files(
            stage, output_folder, report, wanted, source=loaded, conversion=conversion, facts=facts, files=files,
            options={"opset": opset, "static_batch": static_batch}, seed=seed,
        )  # fmt: skip
    return report
