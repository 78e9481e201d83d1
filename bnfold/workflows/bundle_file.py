"""`bnfold bundle`: what is needed to serve a file on a target, with golden values and a check that runs there."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.workflows.arguments import MAX_BATCH, check_provider, check_threads
from bnfold.workflows.staging import staged_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from bnfold.bundles.choices import Choice
    from bnfold.bundles.content import Content
    from bnfold.bundles.judged_file import JudgedFile
    from bnfold.bundles.targets import Target
    from bnfold.records.bundle import BundleReport
    from bnfold.runtime import Provider

__all__ = ["bundle"]


def bundle(
    file: str | os.PathLike[str],
    target: str,
    output: str | os.PathLike[str],
    *,
    name: str | None = None,
    golden: str | os.PathLike[str] | None = None,
    inputs: Path | None = None,
    session: str | os.PathLike[str] | None = None,
    bench: str | os.PathLike[str] | None = None,
    provider: Provider | None = None,
    max_batch: int | None = None,
    instances: int = 1,
    input_shapes: Sequence[tuple[int, ...]] | None = None,
    dims: Mapping[str, int] | None = None,
    batch_dim: str | None = None,
    web_runtime: str | os.PathLike[str] | None = None,
    download: bool = False,
    threads: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> BundleReport:
    """Write what is needed to serve an `.onnx` file.

    The golden values are those of `fold-export --golden`, where they lie beside the file and are of it: inputs, and
    what the network makes of them. Else they are made of the file itself, and tell whether it is executed elsewhere as
    it is here. The file is judged by them before anything is written. The same arguments give the same bytes.

    Args:
        file: the `.onnx` file.
        target: "onnxruntime", "triton" or "web".
        output: the folder to write to.
        name: of the model on the target; None takes that of the file.
        golden: the folder of golden values; None looks for `golden` beside the file.
        inputs: samples to make golden values of: an `.npz` file of arrays by input name, or a folder of images.
        session: the session.json of `bnfold tune`; None leaves the options at ONNX Runtime's own.
        bench: a report of `bnfold bench` with several batches, by which batching is chosen.
        provider: that the file is served on; None takes the session's, or the CPU.
        max_batch: the largest batch that is served; None takes the largest one of `bench`, or 8.
        instances: sessions side by side.
        input_shapes: one shape per input, batch first, where the file does not tell them.
        dims: sizes of the file's dynamic axes, by their name in the file.
        batch_dim: the name of the axis that counts the samples; None for one called batch, else axis 0.
        web_runtime: the folder of the npm package onnxruntime-web, for the target "web".
        download: fetch that package, where no folder is given.
        threads: of ONNX Runtime while the file is judged here.
        seed: of random inputs.
        force: replace an existing output.

    Raises:
        InputRefused: the target is none, the file or another argument cannot be used.
        GateFailed: the file does not pass by the golden values; nothing is written.
        EnvironmentNotReady: ONNX Runtime or another package is missing.
    """
    from bnfold.bundles.choices import Choice
    from bnfold.bundles.targets import known_target, written_names
    from bnfold.runtime.sessions import require_onnx_file

    wanted, path = known_target(target), Path(file)
    check_threads(threads)
    _check_count("max_batch", max_batch)
    _check_count("instances", instances)
    require_onnx_file(path)
    choice = Choice(
        name=_checked_name(name or path.stem), golden=golden, session=session, bench=bench, provider=provider,
        max_batch=max_batch, instances=instances,
    )  # fmt: skip
    with (
        staged_folder(Path(output), written_names(), force=force) as stage,
        tempfile.TemporaryDirectory(prefix="bnfold-") as place,
    ):
        runtime = _web_runtime(wanted, web_runtime, Path(place) / "web", download=download)
        content, judged, notes = _judged_content(
            path, Path(place) / "golden", choice, inputs=inputs, threads=threads, seed=seed,
            options={"input_shapes": input_shapes, "dims": dims, "batch_dim": batch_dim},
        )  # fmt: skip
        return _written(
            stage, wanted, dataclasses.replace(content, web_runtime=runtime), judged, session=session, notes=notes
        )


def _judged_content(
    path: Path, folder: Path, choice: Choice, *, inputs: Path | None, options: Mapping[str, Any],
    threads: int | None, seed: int,
) -> tuple[Content, JudgedFile, tuple[str, ...]]:  # fmt: skip
    """The file, judged, and how it shall be served; and what must be known of that."""
    from bnfold.bundles.batch_curve import read_curve
    from bnfold.bundles.choices import chosen_session, exact_session, largest_batch, served_batch
    from bnfold.bundles.content import Content
    from bnfold.bundles.judged_file import judged_file, opened_file
    from bnfold.runtime import provider_spec
    from bnfold.workflows.session_files import session_settings

    opened = opened_file(path, batch_dim=options["batch_dim"])
    settings = None if choice.session is None else session_settings(choice.session, [path])
    session, notes = chosen_session(choice, settings)
    provider = choice.provider or ("cpu" if session is None else session.provider)
    check_provider(provider)
    ort_name = provider_spec(provider).ort_name
    curve = None
    if choice.bench is not None:
        axes = {spec.name: spec.batch_axis for spec in opened.source.inputs}
        curve = read_curve(Path(choice.bench), sha256=opened.model.sha256, provider=ort_name, batch_axes=axes)
    max_batch = largest_batch(opened, choice.max_batch, None if curve is None else curve.largest)
    judged = judged_file(
        opened, folder, golden=None if choice.golden is None else Path(choice.golden), inputs=inputs,
        batches=() if max_batch is None else (max_batch,), options=options, threads=threads, seed=seed,
    )  # fmt: skip
    max_batch = served_batch(opened, choice.max_batch, max_batch, judged.golden.batches)
    content = Content(
        name=choice.name, files=judged.files, model=judged.model, inputs=judged.inputs, outputs=judged.outputs,
        golden=folder, facts=judged.facts, provider=provider, max_batch=max_batch,
        session=session or exact_session(provider), curve=curve, instances=choice.instances,
    )  # fmt: skip
    return content, judged, notes


def _written(
    stage: Path, target: Target, content: Content, judged: JudgedFile, *, session: Any, notes: tuple[str, ...]
) -> BundleReport:
    """Write the files of the target, and last the manifest with their digests."""
    from bnfold.bundles.manifest import MANIFEST, listed
    from bnfold.bundles.targets import SESSION
    from bnfold.records.bundle import BundleReport
    from bnfold.report import write_json
    from bnfold.runtime import provider_spec

    made = target.write(stage, content)
    if session is not None:
        shutil.copyfile(session, stage / SESSION)
    report = BundleReport(
        target=target.name,
        name=content.name,
        model=dataclasses.replace(content.model, path=made.model),
        inputs=content.inputs,
        outputs=content.outputs,
        golden=dataclasses.replace(judged.golden, path=made.golden),
        provider=provider_spec(content.provider).ort_name,
        max_batch=content.max_batch,
        session=None if content.session is None else content.session.as_options(),
        settings=made.settings,
        facts=content.facts,
        notes=(*notes, *made.notes),
        files=listed(stage),
    )
    write_json(report, stage / MANIFEST)
    return report


def _web_runtime(target: Target, folder: Any, place: Path, *, download: bool) -> Path | None:
    """The folder of onnxruntime-web, for a target that needs it.

    Raises:
        InputRefused: one is given, or asked for, and the target needs none.
    """
    if target.has_web_runtime:
        from bnfold.bundles.web_runtime import web_runtime_folder

        return web_runtime_folder(None if folder is None else Path(folder), place, download=download)
    if folder is not None or download:
        raise InputRefused(
            "only the target web needs onnxruntime-web", found=target.name,
            remedy="leave --web-runtime and --download out",
        )  # fmt: skip
    return None


def _checked_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise InputRefused(
            "the name of the model must be letters, digits, '_', '-' and '.'", found=repr(name),
            remedy="give another with --name",
        )  # fmt: skip
    return name


def _check_count(what: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_BATCH):
        raise InputRefused(
            f"{what} must be a whole number from 1 to {MAX_BATCH}", found=repr(value), remedy="give another"
        )
