"""`bnfold verify`: whether an `.onnx` file computes what a source computes."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.runtime.sessions import require_onnx_file
from bnfold.verification.execution.deployment import Deployment
from bnfold.workflows.arguments import batch_sizes, check_threads, require_provider
from bnfold.workflows.networks import file_of, loaded_network, undisturbed
from bnfold.workflows.session_files import offline_file, session_axes
from bnfold.workflows.user_code import runs_user_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records import Verdict
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider
    from bnfold.sources.interface import DynamicShapes
    from bnfold.sources.types import Source
    from bnfold.verification.certificate import Written
    from bnfold.workflows.session_files import Session

__all__ = ["verify", "verify_bundle"]


@runs_user_code()
def verify(
    reference: Any,
    candidate: Any,
    example: Any = None,
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
    batch: int | Sequence[int] | None = None,
    batches: int | Sequence[int] = (),
    inputs: Path | None = None,
    provider: Provider = "cpu",
    threads: int | None = None,
    seed: int = 0,
    reproduction: Path | None = None,
    certificate: Path | None = None,
    session: Session | None = None,
) -> Verdict:
    """Compare a file with its source, against float64 and in ratio to the source's own error.

    Args:
        reference: the source: a `torch.nn.Module`, a `torch.export.ExportedProgram`, an `onnx.ModelProto`, an
            `onnx_ir.Model`, or a SOURCE, see docs/sources.md.
        candidate: the `.onnx` file to judge, or an `onnx.ModelProto` or `onnx_ir.Model`.
        example: what a module is called with, see `bnfold.fold_export`.
        weights: parameters for a source that has none of its own (`.safetensors`, `.pt`).
        pretrained: take the pretrained parameters of timm or torchvision, which may download them.
        input_shapes: one shape per input, batch first, where the source does not tell them.
        input_dtypes: NumPy's name of each input's type, or one for all, where Python code does not tell them.
        dims: sizes of an `.onnx` file's dynamic axes, by their name in the file (`INPUT[AXIS]` where it has none).
        batch_dim: the name of the axis that counts the samples; None for one called batch, else axis 0.
        dynamic_shapes: see `bnfold.fold_export`, as
        input_names: the names that the file has, and
        output_names: those of its outputs.
        batch: batch sizes to compare at besides 1, 2 and 3, or one of them.
        batches: the same by another name.
        inputs: an `.npz` file of arrays by input name, or a folder of images, to compare on; see
            `bnfold.sources.user_inputs`. None takes the source's own samples, or random inputs.
        provider: the ONNX Runtime provider that the file runs on.
        threads: threads of ONNX Runtime; None takes all that this process may use.
        seed: seed of the random inputs.
        reproduction: the folder to write the first diverging layer to, where the file is not equal; None for none.
        certificate: the `certificate.json` of this file and this source, by which it is proven without folding.
        session: a session.json of `bnfold.tune`, or settings: the file runs as it will be deployed, instead of with
            provider and threads.

    Raises:
        InputRefused: the source, the file, the certificate or the session cannot be used.
        EnvironmentNotReady: ONNX Runtime, the provider or another package is missing.
    """
    batches = batch_sizes(batch, batches)
    check_threads(threads)
    with undisturbed(reference), file_of(candidate) as given, TemporaryDirectory(prefix="bnfold-") as folder:
        file = _existing(given)
        own, settings = session_axes(session, [file], provider=provider, threads=threads)
        provider, threads = own["provider"], own["threads"]
        require_provider(provider)
        source = loaded_network(
            reference, example, weights=weights, pretrained=pretrained, input_shapes=input_shapes,
            input_dtypes=input_dtypes, dims=dims, batch_dim=batch_dim, dynamic_shapes=dynamic_shapes,
            input_names=input_names, output_names=output_names,
        )  # fmt: skip
        statements = None if certificate is None else _statements(Path(certificate), source, file)
        return _judged(
            source, file, statements, inputs=inputs, batches=batches, provider=provider, threads=threads, seed=seed,
            reproduction=reproduction,
            deployment=_deployment(file, settings, Path(folder)),
        )  # fmt: skip


def _judged(source: Source, file: Path, statements: Written | None, *, inputs: Path | None, **options: Any) -> Verdict:
    from bnfold.export import plain_graph
    from bnfold.sources.user_inputs import with_inputs
    from bnfold.verification import reference_for, verify_file
    from bnfold.verification.execution.settled_sizes import settled

    source = settled(with_inputs(source, inputs))
    return verify_file(
        file,
        reference_for(source, plain_graph(source, **({} if statements is None else statements.options))),
        inputs=source.inputs,
        samples=source.samples,
        certificate=None if statements is None else statements.certificate,
        **options,
    )


def _statements(path: Path, source: Source, file: Path) -> Written:
    """The certificate of this file, made from this source."""
    from bnfold.sources.digests import file_sha256
    from bnfold.verification.certificate import read_certificate

    written = read_certificate(path)
    for what, expected, found in (
        ("source", written.source_sha256, source.facts.sha256),
        ("file", written.file_sha256, file_sha256(file)),
    ):
        if expected != found:
            raise InputRefused(
                f"the certificate is that of another {what}", where=str(path), found=f"SHA-256 {found}",
                expected=f"SHA-256 {expected}", remedy="give the certificate that was written with the file",
            )  # fmt: skip
    return written


def verify_bundle(
    bundle: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    seed: int = 0,
    session: Session | None = None,
) -> Verdict:
    """Compare a file with golden values, where neither its source nor PyTorch is.

    Args:
        bundle: the folder `golden` of `fold_export(..., golden=True)`, or a bundle of `bnfold.bundle`, every file of
            which must be as it was written.
        candidate: the `.onnx` file to judge.
        provider: the ONNX Runtime provider that the file runs on.
        threads: threads of ONNX Runtime; None takes all that this process may use.
        seed: of the roundings by which parameters are judged.
        session: a session.json of `bnfold.tune`, or settings, in place of provider and threads.

    Raises:
        InputRefused: the bundle is damaged, or the file cannot be used.
        EnvironmentNotReady: ONNX Runtime or the provider is missing.
    """
    from bnfold.bundles.manifest import golden_folder
    from bnfold.verification.golden import bundle_verdict as golden

    check_threads(threads)
    file = _existing(candidate)
    own, settings = session_axes(session, [file], provider=provider, threads=threads)
    require_provider(own["provider"])
    with TemporaryDirectory(prefix="bnfold-") as folder:
        deployment = _deployment(file, settings, Path(folder))
        return golden.verify_bundle(file, golden_folder(Path(bundle)), **own, seed=seed, deployment=deployment)


def _deployment(file: Path, settings: SessionSettings | None, folder: Path) -> Deployment | None:
    """The session of a session file, None without a file."""
    return None if settings is None else Deployment(settings, offline_file(file, settings, folder))


def _existing(candidate: str | os.PathLike[str]) -> Path:
    file = Path(candidate)
    if file.is_dir():
        require_onnx_file(file)
    if file.suffix != ".onnx":
        raise InputRefused(
            "the candidate is not an .onnx file", where=str(file), remedy="give the source first, then the .onnx file"
        )
    require_onnx_file(file)
    return file
